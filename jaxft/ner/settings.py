"""Every setting of sequence labelling: dataclasses whose fields are the flags of `python -m jaxft.ner`.

The presets fill them, and the stages in `jaxft.ner.stages` read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from jaxft.data.spans import Scheme
from jaxft.errors import InputError
from jaxft.models.options import Precision
from jaxft.ulmfit.presets import parse_with_preset
from jaxft.ulmfit.settings import AT_LEAST_0, BELOW_1, COUNT, POSITIVE, SEED, SHARE, Range, check

NO_ENCODER = "none"
Schedule = Literal["keras_bert", "plateau", "linear", "cosine", "constant", "slanted_triangular"]


@dataclass(frozen=True)
class Model:
    """Sizes of what stands on the vectors of tokens."""

    embedding_size: int = 128
    """features of a token, with --encoder none"""
    min_count: int = 2
    """occurrences that a token needs to get a vector of its own, with --encoder none"""
    bigrams: int = 0
    """vectors for pairs of neighbouring tokens, found by a hash, with --encoder none; 0 leaves them out"""
    lstm_size: int = 64
    """units of each direction of the BiLSTM; 0 leaves it out"""
    head: Literal["crf", "softmax"] = "crf"
    """a conditional random field over the tags, or each tag for itself"""
    dropout: float = 0.5
    """of the vectors of tokens and of the BiLSTM's outputs"""


@dataclass(frozen=True)
class Training:
    """How to train."""

    epochs: int = 10
    """passes over the training sentences"""
    batch_size: int = 32
    """sentences per step"""
    eval_batch_size: int = 128
    """sentences per step of evaluation and prediction"""
    peak_rate: float = 1e-4
    """learning rate at the peak of the schedule, and at the start of the plateau's"""
    head_rate: float | None = None
    """learning rate of what stands on the encoder; None takes --train.peak-rate"""
    warmup: float = 0.2
    """share of the steps in which the rate rises; plateau and constant have no such steps"""
    min_rate: float = 1e-7
    """learning rate that keras_bert's schedule ends at"""
    plateau_factor: float = 0.1
    """what the rate is multiplied with where the dev F1 stands still (--schedule plateau)"""
    plateau_patience: int = 2
    """epochs without a better dev F1 before that"""
    plateau_min_delta: float = 4e-4
    """least gain in F1 that counts as better"""
    plateau_min_rate: float = 1e-6
    """learning rate that the plateau goes down to"""
    weight_decay: float = 0.0
    """decoupled weight decay per unit of learning rate, of all but biases and norms"""
    clip_norm: float = 5.0
    """largest norm of the whole gradient"""
    fgm: float = 0.0
    """adversarial training: norm of the step by which the token embeddings are moved (FGM); 0 leaves it out"""
    ema_decay: float | None = None
    """decay per step of an exponential moving average of the weights, which is then what is evaluated and kept"""
    patience: int | None = None
    """epochs without a better dev F1 after which training stops; None never stops early"""


@dataclass(frozen=True)
class Settings:
    """Trains a BiLSTM-CRF tagger, with or without a pretrained encoder, on tagged sentences."""

    data: str = ""
    """the training file, or what the names of the files begin with: PREFIX.train, PREFIX.dev and PREFIX.test, or a
    folder that holds train, dev and test, each perhaps with .txt, .tsv, .conll, .json or .jsonl after its name; columns
    as in CoNLL, or CLUENER's JSON lines"""
    dev: Path | None = None
    """file of dev sentences; without one, and without PREFIX.dev, some of train are held out"""
    test: Path | None = None
    """file of test sentences"""
    tag_column: int = -1
    """column of the tags, counted from 0, or from the end if negative; the first has the tokens"""
    scheme: Scheme = "BIO"
    """tags that the model learns; whatever the files have is converted"""
    encoder: str = NO_ENCODER
    """folder of a Hugging Face checkpoint, or its name on the hub; none learns vectors of tokens from the data"""
    preset: Literal["auto", "plain", "encoder"] = "auto"
    """settings to start from; auto takes plain for --encoder none and encoder for all others: the article's,
    but for a head that learns faster"""
    schedule: Schedule = "keras_bert"
    """learning rate over the steps: keras_bert's warm-up and decay, or lowered where the dev F1 stands still"""
    repeats: int = 1
    """runs with other seeds, of which the best on dev is kept"""
    compare: bool = False
    """train with --schedule plateau, with keras_bert, and with keras_bert and FGM, and compare them in a table"""
    out: Path = Path("runs/ner")
    """folder of the run; has to be new or empty"""
    resume: bool = False
    """continue the run in --out where it stopped"""
    precision: Precision = "f32"
    """operands of products with weights: f32, or bf16 (sums and weights stay f32), faster on hardware made for it"""
    seed: int = 0
    """seed of splits, weights, order and dropout"""
    max_length: int = 128
    """word pieces of a sentence that are read at once; a longer one is read in windows that overlap"""
    dev_fraction: float = 0.1
    """share of the training sentences held out to choose an epoch, where there is no dev file"""
    log_every: int = 20
    """steps between two lines of metrics.jsonl"""
    checkpoint_minutes: float = 5.0
    """minutes between two checkpoints"""
    dry_run: bool = False
    """print the settings and the plan, and train nothing"""
    model: Model = field(default_factory=Model)
    train: Training = field(default_factory=Training)


