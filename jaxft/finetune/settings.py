"""Every setting of fine-tuning an encoder: dataclasses whose fields are the flags of `python -m jaxft.finetune`.

The presets fill them, and the stages in `jaxft.finetune.stages` read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jaxft.data.examples import Task
from jaxft.errors import InputError
from jaxft.models.options import Precision
from jaxft.ulmfit.presets import parse_with_preset
from jaxft.ulmfit.settings import AT_LEAST_0, BELOW_1, COUNT, POSITIVE, SEED, Range, check

Schedule = Literal[
    "linear",
    "slanted_triangular",
    "constant",
    "constant_with_warmup",
    "cosine",
    "one_cycle",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "polynomial",
    "bert",
    "keras_bert",
    "inverse_sqrt",
    "warmup_stable_decay",
]


@dataclass(frozen=True)
class Training:
    """How to train: each technique is one switch."""

    epochs: int = 3
    """passes over the training texts; with unfreezing in phases, of the last phase"""
    batch_size: int = 16
    """texts per step"""
    accumulation: int = 1
    """slices of a batch that are worked through in turn, to save memory; divides --train.batch-size"""
    eval_batch_size: int = 64
    """texts per step of evaluation and prediction"""
    peak_rate: float = 2e-5
    """learning rate of the top layer at the peak of the schedule"""
    head_rate: float | None = None
    """learning rate of pooler and head; None takes --train.peak-rate"""
    layer_rates: Literal["same", "decay", "grouped", "divisor"] = "same"
    """how rates fall from the top layer to the embeddings: by --train.decay per layer (LLRD), in three sets of layers
    of --train.peak-rate divided by 1, 2 and 3.5 (grouped LLRD), or by --train.divisor per layer (ULMFiT)"""
    decay: float = 0.9
    """factor from a layer's rate to that of the layer below"""
    divisor: float = 2.6
    """a layer's rate divided by that of the layer below"""
    schedule: Schedule = "linear"
    """shape of the learning rate over the steps"""
    warmup: float = 0.1
    """steps of warm-up, or below 1 their share of all steps"""
    optimizer: Literal["adamw", "bert_adamw", "adam_warmup"] = "adamw"
    """AdamW; the one that BERT was published with, without bias correction; or keras-bert's"""
    weight_decay: float = 0.01
    """decoupled weight decay per unit of learning rate, of all but biases and norms"""
    clip_norm: float = 1.0
    """largest norm of the whole trainable gradient"""
    dropout: float | None = None
    """in place of every dropout of the checkpoint"""
    label_smoothing: float = 0.0
    """share of a label's probability that all classes get"""
    unfreeze: Literal["all", "gradual", "head"] = "all"
    """what trains: all; the head, then one more layer every epoch, and at the end all; or the head alone"""
    reinit_layers: int = 0
    """layers, from the top, that are drawn anew, and the pooler with them"""
    swa_start: int | None = None
    """epochs of the last phase after which stochastic weight averaging begins, at constant rates"""
    swa_rate: float | None = None
    """learning rate of the top layer while averaging; None takes half of --train.peak-rate"""
    swa_one_rate: bool = False
    """give all groups --train.swa-rate while averaging, instead of keeping the ratios of their rates"""
    ema_decay: float | None = None
    """decay per step of an exponential moving average of the weights, which is then what is evaluated and kept"""
    evaluate_every: int | None = None
    """steps between two evaluations on the dev texts; None evaluates after every epoch"""
    keep: Literal["best", "last"] = "best"
    """weights that are kept: of the evaluation that scored best on the dev texts, or the last"""
    patience: int | None = None
    """evaluations without a better score after which training stops; None never stops early"""


@dataclass(frozen=True)
class Settings:
    """Fine-tunes a transformer encoder (BERT, RoBERTa, DistilBERT, ELECTRA) on labelled texts."""

    model: str = ""
    """folder of a Hugging Face checkpoint, or its name on the hub"""
    data: str = ""
    """CSV, TSV or JSONL file; for classification also imdb, demo, or an aclImdb folder or its tar"""
    task: Task = "classification"
    """what a label is: one of some classes, a number, or several labels with | between them"""
    text_column: str = "text"
    """column of the texts"""
    pair_column: str | None = None
    """column of the second texts, where they come in pairs"""
    label_column: str = "label"
    """column of the labels"""
    split_column: str = "split"
    """column that says train, dev or test; what is missing is carved from train"""
    preset: Literal["default", "commonlit"] = "default"
    """settings to start from; commonlit has the article's, for regression with RoBERTa"""
    out: Path = Path("runs/finetune")
    """folder of the run; has to be new or empty"""
    resume: bool = False
    """continue the run in --out where it stopped"""
    precision: Precision = "f32"
    """operands of products with weights: f32, or bf16 (sums and weights stay f32), faster on hardware made for it"""
    seed: int = 0
    """seed of splits, new weights, order and dropout"""
    max_length: int = 256
    """word pieces of a text at most; what is beyond is cut"""
    dev_fraction: float = 0.1
    """share of the training texts held out to choose an evaluation, where the data have no dev split"""
    test_fraction: float = 0.2
    """share of the training texts held out as test, where the data have no test split and --folds is 0"""
    folds: int = 0
    """folds of cross-validation, each scored by a model that was trained and chosen without it; 0 for none"""
    run_folds: int | None = None
    """folds to train, of all of them"""
    limit_labels: int | None = None
    """training texts to use, dev texts included, with the same share of each class"""
    ladder: bool = False
    """train once for each technique that is switched on, added to those before it, and compare them in a table"""
    ladder_rate: float | None = None
    """learning rate of all layers in the ladder's first row; None takes --train.peak-rate"""
    log_every: int = 20
    """steps between two lines of metrics.jsonl"""
    checkpoint_minutes: float = 5.0
    """minutes between two checkpoints"""
    dry_run: bool = False
    """print the settings and the plan, and train nothing"""
    train: Training = field(default_factory=Training)


