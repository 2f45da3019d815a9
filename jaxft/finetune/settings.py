"""Settings of `python -m jaxft.finetune`: the flags with their help, ranges, presets and command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jaxft.data.columns import TableSettings
from jaxft.data.document import Task
from jaxft.errors import InputError
from jaxft.training import command_line
from jaxft.training.settings import (
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    FRACTION,
    POSITIVE,
    ROWS,
    RUN_RANGES,
    UP_TO_1,
    Metric,
    Range,
    RunSettings,
    flag,
    ranges_of,
)

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
    """How to train."""

    epochs: int = 3
    """passes over the training texts; with --train.unfreeze gradual, epochs of the last phase"""
    min_steps: int = 100
    """fewest steps of training; with few texts the last phase gets more epochs to reach it, and 0 is no minimum; raise
    it for --train.head random"""
    batch_size: int = 16
    """texts per step"""
    accumulation: int = 1
    """number of microbatches of a batch, computed one after another to save memory; must divide --train.batch-size"""
    eval_batch_size: int = 64
    """texts per step of evaluation and prediction"""
    peak_rate: float = 5e-5
    """learning rate of the top layer at the peak of the schedule"""
    head_rate: float | None = None
    """learning rate of pooler and head; by default --train.peak-rate"""
    layer_rates: Literal["same", "decay", "grouped", "divisor"] = "same"
    """how rates fall from the top layer to the embeddings: not at all (same), by --train.decay per layer (decay), by 1,
    2 and 3.5 in three groups of layers (grouped), or by --train.divisor per layer (divisor, as in ULMFiT)"""
    decay: float = 0.9
    """a layer's rate is the rate of the layer above it times this, with --train.layer-rates decay"""
    divisor: float = 2.6
    """a layer's rate is the rate of the layer above it divided by this, with --train.layer-rates divisor"""
    schedule: Schedule = "linear"
    """shape of the learning rate over the steps"""
    warmup: float = 0.1
    """warm-up: a number of steps, or a share of all steps if below 1; slanted_triangular, one_cycle and constant ignore
    it"""
    optimizer: Literal["adamw", "bert_adamw", "adam_warmup"] = "adamw"
    """adamw; bert_adamw, Google BERT's without bias correction; or adam_warmup, keras-bert's"""
    weight_decay: float = 0.01
    """decoupled weight decay of all parameters but biases and norms: each step multiplies them by 1 - rate * this"""
    clip_norm: float = 1.0
    """largest norm of the trainable gradients; longer gradients are scaled down to it"""
    dropout: float | None = None
    """probability of every dropout; by default that of the checkpoint"""
    label_smoothing: float = 0.0
    """share of a label's probability that is spread evenly over all classes"""
    head: Literal["probe", "random"] = "probe"
    """what the output layer starts as: solved on the features of the frozen encoder (probe), or random, as with
    --train.reinit-layers"""
    unfreeze: Literal["all", "gradual", "head"] = "all"
    """what trains: all layers; the head, then one more layer each epoch (gradual); or the head alone"""
    reinit_layers: int = 0
    """number of top layers to re-initialise, with the pooler; 0 for none"""
    swa_start: int | None = None
    """epochs after which stochastic weight averaging begins, at constant rates; by default it does not"""
    swa_rate: float | None = None
    """learning rate of the top layer during averaging; by default half of --train.peak-rate"""
    swa_one_rate: bool = False
    """give all layers --train.swa-rate during averaging, instead of keeping the ratios between them"""
    ema_decay: float | None = None
    """decay per step of an exponential moving average of the weights, which is evaluated and kept; by default 0.98
    where the dev texts are too few to choose weights by, and else 0, which is no average"""
    evaluate_every: int | None = None
    """steps between two evaluations on the dev texts; by default they are evaluated after every epoch, or every 25
    steps where --train.min-steps asks for many short epochs"""
    keep: Literal["auto", "best", "last"] = "auto"
    """weights to keep: those of the evaluation with the best dev score, or the last ones; auto is best where there are
    at least 50 dev texts, and last below, where chance would choose"""
    patience: int | None = None
    """evaluations without a better dev score after which training stops; by default it never stops early"""


