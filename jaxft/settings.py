"""Every setting of ULMFiT as a dataclass whose fields are the flags of `python -m jaxft.ulmfit`, and the presets.

A preset is a complete configuration; flags change single fields of it. Where a preset carries a published value, a
comment names the source: [P] Howard & Ruder 2018, [M] Merity et al. 2018, [F7] the authors' scripts in fastai 0.7,
[F1] fastai 1's ULMFit notebook, [F2] the defaults of fastai 2.8.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro

from jaxft.models.awd_lstm import Dropouts

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
    peak_rate: float = 4e-3
    """learning rate of the top group at the peak of the schedule"""
    divisor: float = 2.6
    """each group's rate is that of the group above it divided by this; 1 gives all the same"""
    schedule: ScheduleName = "slanted_triangular"
    """shape of the learning rate over the stage"""
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
    """share of the labelled texts held out to choose the best epoch"""


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
    seed: int = 0
    """seed of splits, weights, order and dropout"""
    limit_labels: int | None = None
    """labelled texts to use, equally many of each class; the other texts of train count as unlabelled"""
    limit_unlabelled: int | None = None
    """unlabelled texts to use"""
    transductive: bool = False
    """let the language model read the test texts, without their labels"""
    language_model: Path | None = None
    """folder of a run whose trained language model is taken instead of training one"""
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


_PAPER_DROPOUT = Dropouts(input=0.4, hidden=0.3, output=0.4, weight=0.5, embedding=0.05)  # [P] section 4.1

PAPER = Settings(
    preset="paper",
    text=Text(max_vocab=30_000, min_count=2),  # [F7] max_vocab 30 000, min_freq > 1; the paper does not say
    model=Model(400, 1150, 3),  # [P] 4.1
    lm=LanguageModelStage(
        epochs=15,  # not stated in [P]; [F7] trains up to 50, [F1] 10 after one frozen
        batch_size=64,  # [P] 4.1
        bptt=70,  # [P] 4.1
        peak_rate=4e-3,  # [P] 4.1
        divisor=2.6,  # [P] 3.2
        b1=0.7,  # [P] 4.1
        b2=0.99,  # [P] 4.1
        clip_norm=0.25,  # [M], which [P] follows
        dropout=_PAPER_DROPOUT,
        activation_penalty=2.0,  # [M]
        temporal_penalty=1.0,  # [M]
    ),
    classifier=ClassifierStage(
        plan="gradual",  # [P] 3.3
        phase_epochs=1,  # [P] 3.3
        epochs=4,  # not stated in [P] apart from 50 with early stopping in its ablations
        batch_size=64,  # [P] 4.1
        max_length=1400,  # [F7] 20 windows of 70
        peak_rate=1e-2,  # [P] 4.1
        divisor=2.6,  # [P] 3.2
        clip_norm=25.0,  # [F7]
        dropout=_PAPER_DROPOUT,
        head_hidden=50,  # [P] 4.1
        head_dropout=0.1,  # [F7]
    ),
)

FASTAI = Settings(
    preset="fastai",
    text=Text(max_vocab=60_000, min_count=3),  # [F2]
    model=Model(400, 1152, 3),  # [F2]
    lm=LanguageModelStage(
        epochs=10,  # [F1]
        batch_size=64,  # [F7]; [F1] takes 256 on a GPU of 24 GB
        bptt=72,  # [F2]
        peak_rate=2e-3,  # [F1], where pretrained weights are fine-tuned
        divisor=1.0,  # [F1] gives all groups the same
        schedule="one_cycle",  # [F1]
        b1=0.8,  # [F1]
        b2=0.99,  # [F1]
        weight_decay=0.1,  # [F1]
        clip_norm=0.1,  # [F1]
        dropout=Dropouts(0.25, 0.15, 0.1, 0.2, 0.02),  # [F2]
    ),
    classifier=ClassifierStage(
        plan="gradual",  # [F1]
        phase_epochs=1,  # [F1]
        epochs=2,  # [F1]
        batch_size=64,  # [F1] takes 128 on a GPU of 24 GB
        max_length=1440,  # [F2] 20 windows of 72
        peak_rate=2e-2,  # [F2] tutorial
        rate_decay=0.5,  # [F1] halves the rate from phase to phase
        divisor=2.6,  # [F1]
        schedule="one_cycle",  # [F1]
        b1=0.8,  # [F1]
        b2=0.99,  # [F1]
        weight_decay=0.1,  # [F1]
        clip_norm=0.1,  # [F1]
        dropout=Dropouts(0.4, 0.3, 0.4, 0.5, 0.05),  # [F2]
        drop_mult=0.5,  # [F2]
        head_dropout=0.1,  # [F2]
    ),
)

SMALL = Settings(
    preset="small",
    text=Text(max_vocab=10_000, min_count=3),
    model=Model(128, 256, 2),
    lm=LanguageModelStage(
        epochs=3,
        batch_size=32,
        bptt=64,
        peak_rate=1e-2,
        divisor=1.0,  # starting from random weights there is nothing in the lower layers to protect
        b1=0.8,
        b2=0.99,
        clip_norm=0.25,
        drop_mult=0.3,
    ),
    classifier=ClassifierStage(
        epochs=2,
        batch_size=32,
        eval_batch_size=128,
        max_length=384,
        peak_rate=1e-2,
        b1=0.8,
        b2=0.99,
        drop_mult=0.5,
    ),
)

DEMO = replace(
    SMALL,
    data="demo",
    preset="demo",
    log_every=5,
    model=Model(64, 64, 1),
    lm=replace(
        SMALL.lm,
        epochs=4,
        batch_size=16,
        bptt=40,
        clip_norm=1.0,
        drop_mult=0.0,
        # so small a model has no capacity to spare, and learns nothing of polarity under the usual penalties
        activation_penalty=0.0,
        temporal_penalty=0.0,
    ),
    classifier=replace(SMALL.classifier, epochs=6, batch_size=10, drop_mult=0.2),
)

PRESETS = {"paper": PAPER, "fastai": FASTAI, "small": SMALL, "demo": DEMO}


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Reads the command line: the preset that it names, changed by its other flags.

    >>> settings = parse(["--data", "demo", "--lm.epochs", "1"])
    >>> settings.preset, settings.lm.epochs
    ('demo', 1)
    """
    chosen = _parse(arguments, preset("auto", "imdb"))
    start = preset(chosen.preset, chosen.data)
    return replace(_parse(arguments, start), preset=start.preset)


def _parse(arguments: Sequence[str] | None, default: Settings) -> Settings:
    return tyro.cli(Settings, prog="python -m jaxft.ulmfit", args=arguments, default=replace(default, preset="auto"))


def preset(name: str, data: str) -> Settings:
    """The settings that flags start from; "auto" depends on the data.

    >>> preset("auto", "demo").preset, preset("auto", "reviews.csv").preset
    ('demo', 'small')
    """
    if name == "auto":
        name = "demo" if data == "demo" else "small"
    return replace(PRESETS[name], data=data)
