"""The presets of ULMFiT, and the command line that changes single settings of one.

A preset is a complete configuration. Where it carries a published value, a comment names the source: [P] Howard &
Ruder 2018, [M] Merity et al. 2018, [F7] the authors' scripts in fastai 0.7, [F1] fastai 1's ULMFit notebook, [F2] the
defaults of fastai 2.8.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import tyro

from jaxft.models.options import Dropouts
from jaxft.ulmfit.settings import ClassifierStage, LanguageModelStage, Model, Settings, Text, check

Job = TypeVar("Job")

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
        clip_norm=0.25,  # [M]; [F7] takes 25
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
        b1=0.8,  # [F1] moves it from 0.8 to 0.7 and back
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
        peak_rate=2e-2,  # ours, a fifth of [F1]'s, which has four phases: last 1, last 2, last 3, all
        rate_decay=0.5,  # [F1] from phase to phase, but for a fifth at the last
        divisor=2.6,  # [F1]
        schedule="one_cycle",  # [F1]
        b1=0.8,  # [F1] moves it from 0.8 to 0.7 and back
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
        divisor=1.0,  # nine points better than 2.6 with 2,500 labels: so small a model has more to learn than to lose
        epochs=2,
        phase_steps=60,  # with 100 labels the head's batch norms have seen nothing in less
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
    classifier=replace(SMALL.classifier, divisor=2.6, epochs=6, phase_steps=0, batch_size=10, drop_mult=0.2),
)

PRESETS = {"paper": PAPER, "fastai": FASTAI, "small": SMALL, "demo": DEMO}


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Reads the command line: the preset that it names, changed by its other flags.

    Raises:
        InputError: a value out of its range.
        SystemExit: with status 2, for a flag that does not exist or a value of another type.

    Examples:
        >>> settings = parse(["--data", "demo", "--lm.epochs", "1"])
        >>> settings.preset, settings.lm.epochs
        ('demo', 1)
    """
    default = replace(preset("auto", "imdb"), preset="auto")
    settings = parse_with_preset(
        Settings, "python -m jaxft.ulmfit", arguments, lambda s: preset(s.preset, s.data), default
    )
    check(settings)
    return settings


def parse_with_preset(
    kind: type[Job], prog: str, arguments: Sequence[str] | None, start: Callable[[Job], Job], default: Job
) -> Job:
    """Reads a job's command line twice: for the preset that `start` makes of its flags, and for what they change in it.

    Args:
        kind: the job's settings, a dataclass with a field `preset`.
        prog: the command, for its help.
        arguments: of the command line; None for those of this process.
        start: makes of the first reading what the second one starts from.
        default: what the first reading starts from.

    Raises:
        SystemExit: with status 2, for a flag that does not exist or a value of another type.
    """
    chosen: Any = tyro.cli(kind, prog=prog, args=arguments, default=default)
    started: Any = start(chosen)
    settings: Any = tyro.cli(kind, prog=prog, args=arguments, default=replace(started, preset=chosen.preset))
    return replace(settings, preset=started.preset)


def preset(name: str, data: str) -> Settings:
    """The settings that flags start from; "auto" depends on the data.

    Examples:
        >>> preset("auto", "demo").preset, preset("auto", "reviews.csv").preset
        ('demo', 'small')
    """
    if name == "auto":
        name = "demo" if data == "demo" else "small"
    return replace(PRESETS[name], data=data)