PLAIN = Settings(
    preset="plain",
    model=Model(bigrams=65_536, lstm_size=256),
    train=Training(epochs=20, peak_rate=3e-3, min_rate=3e-6, plateau_min_rate=3e-5),
)
ENCODER = Settings(preset="encoder", model=Model(dropout=0.3), train=Training(head_rate=2e-3))
PRESETS = {"plain": PLAIN, "encoder": ENCODER}
FGM_EPSILON = 0.5

RANGES: dict[str, Range] = {
    "seed": SEED,
    "repeats": COUNT,
    "max_length": (lambda x: x >= 16, "at least 16"),
    "dev_fraction": SHARE,
    "log_every": COUNT,
    "checkpoint_minutes": AT_LEAST_0,
    **{f"model.{name}": COUNT for name in ("embedding_size", "min_count")},
    **{f"model.{name}": AT_LEAST_0 for name in ("bigrams", "lstm_size")},
    "model.dropout": BELOW_1,
    **{f"train.{name}": COUNT for name in ("epochs", "batch_size", "eval_batch_size", "plateau_patience", "patience")},
    **{f"train.{name}": POSITIVE for name in ("peak_rate", "head_rate", "clip_norm")},
    **{f"train.{name}": AT_LEAST_0 for name in ("min_rate", "plateau_min_rate", "plateau_min_delta", "fgm")},
    "train.weight_decay": AT_LEAST_0,
    **{f"train.{name}": BELOW_1 for name in ("warmup", "ema_decay")},
    "train.plateau_factor": SHARE,
}


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Reads the command line: the preset that it names, changed by its other flags.

    Raises:
        InputError: a value out of its range, or flags that contradict each other.
        SystemExit: with status 2, for a flag that does not exist or a value of another type.

    Examples:
        >>> settings = parse(["--data", "cluener", "--schedule", "plateau"])
        >>> settings.preset, settings.model.lstm_size, settings.train.peak_rate
        ('plain', 256, 0.003)
    """
    settings = parse_with_preset(Settings, "python -m jaxft.ner", arguments, _preset, Settings())
    check(settings, RANGES)
    train = settings.train
    if not settings.data:
        raise InputError("give --data FILE, or what the names of the files begin with")
    for flag, rate in (("min-rate", train.min_rate), ("plateau-min-rate", train.plateau_min_rate)):
        if rate > train.peak_rate:
            raise InputError(f"--train.{flag} {rate} is above --train.peak-rate {train.peak_rate}: give less")
    if settings.compare and settings.schedule != "keras_bert":
        raise InputError("--compare has schedules of its own, plateau and keras_bert: leave out --schedule")
    if settings.compare and train.fgm:
        raise InputError("--compare has a row with FGM of its own: leave out --train.fgm")
    return settings


def _preset(settings: Settings) -> Settings:
    name = settings.preset
    if name == "auto":
        name = "plain" if settings.encoder == NO_ENCODER else "encoder"
    return PRESETS[name]


def rows(settings: Settings) -> dict[str, Settings]:
    """What is trained, by the name of its row: the settings alone, or with `compare` one technique after another.

    Examples:
        >>> list(rows(Settings(compare=True)))
        ['plateau', 'keras_bert', 'keras_bert + FGM']
    """
    if not settings.compare:
        return {settings.schedule: settings}
    warm = replace(settings, schedule="keras_bert")
    return {
        "plateau": replace(settings, schedule="plateau"),
        "keras_bert": warm,
        "keras_bert + FGM": replace(warm, train=replace(settings.train, fgm=FGM_EPSILON)),
    }