COMMONLIT = Settings(
    preset="commonlit",
    task="regression",
    text_column="excerpt",
    label_column="target",
    folds=5,
    ladder_rate=1e-6,
    train=Training(
        epochs=5,
        layer_rates="decay",
        peak_rate=3.5e-6,
        head_rate=3.6e-6,
        decay=0.9,
        warmup=50,
        reinit_layers=5,
        swa_start=3,
        swa_rate=2e-6,
        swa_one_rate=True,
        evaluate_every=10,
    ),
)
PRESETS = {"default": Settings(), "commonlit": COMMONLIT}

RANGES: dict[str, Range] = {
    "seed": SEED,
    "max_length": (lambda x: x >= 8, "at least 8"),
    "dev_fraction": (lambda x: 0 < x < 1, "between 0 and 1"),
    "test_fraction": BELOW_1,
    "folds": (lambda x: x == 0 or x >= 2, "0, or at least 2"),
    "run_folds": COUNT,
    "limit_labels": (lambda x: x >= 4, "at least 4"),
    "ladder_rate": POSITIVE,
    "log_every": COUNT,
    "checkpoint_minutes": AT_LEAST_0,
    **{f"train.{name}": COUNT for name in ("epochs", "batch_size", "accumulation", "eval_batch_size", "swa_start")},
    **{f"train.{name}": COUNT for name in ("evaluate_every", "patience")},
    **{f"train.{name}": POSITIVE for name in ("peak_rate", "head_rate", "divisor", "clip_norm", "swa_rate")},
    **{f"train.{name}": AT_LEAST_0 for name in ("warmup", "weight_decay", "reinit_layers")},
    **{f"train.{name}": BELOW_1 for name in ("dropout", "label_smoothing", "ema_decay")},
    "train.decay": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
}


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Reads the command line: the preset that it names, changed by its other flags.

    Raises:
        InputError: a value out of its range, or flags that contradict each other.
        SystemExit: with status 2, for a flag that does not exist or a value of another type.

    Examples:
        >>> settings = parse(["--model", "roberta-base", "--data", "train.csv", "--preset", "commonlit"])
        >>> settings.task, settings.train.layer_rates
        ('regression', 'decay')
    """
    prog = "python -m jaxft.finetune"
    settings = parse_with_preset(Settings, prog, arguments, lambda s: PRESETS[s.preset], Settings())
    check(settings, RANGES)
    train = settings.train
    if not settings.model or not settings.data:
        raise InputError("give --model PATH_OR_NAME and --data FILE")
    if train.batch_size % train.accumulation:
        raise InputError(
            f"--train.accumulation {train.accumulation} does not divide --train.batch-size {train.batch_size}: "
            "give numbers that fit"
        )
    if train.swa_start is not None and train.swa_start >= train.epochs:
        raise InputError(
            f"--train.swa-start {train.swa_start} leaves none of {train.epochs} epochs to average: give less, or more "
            "--train.epochs"
        )
    if train.swa_start is not None and train.ema_decay is not None:
        raise InputError("--train.swa-start and --train.ema-decay are two averages: leave one of them out")
    if train.swa_start is not None and train.unfreeze == "head":
        raise InputError(
            "--train.swa-start averages a phase in which all layers train: leave out --train.unfreeze head"
        )
    if settings.run_folds is not None and settings.run_folds > settings.folds:
        raise InputError(f"--run-folds {settings.run_folds} are more than --folds {settings.folds}: give fewer")
    if settings.ladder and train.unfreeze != "all":
        raise InputError("--ladder compares runs that train all layers: leave out --train.unfreeze")
    if train.label_smoothing and settings.task != "classification":
        raise InputError("--train.label-smoothing is for --task classification: leave it out")
    return settings
