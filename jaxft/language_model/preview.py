"""What `--dry-run` of a training job prints: settings, phases with every group's rate, steps and time.

The time is a count of floating-point operations over the speed of a matrix product measured here and now.
"""

import json
import time
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.data.splits import Texts
from jaxft.files import to_json
from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.models.options import Precision
from jaxft.models.products import matmul, operand
from jaxft.optim.phases import Phase, format_plan

EFFICIENCY: dict[Precision, float] = {"f32": 0.5, "bf16": 0.35}
"""share of the speed of a large matrix product that training reaches, as measured with the small preset on a CPU"""


def flops_per_token(config: AWDLSTMConfig, softmax: bool, phase: Phase | None = None) -> int:
    """Floating-point operations per token of the encoder's products and, on request, of the tied softmax.

    Forward alone without a phase. In a phase, a weight's product is taken once more where it trains, and once more
    where a gradient has to get through it, which is where something below trains.

    Args:
        config: sizes of the encoder.
        softmax: whether a softmax tied to the embedding stands on it, as in the language model.
        phase: which of the groups `embedding`, `lstm_0`, ... train.

    Examples:
        >>> config = AWDLSTMConfig(10_000, 128, 256, 2)
        >>> flops_per_token(config, softmax=True)
        3739648
        >>> groups = ["embedding", "lstm_0", "lstm_1"]
        >>> flops_per_token(config, softmax=True, phase=Phase("all", dict.fromkeys(groups, 1.0), 1))
        11218944
    """
    rates = {} if phase is None else phase.rates
    below = embedding = rates.get("embedding") is not None
    products = 0
    for i, (inputs, units) in enumerate(pairwise(config.widths)):
        trains = rates.get(f"lstm_{i}") is not None
        products += 4 * units * inputs * (1 + below + trains)
        below |= trains
        products += 4 * units * units * (1 + below + trains)
    products += softmax * config.vocabulary_size * config.embedding_size * (1 + below + embedding)
    return 2 * products


def product_speed(precision: Precision, size: int = 1536) -> float:
    """Floating-point operations per second of a large matrix product on this device."""
    x = operand(jnp.ones((size, size)), precision)
    timed = jax.jit(partial(matmul, precision=precision))
    timed(x, x).block_until_ready()
    started = time.perf_counter()
    for _ in range(3):
        timed(x, x).block_until_ready()
    return 3 * 2 * size**3 / (time.perf_counter() - started)


def preview(texts: Texts, settings: Any, plans: dict[str, tuple[tuple[Phase, ...], int]], config: AWDLSTMConfig) -> str:
    """The whole text; `plans` gives each stage's phases and its steps per epoch."""
    lengths = texts.store.lengths
    words = {"language_model": int(lengths[texts.lm_train].sum()), "classifier": int(lengths[texts.train].sum())}
    read = {"language_model": int(lengths[texts.lm_valid].sum()), "classifier": int(lengths[texts.dev].sum())}
    speed = EFFICIENCY[settings.precision] * product_speed(settings.precision)
    lines = [json.dumps(to_json(asdict(settings)), indent=2), "", _sizes(texts)]
    total = int(lengths[texts.test].sum()) * flops_per_token(config, softmax=False) / speed
    for stage, (plan, steps_per_epoch) in plans.items():
        kind = stage.removesuffix("_backward")
        softmax = kind == "language_model"
        evaluation = read[kind] * flops_per_token(config, softmax)
        flops = [words[kind] * flops_per_token(config, softmax, phase) + evaluation for phase in plan]
        seconds = sum(phase.epochs * one for phase, one in zip(plan, flops, strict=True)) / speed
        total += seconds
        lines += ["", f"{stage}: about {_clock(seconds)}", format_plan(plan, steps_per_epoch)]
    lines += ["", f"in all about {_clock(total)} on this machine, and seconds more to compile each phase at first"]
    return "\n".join([*lines, "nothing was trained"])


def _sizes(texts: Texts) -> str:
    parts = {"train": texts.train, "dev": texts.dev, "test": texts.test, "language-model texts": texts.lm_train}
    counted = ", ".join(f"{len(documents):,} {name}" for name, documents in parts.items() if len(documents))
    return f"{texts.name}: {counted}; {len(texts.store.vocabulary):,} words in the vocabulary"


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
