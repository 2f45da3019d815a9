"""Estimates of training time: floating-point operations over the speed of a matrix product measured on this machine."""

import time
from collections.abc import Mapping
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp

from jaxft.base.sharding import current_mesh, mesh_size
from jaxft.data.splits import Texts
from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.models.options import Precision
from jaxft.models.products import matmul, on_accelerator, operand
from jaxft.optim.phases import Phase, Plan

EFFICIENCY: dict[Precision, float] = {"f32": 0.5, "bf16": 0.35}
"""share of the speed of a large matrix product that training reaches, as measured with the small preset on a CPU"""
ACCELERATOR_EFFICIENCY = 0.2
"""the same on an H200, with the sizes of the paper; more with larger batches"""


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


def product_speed(precision: Precision, size: int | None = None) -> float:
    """Floating-point operations per second of a matrix product of `size` rows and columns on this device.

    None takes as many as keep the device busy: 1,536 on a CPU and 8,192 elsewhere.
    """
    if size is None:
        size = 8192 if on_accelerator() else 1536
    x = operand(jnp.ones((size, size)), precision)
    timed = jax.jit(partial(matmul, precision=precision))
    timed(x, x).block_until_ready()
    started = time.perf_counter()
    for _ in range(3):
        timed(x, x).block_until_ready()
    return 3 * 2 * size**3 / (time.perf_counter() - started)


def stage_seconds(texts: Texts, plans: Mapping[str, tuple[Plan, int]], config: AWDLSTMConfig) -> dict[str, float]:
    """The estimated time of every stage and, where there are test texts, of the test.

    Args:
        texts: what the stages read.
        plans: the phases of each stage, and its steps per epoch.
        config: sizes and precision of the encoder.
    """
    lengths = texts.store.lengths
    trained = {
        "language_model": int(lengths[texts.lm_train].sum()),
        "classifier": int(lengths[texts.classifier_train].sum()),
    }
    evaluated = {"language_model": int(lengths[texts.lm_valid].sum()), "classifier": int(lengths[texts.dev].sum())}
    efficiency = ACCELERATOR_EFFICIENCY if on_accelerator() else EFFICIENCY[config.precision]
    devices = mesh_size(current_mesh()) if on_accelerator() else 1  # the efficiency on a CPU is that of all its cores
    speed = efficiency * product_speed(config.precision) * devices
    seconds = {}
    for stage, (plan, _) in plans.items():
        kind = stage.removesuffix("_backward")
        softmax = kind == "language_model"
        evaluation = evaluated[kind] * flops_per_token(config, softmax)
        flops = sum(
            phase.epochs * (trained[kind] * flops_per_token(config, softmax, phase) + evaluation) for phase in plan
        )
        seconds[stage] = flops / speed
    return {**seconds, "test": int(lengths[texts.test].sum()) * flops_per_token(config, softmax=False) / speed}