@dataclass(frozen=True, kw_only=True)
class Settings(RunSettings, TableSettings):
    """Trains BERT, RoBERTa, XLM-R, DistilBERT, ELECTRA, ALBERT, MPNet, DeBERTa-v3 or ModernBERT on labelled texts."""

    model: str = ""
    """folder of a Hugging Face checkpoint, or its name on the hub"""
    revision: str | None = None
    """branch, tag or commit of --model on the hub"""
    data: str = ""
    """a table (.csv, .tsv, .jsonl, .json, .parquet or .arrow), or a folder with train.csv and test.csv; for
    classification also imdb, demo, a folder of .txt files for each class, or an aclImdb folder or its tar"""
    task: Task = "classification"
    """what a label is: one of several classes, a number (regression), or a set of labels with | between them
    (multilabel). The threshold of a label is chosen on the dev texts if there are 50, of which 5 have it; else it is
    0.5"""
    pair_column: str | None = None
    """column of the second texts, for pairs of texts"""
    preset: Literal["default", "commonlit"] = "default"
    """settings to start from; commonlit is a recipe for readability scores: regression with RoBERTa, layer-wise decay
    and SWA"""
    out: Path = Path("runs/finetune")
    """folder of the run; must be new or empty, unless --resume is given"""
    pooling: Literal["auto", "cls", "mean", "max"] = "auto"
    """what the head reads: the first token (cls), or the mean or the maximum over the tokens of a text; auto is what
    the checkpoint was made for, and mean where it has no trained pooler"""
    max_length: int | None = None
    """largest number of word pieces that the encoder reads at once; by default 256, or what it can read if that is
    less"""
    long_texts: Literal["auto", "cut", "windows"] = "auto"
    """what becomes of a text with more than --max-length pieces: its end is cut off (cut), or it is read in windows
    that overlap by a quarter (windows); in training each window counts as a text, and the outputs for a text's windows
    are averaged; auto is windows, but cut for pairs of texts and with a tokenizer that cannot make windows"""
    dev_fraction: float | None = None
    """share of the training texts to hold out as dev, where the data have no dev split; by default 0.1, or none where
    that is fewer than 50 texts"""
    test_fraction: float = 0.2
    """share of the training texts to hold out as test, where the data have no test split and --folds is 0"""
    metric: Metric | None = None
    """score on the dev texts that chooses weights, unless --train.keep is last, and stops training with
    --train.patience; by default accuracy, or macro-f1 where the largest class has more than three times the texts of
    the smallest"""
    class_weights: str = "none"
    """weight of each class in the loss: none, balanced (inverse to the number of its texts, or of windows of long
    ones), or a JSON object of classes and weights such as {"spam": 3}"""
    baseline: bool = True
    """with --task classification, also score TF-IDF with logistic regression on the same texts, to compare with;
    --no-baseline leaves it out"""
    folds: int = 0
    """folds of cross-validation, each scored by a model that has not seen it; 0 for a single split"""
    run_folds: int | None = None
    """number of folds to train; by default all"""
    limit_labels: int | None = None
    """number of training texts to use, dev texts included, with the same share of each class"""
    ladder: bool = False
    """train once without extras, then add one chosen technique after another, and compare the scores in a table"""
    ladder_rate: float | None = None
    """learning rate of all layers in the first row of --ladder; by default --train.peak-rate"""
    remat: bool = False
    """recompute whole layers of the encoder in the backward pass, which needs less memory and a third more
    computation"""
    train: Training = field(default_factory=Training)


