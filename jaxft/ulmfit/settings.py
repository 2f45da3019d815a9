"""Settings of `python -m jaxft.ulmfit`: a dataclass whose fields are the flags, and their ranges."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jaxft.data.columns import TableSettings
from jaxft.errors import InputError
from jaxft.language_model.settings import (
    LANGUAGE_MODEL_RANGES,
    OPTIMIZER_RANGES,
    LanguageModelSettings,
    ScheduleName,
    check_dropouts,
    check_text,
)
from jaxft.models.options import Dropouts
from jaxft.training.settings import (
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    FRACTION,
    FROM_0_TO_1,
    ROWS,
    UP_TO_1,
    WIDTH,
    Metric,
    Range,
    ranges_of,
)

SMALLEST_BATCH = 2
"""the fewest texts of a step whose features batch norm can tell apart"""

HeadStart = Literal["random", "probe"]
PlanName = Literal["gradual", "fastai", "chain-thaw", "last", "full"]


@dataclass(frozen=True)
class ClassifierStage:
    """Training of the classifier on labelled texts, with gradual unfreezing."""

    plan: PlanName = "gradual"
    """order of unfreezing: gradual (one more group each phase), fastai (last, last two, all), chain-thaw, last, full"""
    phase_epochs: int = 1
    """epochs of each phase before the last"""
    epochs: int = 2
    """epochs of the last phase"""
    phase_steps: int = 0
    """minimum number of steps in a phase; a phase with fewer gets more epochs"""
    batch_size: int = 32
    """texts per step, at least 2"""
    eval_batch_size: int = 64
    """texts per step of evaluation and prediction"""
    max_length: int = 1440
    """tokens at the end of a text that are pooled and get gradients; the tokens before them only set the LSTM's state;
    lower it to save time and memory"""
    peak_rate: float = 1e-2
    """learning rate of the top group at the peak of each phase's schedule"""
    rate_decay: float = 1.0
    """the peak rate of each phase is that of the phase before times this; 1 keeps it"""
    divisor: float = 2.6
    """a group's rate is the rate of the group above it divided by this; 1 gives all groups the same rate"""
    schedule: ScheduleName = "slanted_triangular"
    """shape of the learning rate over each phase"""
    b1: float = 0.7
    """Adam's b1: decay of the first moment"""
    b2: float = 0.99
    """Adam's b2: decay of the second moment"""
    weight_decay: float = 0.0
    """decoupled weight decay: each step multiplies the weights by 1 - rate * this"""
    clip_norm: float = 25.0
    """largest norm of the trainable gradients; longer gradients are scaled down to it"""
    dropout: Dropouts = field(default_factory=lambda: Dropouts(0.4, 0.3, 0.4, 0.5, 0.05))
    """the encoder's five dropout probabilities"""
    drop_mult: float = 1.0
    """multiplier of all five dropout probabilities"""
    head: HeadStart = "random"
    """what the head starts as: random, or the linear layer that is solved on the pooled states of the frozen encoder
    (probe)"""
    head_hidden: int = 50
    """units of the head's hidden layer; --classifier.head probe needs two for each class"""
    head_dropout: float = 0.1
    """dropout before the last linear layer; --classifier.dropout.output applies to the pooled features"""
    pseudo_share: float | None = None
    """share of the unlabelled texts, of 5,000 of them if there are more, that the classifier also learns from, with the
    class that a linear model on words gives them; the most confident are taken. By default 0.5 with fewer than 2,000
    training texts, and else 0; the presets paper, fastai and demo have 0"""
    dev_fraction: float | None = None
    """share of the labelled texts to hold out as dev; by default 0.1, or none where that is fewer than 50 texts. The
    weights of the last epoch within one standard error of the best dev score are kept (with --metric mcc, roc-auc or
    log-loss those of the best epoch), or without dev texts the last"""


@dataclass(frozen=True, kw_only=True)
class Settings(LanguageModelSettings, TableSettings):
    """Trains ULMFiT: a language model on raw texts, then a classifier on labelled ones."""

    data: str = "imdb"
    """imdb (downloaded once), demo (generated), or a path: a table (.csv, .tsv, .jsonl, .json, .parquet or .arrow) with
    the columns text, label and split, a folder with train.csv and test.csv, a folder of .txt files for each class, or
    an aclImdb folder or its tar"""
    preset: Literal["auto", "small", "fastai", "paper", "gpu", "demo"] = "auto"
    """settings to start from; auto is demo for the demo corpus and small, for a few cores, for all others; gpu is the
    full-size model in batches for a GPU"""
    out: Path = Path("runs/ulmfit")
    """folder of the run; must be new or empty, unless --resume is given"""
    limit_labels: int | None = None
    """number of labelled texts to use, equally many per class; the other training texts count as unlabelled"""
    limit_unlabelled: int | None = None
    """number of unlabelled texts to use"""
    metric: Metric | None = None
    """score on the dev texts, where there are any, that chooses weights; by default accuracy, or macro-f1 where the
    largest class has more than three times the texts of the smallest"""
    class_weights: str = "none"
    """weight of each class in the loss: none, balanced (inverse to the number of its texts), or a JSON object of
    classes and weights such as {"spam": 3}"""
    baseline: bool = True
    """also score TF-IDF with logistic regression on the same texts, to compare with; --no-baseline leaves it out"""
    transductive: bool = False
    """let the language model read the test texts, without their labels"""
    pretrained: str | None = None
    """language model to fine-tune: fastai (trained on WikiText-103, downloaded once), a run of jaxft.pretrain or
    jaxft.ulmfit, USER/NAME of such a language model on the Hugging Face hub, or a .pth file of fastai, its tar or its
    folder; it sets the sizes of --model"""
    revision: str | None = None
    """branch, tag or commit of --pretrained on the hub"""
    language_model: Path | None = None
    """run on the same texts whose language model is used without further training"""
    classifier: ClassifierStage = field(default_factory=ClassifierStage)


RANGES: dict[str, Range] = {
    **LANGUAGE_MODEL_RANGES,
    "limit_unlabelled": AT_LEAST_0,
    **ranges_of("classifier", OPTIMIZER_RANGES),
    **ranges_of("classifier", dict.fromkeys(("phase_epochs", "epochs"), AT_LEAST_1)),
    **ranges_of("classifier", {"eval_batch_size": ROWS, "max_length": ROWS, "head_hidden": WIDTH}),
    **ranges_of("classifier", {"phase_steps": AT_LEAST_0, "rate_decay": UP_TO_1}),
    **ranges_of("classifier", {"head_dropout": BELOW_1, "dev_fraction": FRACTION, "pseudo_share": FROM_0_TO_1}),
}


def check(settings: Settings) -> None:
    """Refuses flags that contradict each other or that leave the model no room.

    Raises:
        InputError: naming the flags.
    """
    if settings.pretrained is None and settings.revision is not None:
        raise InputError("--revision is given without --pretrained: give that a name on the hub, or leave it out")
    check_text(settings.text)
    check_dropouts("lm", settings.lm)
    check_dropouts("classifier", settings.classifier)
    if settings.classifier.batch_size < SMALLEST_BATCH:
        raise InputError(
            f"--classifier.batch-size {settings.classifier.batch_size} leaves the head's batch norm without a second "
            f"text to compare with: give at least {SMALLEST_BATCH}"
        )
