"""The presets of `python -m jaxft.ulmfit`, and its command line.

A preset is a complete configuration. Sources of published values: [P] Howard & Ruder 2018, [M] Merity et al. 2018,
[F7] the authors' scripts in fastai 0.7, [F1] fastai 1's ULMFiT notebook, [F2] the defaults of fastai 2.8.
"""

from dataclasses import replace

from jaxft.language_model import presets
from jaxft.language_model.settings import Model
from jaxft.models.options import Dropouts
from jaxft.training import command_line
from jaxft.ulmfit.settings import RANGES, ClassifierStage, Settings, check

PAPER = Settings(
    preset="paper",
    **vars(presets.PAPER),
    classifier=ClassifierStage(
        plan="gradual",  # [P] 3.3
        phase_epochs=1,  # [P] 3.3
        epochs=4,  # not stated in [P] apart from 50 with early stopping in its ablations
        batch_size=64,  # [P] 4.1
        max_length=1400,  # [F7] 20 windows of 70
        peak_rate=1e-2,  # [P] 4.1
        divisor=2.6,  # [P] 3.2
        clip_norm=0.25,  # [M]; [F7] takes 25
        dropout=presets.PAPER_DROPOUT,
        head_hidden=50,  # [P] 4.1
        head_dropout=0.1,  # [F7]
        pseudo_share=0.0,  # [P] learns from labelled texts alone
    ),
)

GPU = Settings(
    preset="gpu",
    **vars(presets.GPU),
    classifier=replace(
        PAPER.classifier,
        plan="full",
        phase_steps=60,  # as in small
        max_length=480,
        eval_batch_size=256,
        pseudo_share=None,
        peak_rate=5e-3,
        schedule="one_cycle",
        b1=0.8,
        b2=0.99,
        drop_mult=0.5,
    ),
)

FASTAI = Settings(
    preset="fastai",
    **vars(presets.FASTAI),
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
        pseudo_share=0.0,  # [F1]
    ),
)

SMALL = Settings(
    preset="small",
    **vars(presets.SMALL),
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
    classifier=replace(
        SMALL.classifier,
        divisor=2.6,
        epochs=6,
        phase_steps=0,
        batch_size=10,
        drop_mult=0.2,
        dev_fraction=0.1,
        pseudo_share=0.0,  # generated texts have too few words for it
    ),
)

PRESETS = {"small": SMALL, "fastai": FASTAI, "paper": PAPER, "gpu": GPU, "demo": DEMO}


def choose_preset(settings: Settings) -> str:
    """The name of the preset that settings ask for; "auto" depends on the data.

    Examples:
        >>> choose_preset(Settings(data="demo")), choose_preset(Settings(data="reviews.csv"))
        ('demo', 'small')
    """
    if settings.preset != "auto":
        return settings.preset
    return "demo" if settings.data == "demo" else "small"


COMMAND = command_line.Command(
    job="ulmfit",
    presets=PRESETS,
    choose_preset=choose_preset,
    ranges=RANGES,
    check=check,
    examples=("--data demo", "--data reviews.csv --out runs/reviews"),
    usual_flags={
        **command_line.usual_flags("lm", "classifier"),
        "max-length": "classifier.max_length",
    },
    advice={"warmup": "its schedules have a fixed warm-up, so choose one with --lm.schedule or --classifier.schedule"},
)


parse = COMMAND.parse
