"""What `python -m jaxft.ulmfit --dry-run` prints: settings, phases with every group's rate, steps and time.

The time is a count of floating-point operations over the speed of a matrix product measured here and now.
"""

import json
import time
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.data.splits import Texts
from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.report import to_json
from jaxft.settings import Settings
from jaxft.unfreezing import Phase, format_plan

EFFICIENCY = 0.5
"""share of the speed of a large matrix product that training reaches, as measured with the small preset on a CPU"""


def layer_products(config: AWDLSTMConfig) -> int:
    """Multiply-adds per token of the LSTM layers, forward.

    >>> layer_products(AWDLSTMConfig(10_000, 128, 256, 2))
    589824
    """
    pairs = zip(config.widths[:-1], config.widths[1:], strict=True)
    return sum(4 * units * (inputs + units) for inputs, units in pairs)


def training_flops(config: AWDLSTMConfig, phase: Phase, softmax: bool) -> int:
    """Floating-point operations per token of a training step: three passes where the encoder trains, one where not.

    >>> config = AWDLSTMConfig(10_000, 128, 256, 2)
    >>> training_flops(config, Phase("all", {"lstm_0": 1.0, "lstm_1": 1.0, "embedding": 1.0}, 1), softmax=True)
    11218944
    """
    frozen = all(phase.rates[group] is None for group in phase.rates if group != "head")
    passes = 1 if frozen else 3
    return 2 * passes * (layer_products(config) + softmax * config.vocabulary_size * config.embedding_size)


def product_speed(size: int = 1536) -> float:
    """Floating-point operations per second of a float32 matrix product on this device."""
    x = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    started = time.perf_counter()
    for _ in range(3):
        product(x, x).block_until_ready()
    return 3 * 2 * size**3 / (time.perf_counter() - started)


def preview(
    texts: Texts, settings: Settings, plans: dict[str, tuple[tuple[Phase, ...], int]], config: AWDLSTMConfig
) -> str:
    """The whole text; `plans` gives each stage's phases and its steps per epoch."""
    lengths = texts.store.lengths
    words = {"language_model": int(lengths[texts.lm_train].sum()), "classifier": int(lengths[texts.train].sum())}
    read = {"language_model": int(lengths[texts.lm_valid].sum()), "classifier": int(lengths[texts.dev].sum())}
    speed = EFFICIENCY * product_speed()
    lines = [json.dumps(to_json(asdict(settings)), indent=2), "", _sizes(texts)]
    total = 2 * int(lengths[texts.test].sum()) * layer_products(config) / speed
    for stage, (plan, steps_per_epoch) in plans.items():
        softmax = stage == "language_model"
        flops = sum(phase.epochs * words[stage] * training_flops(config, phase, softmax) for phase in plan)
        evaluation = 2 * read[stage] * (layer_products(config) + softmax * np.prod(_table(config)))
        seconds = (flops + float(evaluation) * sum(phase.epochs for phase in plan)) / speed
        total += seconds
        lines += ["", f"{stage}: about {_clock(seconds)}", format_plan(plan, steps_per_epoch)]
    return "\n".join([*lines, "", f"in all about {_clock(total)} on this machine; nothing was trained"])


def _table(config: AWDLSTMConfig) -> tuple[int, int]:
    return config.vocabulary_size, config.embedding_size


def _sizes(texts: Texts) -> str:
    parts = {"train": texts.train, "dev": texts.dev, "test": texts.test, "language-model texts": texts.lm_train}
    counted = ", ".join(f"{len(documents):,} {name}" for name, documents in parts.items())
    return f"{texts.name}: {counted}; {len(texts.store.vocabulary):,} words in the vocabulary"


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
