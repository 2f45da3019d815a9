"""Settings of `python -m jaxft.ner`: the flags with their help, ranges, presets and command line."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from jaxft.data.spans import Scheme
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
    WIDTH,
    Range,
    RunSettings,
    ranges_of,
)

NO_ENCODER = "none"
Schedule = Literal["keras_bert", "plateau", "linear", "cosine", "constant", "slanted_triangular"]

LSTM_SIZE: Range = (lambda x: 0 <= x <= 2**16, f"from 0 to {2**16:,}")
"""features of an LSTM's state; 0 is no LSTM"""
BIGRAMS: Range = (lambda x: 0 <= x <= 2**24, f"from 0 to {2**24:,}")
"""rows of a table of token pairs; the largest takes 4 GB with 64 features"""


@dataclass(frozen=True)
class Model:
    """Sizes of the BiLSTM-CRF."""

    embedding_size: int = 128
    """features of a token, with --encoder none"""
    min_count: int = 2
    """occurrences that a token needs to get an embedding of its own, with --encoder none"""
    bigrams: int = 0
    """size of the hashed embedding table of token pairs, with --encoder none; 0 for none"""
    lstm_size: int = 64
    """units of each direction of the BiLSTM; 0 leaves it out"""
    head: Literal["crf", "softmax"] = "crf"
    """output layer: crf chooses the tags of a sentence together, softmax each tag alone"""
    dropout: float = 0.5
    """dropout of the token features and of the BiLSTM's outputs"""


@dataclass(frozen=True)
class Training:
    """How to train."""

    epochs: int = 10
    """passes over the training sentences; more where --train.min-steps asks for them"""
    min_steps: int = 100
    """fewest steps of training; few sentences are read in more epochs to reach it; 0 is no minimum"""
    batch_size: int = 32
    """sentences per step"""
    eval_batch_size: int = 128
    """sentences per step of evaluation and prediction"""
    peak_rate: float = 1e-4
    """learning rate at the peak of the schedule; --schedule plateau starts with it"""
    head_rate: float | None = None
    """learning rate of BiLSTM and CRF; by default --train.peak-rate"""
    warmup: float = 0.2
    """share of the steps in which the rate rises; only for keras_bert, linear and cosine"""
    min_rate: float = 1e-7
    """learning rate at the end of --schedule keras_bert"""
    plateau_factor: float = 0.1
    """multiplier of the rate when the dev F1 does not improve, with --schedule plateau"""
    plateau_patience: int = 2
    """evaluations without a better dev F1 before the rate is lowered"""
    plateau_min_delta: float = 4e-4
    """smallest gain in F1 that counts as better"""
    plateau_min_rate: float = 1e-6
    """lowest learning rate of --schedule plateau"""
    weight_decay: float = 0.0
    """decoupled weight decay of all parameters but biases and norms: each step multiplies them by 1 - rate * this"""
    clip_norm: float = 5.0
    """largest norm of the gradients; longer gradients are scaled down to it"""
    fgm: float = 0.0
    """adversarial training: norm of the perturbation of the token embeddings (FGM); 0 leaves it out"""
    ema_decay: float | None = None
    """decay per step of an exponential moving average of the weights, which is evaluated and kept"""
    patience: int | None = None
    """evaluations without a better dev F1 after which training stops; by default it never stops early"""


