"""Every setting of ULMFiT: dataclasses whose fields are the flags of `python -m jaxft.ulmfit`, and the range of each.

`jaxft.ulmfit.presets` fills them; the stages in `jaxft.ulmfit.stages` read them.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from jaxft.errors import InputError
from jaxft.models.options import Dropouts, Precision

Directions = Literal["forward", "backward", "both"]
PlanName = Literal["gradual", "fastai", "chain-thaw", "last", "full"]
ScheduleName = Literal["slanted_triangular", "one_cycle", "linear", "cosine", "constant"]


@dataclass(frozen=True)
class Text:
    """From texts to ids."""

    max_vocab: int = 60_000
    """words of the vocabulary at most"""
    min_count: int = 3
    """occurrences that a word needs to enter the vocabulary"""


@dataclass(frozen=True)
class Model:
    """Sizes of AWD-LSTM."""

    embedding_size: int = 400
    """features of a word, and of the last layer"""
    hidden_size: int = 1152
    """units of the other layers"""
    num_layers: int = 3
    """LSTM layers"""


@dataclass(frozen=True)
class LanguageModelStage:
    """Language-model training on train and unlabelled texts."""

    epochs: int = 10
    """passes over the texts; 0 leaves the stage out, so that the classifier starts from random weights"""
    batch_size: int = 64
    """parallel rows of text"""
    bptt: int = 72
    """tokens per window of backpropagation through time"""
    vary_bptt: bool = False
    """draw the length of each window around --lm.bptt, in 20 windows of which one is half as long, and scale its rate
    with its length (Merity et al. 2018, section 4.1)"""
    peak_rate: float = 4e-3
    """learning rate of the top group at the peak of the schedule"""
    divisor: float = 2.6
    """each group's rate is that of the group above it divided by this; 1 gives all the same"""
    schedule: ScheduleName = "slanted_triangular"
    """shape of the learning rate over the stage"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """rule that makes an update of a gradient"""
    b1: float = 0.7
    """Adam's decay of the first moment"""
    b2: float = 0.99
    """Adam's decay of the second moment"""
    weight_decay: float = 0.0
    """decoupled weight decay per unit of learning rate"""
    clip_norm: float = 0.25
    """largest norm of the whole gradient"""
    dropout: Dropouts = field(default_factory=Dropouts)
    """AWD-LSTM's five dropouts"""
    drop_mult: float = 1.0
    """factor on all five dropouts"""
    activation_penalty: float = 2.0
    """AR: factor on the mean square of the outputs"""
    temporal_penalty: float = 1.0
    """TAR: factor on the mean square of the change of outputs from step to step"""
    average: Literal["none", "ema", "swa", "nt-asgd"] = "none"
    """average of the weights that is evaluated and handed on"""
    ema_decay: float = 0.999
    """decay per step of the EMA"""
    swa_start: float = 0.75
    """share of the steps after which SWA begins"""
    patience: int = 5
    """evaluations without a better loss that start NT-ASGD's average"""
    valid_fraction: float = 0.05
    """share of the texts held out to measure perplexity, at most 1,000 texts"""


@dataclass(frozen=True)
class ClassifierStage:
    """Classifier training on labelled texts with gradual unfreezing."""

    plan: PlanName = "gradual"
    """order of unfreezing: gradual (one more group each phase), fastai (last, last two, all), chain-thaw, last, full"""
    phase_epochs: int = 1
    """epochs of each phase before the last"""
    epochs: int = 2
    """epochs of the last phase"""
    phase_steps: int = 0
    """steps of each phase at least; few labels get more epochs for it"""
    batch_size: int = 32
    """documents per step"""
    eval_batch_size: int = 64
    """documents per step of evaluation and prediction"""
    max_length: int = 1440
    """words at a document's end that pooling and gradient see; the state reads all of it"""
    peak_rate: float = 1e-2
    """learning rate of the top group at the peak of each phase's schedule"""
    rate_decay: float = 1.0
    """each phase's peak rate is that of the phase before times this"""
    divisor: float = 2.6
    """each group's rate is that of the group above it divided by this"""
    schedule: ScheduleName = "slanted_triangular"
    """shape of the learning rate over each phase"""
    b1: float = 0.7
    """Adam's decay of the first moment"""
    b2: float = 0.99
    """Adam's decay of the second moment"""
    weight_decay: float = 0.0
    """decoupled weight decay per unit of learning rate"""
    clip_norm: float = 25.0
    """largest norm of the whole trainable gradient"""
    dropout: Dropouts = field(default_factory=lambda: Dropouts(0.4, 0.3, 0.4, 0.5, 0.05))
    """the encoder's five dropouts"""
    drop_mult: float = 1.0
    """factor on all five dropouts"""
    head_hidden: int = 50
    """units of the head's hidden layer"""
    head_dropout: float = 0.1
    """dropout before the last linear layer; the pooled features get the encoder's output dropout"""
    dev_fraction: float = 0.1
    """share of the labelled texts held out to choose an epoch: the last one that is as good as the best"""


