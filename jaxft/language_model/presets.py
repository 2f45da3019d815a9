"""Presets of the language-model stage: the published values, with their sources, and ours for two cores or one GPU.

Sources: [P] Howard & Ruder 2018, [M] Merity et al. 2018, [F7] the authors' scripts in fastai 0.7, [F1] fastai 1's
ULMFiT notebook, [F2] the defaults of fastai 2.8, [S] salesforce/awd-lstm-lm, README and main.py, for WikiText-2.
"""

from dataclasses import dataclass, replace

from jaxft.language_model.settings import LanguageModelStage, Model, Text
from jaxft.models.options import Dropouts


@dataclass(frozen=True)
class LanguageModelPreset:
    """Values of the settings of the same names."""

    text: Text
    model: Model
    lm: LanguageModelStage


PAPER_DROPOUT = Dropouts(input=0.4, hidden=0.3, output=0.4, weight=0.5, embedding=0.05)  # [P] section 4.1

PAPER = LanguageModelPreset(
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
        dropout=PAPER_DROPOUT,
        activation_penalty=2.0,  # [M]
        temporal_penalty=1.0,  # [M]
    ),
)

GPU = LanguageModelPreset(  # from random weights, in minutes
    text=PAPER.text,
    model=PAPER.model,
    lm=replace(
        PAPER.lm,
        epochs=7,
        batch_size=256,  # steps of 64 rows take nearly as long
        peak_rate=6e-3,
        divisor=1.0,  # starting from random weights there is nothing in the lower layers to protect
        schedule="one_cycle",
        b1=0.8,
        drop_mult=0.45,
    ),
)

FASTAI = LanguageModelPreset(
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
)

AWD_LSTM_LM = LanguageModelPreset(
    text=Text(max_vocab=100_000, min_count=1),  # [S]
    model=Model(400, 1150, 3),  # [S]
    lm=LanguageModelStage(
        epochs=750,  # [S]
        batch_size=80,  # [S]
        bptt=70,  # [S]
        vary_bptt=True,  # [S]
        optimizer="sgd",  # [S]
        peak_rate=30.0,  # [S]
        divisor=1.0,  # [S]
        schedule="constant",  # [S]
        weight_decay=1.2e-6,  # [S]
        clip_norm=0.25,  # [S]
        dropout=Dropouts(input=0.65, hidden=0.2, output=0.4, weight=0.5, embedding=0.1),  # [S]
        activation_penalty=2.0,  # [S]
        temporal_penalty=1.0,  # [S]
        average="nt-asgd",  # [S]
        patience=5,  # [S]
    ),
)

SMALL = LanguageModelPreset(  # for two CPU cores
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
)