@dataclass(frozen=True, kw_only=True)
class Settings(RunSettings):
    """Trains a BiLSTM-CRF tagger of entities, with or without a pretrained encoder."""

    data: str = ""
    """the training file, beside which files such as valid.txt are used too; or PREFIX, where the files are
    PREFIX.train, PREFIX.dev and PREFIX.test; or a folder with the files train, dev and test; columns as in CoNLL, a
    table with a token per row, rows (.jsonl, .json, .parquet or .arrow) with tokens and tags, or text and spans, and
    perhaps split; JSON as in CLUENER, or an export of doccano, Prodigy, Label Studio or spaCy"""
    dev: Path | None = None
    """file of dev sentences; without one, and without one beside the training file, some training sentences are held
    out"""
    test: Path | None = None
    """file of test sentences"""
    tag_column: int = -1
    """column of the tags, counted from 0, or from the end if negative"""
    token_column: int | None = None
    """column of the tokens, counted from 0; by default the first, or the one that a header names; give 1 where the
    first column holds counters"""
    scheme: Scheme = "BIO"
    """tag scheme that the model learns; tags of the files are converted to it"""
    encoder: str = NO_ENCODER
    """folder of a Hugging Face checkpoint, or its name on the hub; none learns token embeddings from the data"""
    revision: str | None = None
    """branch, tag or commit of --encoder on the hub"""
    preset: Literal["auto", "plain", "encoder"] = "auto"
    """settings to start from; auto is plain for --encoder none and encoder for all others"""
    schedule: Schedule = "keras_bert"
    """schedule of the learning rate; plateau lowers it when the dev F1 stops improving"""
    repeats: int = 1
    """number of runs with different seeds; the best on dev is kept"""
    compare: bool = False
    """compare three schedules in a table: plateau, keras_bert, and keras_bert with FGM"""
    out: Path = Path("runs/ner")
    """folder of the run; must be new or empty, unless --resume is given"""
    max_length: int = 128
    """largest number of word pieces that are read at once; a longer sentence is read in overlapping windows"""
    dev_fraction: float = 0.1
    """share of the training sentences to hold out as dev, where there is no dev file"""
    model: Model = field(default_factory=Model)
    remat: bool = False
    """recompute whole layers of the encoder in the backward pass, which needs less memory and a third more
    computation"""
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
    **RUN_RANGES,
    "repeats": AT_LEAST_1,
    "max_length": (lambda x: 16 <= x <= 2**20, f"from 16 to {2**20:,}"),
    "dev_fraction": FRACTION,
    "token_column": AT_LEAST_0,
    **ranges_of("model", {"embedding_size": WIDTH, "min_count": AT_LEAST_1}),
    **ranges_of("model", {"bigrams": BIGRAMS, "lstm_size": LSTM_SIZE, "dropout": BELOW_1}),
    **ranges_of("train", dict.fromkeys(("batch_size", "eval_batch_size"), ROWS)),
    **ranges_of("train", dict.fromkeys(("epochs", "plateau_patience", "patience"), AT_LEAST_1)),
    **ranges_of("train", dict.fromkeys(("peak_rate", "head_rate", "clip_norm"), POSITIVE)),
    **ranges_of(
        "train",
        dict.fromkeys(
            ("min_steps", "min_rate", "plateau_min_rate", "plateau_min_delta", "fgm", "weight_decay"), AT_LEAST_0
        ),
    ),
    **ranges_of("train", {"warmup": BELOW_1, "ema_decay": BELOW_1, "plateau_factor": FRACTION}),
}


def check(settings: Settings) -> None:
    """Refuses flags that contradict each other.

    Raises:
        InputError: naming the flags.
    """
    train = settings.train
    if not settings.data:
        raise InputError("--data is empty: give a file, a folder, or the start of the files' names")
    for flag, rate in (("min-rate", train.min_rate), ("plateau-min-rate", train.plateau_min_rate)):
        if rate > train.peak_rate:
            raise InputError(f"--train.{flag} {rate} is above --train.peak-rate {train.peak_rate}: give less")
    if settings.encoder == NO_ENCODER and settings.revision is not None:
        raise InputError("--revision is given without an encoder: give --encoder a name on the hub, or leave it out")
    if settings.encoder == NO_ENCODER and settings.remat:
        raise InputError("--remat is given without an encoder: give --encoder, or leave it out")
    if settings.compare and settings.schedule != "keras_bert":
        raise InputError("--compare chooses the schedules itself: leave out --schedule")
    if settings.compare and train.fgm:
        raise InputError("--compare has a row with FGM: leave out --train.fgm")


def choose_preset(settings: Settings) -> str:
    """The name of the preset that settings ask for; "auto" depends on the encoder.

    Examples:
        >>> choose_preset(Settings()), choose_preset(Settings(encoder="bert-base-cased"))
        ('plain', 'encoder')
    """
    if settings.preset != "auto":
        return settings.preset
    return "plain" if settings.encoder == NO_ENCODER else "encoder"


COMMAND = command_line.Command(
    job="ner",
    presets=PRESETS,
    choose_preset=choose_preset,
    ranges=RANGES,
    check=check,
    examples=("--data cluener --out runs/cluener", "--data conll/ --encoder bert-base-cased --out runs/conll"),
    required=("data",),
    usual_flags={**command_line.usual_flags("train"), "warmup": "train.warmup"},
)


parse = COMMAND.parse


def comparison_settings(settings: Settings) -> dict[str, Settings]:
    """The settings of every row: the ones given, or with `compare` one schedule after another.

    Examples:
        >>> list(comparison_settings(Settings(compare=True)))
        ['plateau', 'keras_bert', 'keras_bert + FGM']
    """
    if not settings.compare:
        return {settings.schedule: settings}
    keras_bert = replace(settings, schedule="keras_bert")
    return {
        "plateau": replace(settings, schedule="plateau"),
        "keras_bert": keras_bert,
        "keras_bert + FGM": replace(keras_bert, train=replace(settings.train, fgm=FGM_EPSILON)),
    }
