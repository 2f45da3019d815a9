"""Settings of the language-model stage: text, model sizes and training, with the range of each number."""

from dataclasses import dataclass, field
from typing import Any, Literal

from jaxft.errors import InputError
from jaxft.models.options import Dropouts
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
    flag,
    ranges_of,
)

Directions = Literal["forward", "backward", "both"]
ScheduleName = Literal["slanted_triangular", "one_cycle", "linear", "cosine", "constant"]


MOST_LAYERS = 100
"""of a language model, whose layers are compiled one by one"""


@dataclass(frozen=True)
class Text:
    """How texts become ids."""

    tokens: Literal["words", "subwords"] = "words"
    """what a token is: a word, or a piece of one that byte-pair encoding has learnt from the texts (subwords), for
    languages without spaces between words and for texts with many rare words"""
    max_vocab: int = 60_000
    """largest number of tokens in the vocabulary; with subwords, 9 special tokens and 256 bytes among them"""
    min_count: int = 3
    """occurrences that a word, or a pair of subwords, needs to enter the vocabulary"""


@dataclass(frozen=True)
class Model:
    """Sizes of the AWD-LSTM."""

    embedding_size: int = 400
    """features of a token's embedding and of the last layer"""
    hidden_size: int = 1152
    """units of the other layers"""
    num_layers: int = 3
    """LSTM layers, at most 100"""


@dataclass(frozen=True)
class LanguageModelStage:
    """Training of the language model."""

    epochs: int = 10
    """passes over the texts; 0 skips the language model (jaxft.ulmfit only)"""
    batch_size: int = 64
    """rows of text that are read in parallel"""
    bptt: int = 72
    """tokens per window of backpropagation through time"""
    vary_bptt: bool = False
    """vary the window length at random, about --lm.bptt and in one of 20 windows about half of it, and scale the
    learning rate with it (Merity et al. 2018, section 4.1)"""
    peak_rate: float = 4e-3
    """learning rate of the top group at the peak of the schedule"""
    divisor: float = 2.6
    """a group's rate is the rate of the group above it divided by this; 1 gives all groups the same rate"""
    schedule: ScheduleName = "slanted_triangular"
    """shape of the learning rate over the stage"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """update rule"""
    b1: float = 0.7
    """Adam's b1: decay of the first moment"""
    b2: float = 0.99
    """Adam's b2: decay of the second moment"""
    weight_decay: float = 0.0
    """decoupled weight decay: each step multiplies the weights by 1 - rate * this"""
    clip_norm: float = 0.25
    """largest norm of the gradients; longer gradients are scaled down to it"""
    dropout: Dropouts = field(default_factory=Dropouts)
    """AWD-LSTM's five dropout probabilities"""
    drop_mult: float = 1.0
    """multiplier of all five dropout probabilities"""
    activation_penalty: float = 2.0
    """weight of AR, the mean square of the outputs, in the loss"""
    temporal_penalty: float = 1.0
    """weight of TAR, the mean square of the change of the outputs from one token to the next, in the loss"""
    average: Literal["none", "ema", "swa", "nt-asgd"] = "none"
    """average of the weights to evaluate and to keep"""
    ema_decay: float = 0.999
    """decay per step of --lm.average ema"""
    swa_start: float = 0.75
    """share of the steps after which --lm.average swa begins"""
    patience: int = 5
    """evaluations without a lower loss after which --lm.average nt-asgd begins"""
    valid_fraction: float = 0.05
    """share of the texts to hold out for validation, at most 1,000 texts"""


@dataclass(frozen=True, kw_only=True)
class LanguageModelSettings(RunSettings):
    """Settings that every job with a language-model stage has; the settings of a job inherit them."""

    checkpoint_minutes: float = 2.0
    """minutes between two checkpoints"""
    direction: Directions = "forward"
    """direction in which the model reads; both trains a forward and a backward model"""
    text: Text = field(default_factory=Text)
    model: Model = field(default_factory=Model)
    lm: LanguageModelStage = field(default_factory=LanguageModelStage)


OPTIMIZER_RANGES: dict[str, Range] = {
    "peak_rate": POSITIVE,
    "divisor": AT_LEAST_1,
    "b1": BELOW_1,
    "b2": BELOW_1,
    "weight_decay": AT_LEAST_0,
    "clip_norm": POSITIVE,
    "batch_size": ROWS,
    "drop_mult": AT_LEAST_0,
}
"""ranges of the settings that every stage with an AWD-LSTM has"""
LANGUAGE_MODEL_RANGES: dict[str, Range] = {
    **RUN_RANGES,
    **ranges_of("text", {"min_count": AT_LEAST_1, "max_vocab": (lambda x: x >= 10, "at least 10")}),
    **ranges_of("model", dict.fromkeys(("embedding_size", "hidden_size"), WIDTH)),
    "model.num_layers": (lambda x: 1 <= x <= MOST_LAYERS, f"from 1 to {MOST_LAYERS}"),
    **ranges_of("lm", OPTIMIZER_RANGES),
    **ranges_of("lm", dict.fromkeys(("epochs", "activation_penalty", "temporal_penalty"), AT_LEAST_0)),
    **ranges_of("lm", {"bptt": ROWS, "patience": AT_LEAST_1, "valid_fraction": FRACTION}),
    **ranges_of("lm", {"ema_decay": BELOW_1, "swa_start": BELOW_1}),
}
"""ranges of `LanguageModelSettings`"""


MIN_SUBWORDS = 300
"""least --text.max-vocab with subwords: the special tokens, the bytes and some pieces"""


def check_text(text: Text) -> None:
    """Refuses a vocabulary without room for subwords.

    Raises:
        InputError: naming the flag.
    """
    if text.tokens == "subwords" and text.max_vocab < MIN_SUBWORDS:
        raise InputError(f"--text.max-vocab {text.max_vocab} has no room for subwords: give at least {MIN_SUBWORDS}")


def check_dropouts(stage: str, settings: Any) -> None:
    """Refuses dropouts that are no probabilities below 1, alone or times their multiplier.

    Args:
        stage: name of the stage's settings, for the flags.
        settings: with the fields `dropout` and `drop_mult`.

    Raises:
        InputError: naming both flags.

    Examples:
        >>> check_dropouts("lm", LanguageModelStage(drop_mult=5.0))
        Traceback (most recent call last):
        jaxft.errors.InputError: --lm.dropout.input 0.25 times --lm.drop-mult 5.0 makes 1.25, ... below 1: lower one
    """
    for name, probability in vars(settings.dropout).items():
        product = probability * settings.drop_mult
        if not 0 <= probability < 1 or not product < 1:
            dropout, multiplier = flag(f"{stage}.dropout.{name}"), flag(f"{stage}.drop_mult")
            raise InputError(
                f"{dropout} {probability} times {multiplier} {settings.drop_mult} makes {product:g}, which is not "
                "below 1: lower one"
            )