COMMONLIT = Settings(
    preset="commonlit",
    task="regression",
    text_column="excerpt",
    label_column="target",
    folds=5,
    ladder_rate=1e-6,
    dev_fraction=0.1,
    pooling="cls",
    long_texts="cut",
    train=Training(
        epochs=5,
        head="random",
        keep="best",
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
    **RUN_RANGES,
    "max_length": (lambda x: x >= 8, "at least 8"),
    "dev_fraction": FRACTION,
    "test_fraction": BELOW_1,
    "folds": (lambda x: x == 0 or x >= 2, "0, or at least 2"),
    "run_folds": AT_LEAST_1,
    "limit_labels": (lambda x: x >= 4, "at least 4"),
    "ladder_rate": POSITIVE,
    **ranges_of(
        "train",
        dict.fromkeys(("epochs", "accumulation", "swa_start", "evaluate_every", "patience"), AT_LEAST_1),
    ),
    **ranges_of("train", dict.fromkeys(("batch_size", "eval_batch_size"), ROWS)),
    **ranges_of("train", dict.fromkeys(("peak_rate", "head_rate", "clip_norm", "swa_rate"), POSITIVE)),
    **ranges_of("train", dict.fromkeys(("min_steps", "warmup", "weight_decay", "reinit_layers"), AT_LEAST_0)),
    **ranges_of("train", dict.fromkeys(("dropout", "label_smoothing", "ema_decay"), BELOW_1)),
    **ranges_of("train", {"decay": UP_TO_1, "divisor": AT_LEAST_1}),
}


def check(settings: Settings) -> None:
    """Refuses flags that contradict each other.

    Raises:
        InputError: naming the flags.
    """
    train = settings.train
    if not settings.model:
        raise InputError("--model is empty: give a folder with a checkpoint, or a name on the hub")
    if not settings.data:
        raise InputError("--data is empty: give a file")
    if train.batch_size % train.accumulation:
        raise InputError(
            f"--train.accumulation {train.accumulation} does not divide --train.batch-size {train.batch_size}: "
            "give a batch size that is a multiple of it"
        )
    if train.swa_start is not None and train.swa_start >= train.epochs:
        raise InputError(
            f"--train.swa-start {train.swa_start} is not below --train.epochs {train.epochs}, so no epoch is averaged: "
            "lower it or raise --train.epochs"
        )
    if train.swa_start is not None and train.ema_decay:
        raise InputError("--train.swa-start and --train.ema-decay are two averages: leave one of them out")
    if train.swa_start is not None and train.unfreeze == "head":
        raise InputError("--train.swa-start needs a phase that trains all layers: leave out --train.unfreeze head")
    if settings.run_folds is not None and settings.run_folds > settings.folds:
        raise InputError(f"--run-folds {settings.run_folds} is more than --folds {settings.folds}: give fewer")
    if settings.ladder and train.unfreeze != "all":
        raise InputError("--ladder compares runs that train all layers: leave out --train.unfreeze")
    if settings.long_texts == "windows" and settings.pair_column is not None:
        raise InputError("--long-texts windows is for single texts: leave out --pair-column, or give --long-texts cut")
    if settings.task != "classification":
        for name, is_given in (("metric", settings.metric), ("class_weights", settings.class_weights != "none")):
            if is_given:
                raise InputError(f"{flag(name)} is for --task classification: leave it out")
    if train.label_smoothing and settings.task != "classification":
        raise InputError("--train.label-smoothing is for --task classification: leave it out")


COMMAND = command_line.Command(
    job="finetune",
    presets=PRESETS,
    choose_preset=lambda settings: settings.preset,
    ranges=RANGES,
    check=check,
    examples=(
        "--model roberta-base --data reviews.csv --out runs/reviews",
        "--model roberta-base --data train.csv --preset commonlit --out runs/reading",
    ),
    required=("model", "data"),
    usual_flags={**command_line.usual_flags("train"), "warmup": "train.warmup"},
)


parse = COMMAND.parse