@dataclass(frozen=True)
class Settings:
    """Trains ULMFiT from raw texts to a classifier."""

    data: str = "imdb"
    """imdb (cached or downloaded), demo (generated), or the path of an aclImdb folder or its tar, or of a CSV, TSV or
    JSONL file with the columns text, label and split"""
    text_column: str = "text"
    """column of the texts, in a CSV, TSV or JSONL file"""
    label_column: str = "label"
    """column of the labels, in such a file"""
    split_column: str = "split"
    """column that says train, test or unlabelled, in such a file"""
    preset: Literal["auto", "small", "fastai", "paper", "demo"] = "auto"
    """settings to start from; auto takes demo for the demo corpus and small for everything else"""
    out: Path = Path("runs/ulmfit")
    """folder of the run; has to be new or empty"""
    resume: bool = False
    """continue the run in --out where it stopped"""
    precision: Precision = "f32"
    """operands of matrix products: f32, or bf16 (sums and weights stay f32), faster on hardware made for it"""
    seed: int = 0
    """seed of splits, weights, order and dropout"""
    limit_labels: int | None = None
    """labelled texts to use, equally many of each class; the other texts of train count as unlabelled"""
    limit_unlabelled: int | None = None
    """unlabelled texts to use"""
    transductive: bool = False
    """let the language model read the test texts, without their labels"""
    direction: Directions = "forward"
    """in which the models read a text; both trains two and averages their class probabilities"""
    pretrained: str | None = None
    """language model to fine-tune: fastai (its weights from WikiText-103, downloaded), a run of jaxft.pretrain or
    jaxft.ulmfit, or a .pth file of fastai, its tar or its folder; sizes come with it"""
    language_model: Path | None = None
    """folder of a run on the same texts whose trained language model is taken as it is, instead of training one"""
    log_every: int = 20
    """steps between two lines of metrics.jsonl"""
    checkpoint_minutes: float = 2.0
    """minutes between two checkpoints"""
    dry_run: bool = False
    """print the settings, the plan and an estimate of the time, and train nothing"""
    text: Text = field(default_factory=Text)
    model: Model = field(default_factory=Model)
    lm: LanguageModelStage = field(default_factory=LanguageModelStage)
    classifier: ClassifierStage = field(default_factory=ClassifierStage)


Range = tuple[Callable[[Any], bool], str]
COUNT: Range = (lambda x: x >= 1, "at least 1")
AT_LEAST_0: Range = (lambda x: 0 <= x < float("inf"), "at least 0")
POSITIVE: Range = (lambda x: 0 < x < float("inf"), "above 0")
BELOW_1: Range = (lambda x: 0 <= x < 1, "from 0 to below 1")
SEED: Range = (lambda x: 0 <= x < 2**32, "from 0 to 4,294,967,295")
SHARE: Range = (lambda x: 0 < x < 1, "between 0 and 1")

_OPTIMIZER: dict[str, Range] = {
    "peak_rate": POSITIVE,
    "divisor": POSITIVE,
    "b1": BELOW_1,
    "b2": BELOW_1,
    "weight_decay": AT_LEAST_0,
    "clip_norm": POSITIVE,
    "batch_size": COUNT,
    "drop_mult": AT_LEAST_0,
}
RANGES: dict[str, Range] = {
    "seed": SEED,
    "limit_unlabelled": AT_LEAST_0,
    "log_every": COUNT,
    "checkpoint_minutes": AT_LEAST_0,
    "text.min_count": COUNT,
    "text.max_vocab": (lambda x: x >= 10, "at least 10"),
    **{f"model.{name}": COUNT for name in ("embedding_size", "hidden_size", "num_layers")},
    **{f"lm.{name}": limits for name, limits in _OPTIMIZER.items()},
    "lm.epochs": AT_LEAST_0,
    "lm.bptt": COUNT,
    "lm.activation_penalty": AT_LEAST_0,
    "lm.temporal_penalty": AT_LEAST_0,
    "lm.ema_decay": BELOW_1,
    "lm.swa_start": BELOW_1,
    "lm.patience": COUNT,
    "lm.valid_fraction": SHARE,
    **{f"classifier.{name}": limits for name, limits in _OPTIMIZER.items()},
    **{f"classifier.{name}": COUNT for name in ("phase_epochs", "epochs", "eval_batch_size", "max_length")},
    "classifier.phase_steps": AT_LEAST_0,
    "classifier.rate_decay": POSITIVE,
    "classifier.head_hidden": COUNT,
    "classifier.head_dropout": BELOW_1,
    "classifier.dev_fraction": SHARE,
}


def check(settings: Any, ranges: Mapping[str, Range] = RANGES) -> None:
    """Refuses values out of their range, in the settings of any job.

    Raises:
        InputError: naming the flag.

    Examples:
        >>> check(Settings(seed=-1))
        Traceback (most recent call last):
        jaxft.errors.InputError: --seed -1 is out of its range: give a number from 0 to 4,294,967,295
    """
    values = flatten(asdict(settings))
    for stage in (name for name in ("lm", "classifier") if f"{name}.drop_mult" in values):
        factor = values[f"{stage}.drop_mult"]
        dropouts = {name: p for name, p in values.items() if name.startswith(f"{stage}.dropout.")}
        for name, p in dropouts.items():
            if not BELOW_1[0](p) or not p * factor < 1:
                raise InputError(f"{flag(name)} {p} times {flag(stage)}.drop-mult {factor} is no probability below 1")
    for name, (holds, words) in ranges.items():
        if values.get(name) is not None and not holds(values[name]):
            raise InputError(f"{flag(name)} {values[name]} is out of its range: give a number {words}")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names.

    Examples:
        >>> flatten({"seed": 0, "lm": {"epochs": 3}})
        {'seed': 0, 'lm.epochs': 3}
    """
    flat = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def flag(name: str) -> str:
    """The command line's spelling of a dotted name.

    Examples:
        >>> flag("lm.peak_rate")
        '--lm.peak-rate'
    """
    return "--" + name.replace("_", "-")
