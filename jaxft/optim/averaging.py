"""Averages of parameters: exponential, equal (SWA), and the averaged SGD that AWD-LSTM switches on when it stalls.

Each factory gives an `Average`, a triple of pure functions like an optax transformation, for a training step to carry
beside the optimizer state. Training goes on with the raw weights; `value` gives the ones to evaluate. All three are
one running mean, $a \\leftarrow a + w_t (\\theta_t - a)$, with different weights $w_t$, so an average never differs
from its parameters before it starts, and parameters that stand still are averaged to themselves. Averages are kept in
float32 where parameters have fewer bits. A model with batch normalisation needs its statistics computed again for the
averaged weights.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any


class Average(NamedTuple):
    """An average of parameters as pure functions, for a training step to carry; the raw weights go on training.

    All work under `jax.jit` and in `jax.lax.scan`. Outside `jit`, `value` hands out the float32 arrays of the state
    themselves: copy what has to outlive the state, whose arrays are gone once a step has been given them (donated).

    Attributes:
        init: `init(params)` gives a state that shares no buffer with `params`.
        update: `update(state, params, step)` takes in the parameters that step `step` produced; steps count from 0, as
            for a schedule.
        value: `value(state)` gives the averaged parameters in the dtypes of the original.
        observe: `observe(state, loss)` tells the average of a validation loss, which only `nt_asgd` heeds.
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, jax.typing.ArrayLike], PyTree]
    value: Callable[[PyTree], PyTree]
    observe: Callable[[PyTree, jax.typing.ArrayLike], PyTree] = lambda state, loss: state


@partial(jax.tree_util.register_dataclass, data_fields=["mean", "count"], meta_fields=["dtypes"])
@dataclass(frozen=True)
class AverageState:
    """A running mean of parameters, how many went into it, and the dtypes to give them back in.

    Attributes:
        mean: the parameters' pytree, in float32 where they have fewer bits.
        count: () int32.
        dtypes: names, of the leaves in order.
    """

    mean: PyTree
    count: jax.Array
    dtypes: tuple[str, ...]


class NTASGDState(NamedTuple):
    """The state of `nt_asgd`: the average, and the validation losses that decide when it starts.

    Attributes:
        average: the running mean.
        triggered: () bool.
        best: () float32, the lowest of the losses older than `recent`.
        recent: (patience,) float32, the last losses, oldest first.
    """

    average: AverageState
    triggered: jax.Array
    best: jax.Array
    recent: jax.Array


def ema(decay: float) -> Average:
    r"""Exponential moving average of parameters, corrected for its start.

    With $w_t = (1 - d) / (1 - d^t)$ for the $t$-th update the running mean equals the debiased average
    $(1 - d) \sum_{i \le t} d^{t - i} \theta_i / (1 - d^t)$: the initial parameters have no share in it.

    Args:
        decay: $d$, from 0 (the last parameters) to below 1; remembers some $1 / (1 - d)$ steps.

    Returns:
        An `Average`.

    Raises:
        ValueError: where `decay` is out of its range.

    Examples:
        >>> average = ema(0.9)
        >>> state = average.init(jnp.array(0.0))
        >>> for step, params in enumerate([1.0, 2.0]):
        ...     state = average.update(state, jnp.array(params), step)
        >>> round(float(average.value(state)), 6)  # (0.09 * 1 + 0.1 * 2) / 0.19
        1.526316

    References:
        Kingma and Ba, `Adam <https://arxiv.org/abs/1412.6980>`_, 2015, sections 3 and 7.2.
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay is from 0 to below 1, not {decay}")

    def update(state: AverageState, params: PyTree, step: jax.typing.ArrayLike) -> AverageState:
        del step
        t = (state.count + 1).astype(jnp.float32)
        # expm1 keeps the digits that 1 - 0.999**1 loses in float32.
        weight = (1.0 - decay) / -jnp.expm1(t * math.log(decay)) if decay else jnp.ones_like(t)
        return _toward(state, params, weight, jnp.bool(True))

    return Average(_start, update, _value)


def swa(start_step: int, every: int = 1) -> Average:
    r"""Stochastic weight averaging: the equal average of the parameters of every k-th step from a start step on.

    $$a = \frac{1}{n} \sum_{i < n} \theta_{s + i k}$$

    Before step $s$ the average follows the parameters. Train with a constant or cyclic learning rate while averaging
    (`swa_schedule`).

    Args:
        start_step: $s$, the first step whose parameters are averaged; steps count from 0.
        every: $k$, in steps.

    Returns:
        An `Average`.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> average = swa(start_step=1, every=2)
        >>> state = average.init(jnp.array(0.0))
        >>> for step, params in enumerate([9.0, 1.0, 9.0, 2.0]):
        ...     state = average.update(state, jnp.array(params), step)
        >>> float(average.value(state))
        1.5

    References:
        Izmailov et al., `Averaging Weights Leads to Wider Optima and Better Generalization
        <https://arxiv.org/abs/1803.05407>`_, 2018.
    """
    if start_step < 0 or every < 1:
        raise ValueError(f"start_step is at least 0 and every at least 1, not {start_step} and {every}")

    def update(state: AverageState, params: PyTree, step: jax.typing.ArrayLike) -> AverageState:
        step = jnp.asarray(step)
        due = (step >= start_step) & ((step - start_step) % every == 0)
        return _equal(state, params, due)

    return Average(_start, update, _value)


def nt_asgd(patience: int = 5) -> Average:
    r"""Non-monotonically triggered averaged SGD: average all parameters once validation stops improving.

    Give every validation loss to `observe`. The average starts with the first loss that is above the lowest of all
    losses at least `patience` evaluations older:

    $$v_k > \min_{l < k - n} v_l.$$ Before that it follows the parameters. The paper runs it with plain SGD at a
    constant learning rate.

    Args:
        patience: $n$, in evaluations.

    Returns:
        An `Average` whose `observe` matters.

    Raises:
        ValueError: where `patience` is below 1.

    Examples:
        >>> average = nt_asgd(patience=1)
        >>> state = average.init(jnp.array(0.0))
        >>> for step, (params, loss) in enumerate([(9.0, 4.0), (8.0, 5.0), (7.0, 6.0), (3.0, 6.0), (2.0, 6.0)]):
        ...     state = average.update(state, jnp.array(params), step)
        ...     state = average.observe(state, loss)
        >>> float(average.value(state))  # 6 > 4, an evaluation older than the last: average what follows
        2.5

    References:
        Merity et al., `Regularizing and Optimizing LSTM Language Models <https://arxiv.org/abs/1708.02182>`_, 2018,
        algorithm 1.
    """
    if patience < 1:
        raise ValueError(f"patience counts evaluations, at least 1, not {patience}")

    def init(params: PyTree) -> NTASGDState:
        return NTASGDState(
            average=_start(params),
            triggered=jnp.zeros((), bool),
            best=jnp.full((), jnp.inf, jnp.float32),
            recent=jnp.full((patience,), jnp.inf, jnp.float32),
        )

    def update(state: NTASGDState, params: PyTree, step: jax.typing.ArrayLike) -> NTASGDState:
        del step
        return state._replace(average=_equal(state.average, params, state.triggered))

    def value(state: NTASGDState) -> PyTree:
        return _value(state.average)

    def observe(state: NTASGDState, loss: jax.typing.ArrayLike) -> NTASGDState:
        loss = jnp.asarray(loss, jnp.float32)
        return state._replace(
            triggered=state.triggered | (loss > state.best),
            best=jnp.fmin(state.best, state.recent[0]),  # not minimum: one NaN would disarm the trigger for good
            recent=jnp.append(state.recent[1:], loss),
        )

    return Average(init, update, value, observe)


def _start(params: PyTree) -> AverageState:
    def copy(p: jax.typing.ArrayLike) -> jax.Array:
        p = jnp.asarray(p)
        # A real copy: the same buffer twice in a train state cannot be donated.
        return jnp.array(p, dtype=_wide(p.dtype), copy=True)

    dtypes = tuple(str(jnp.asarray(p).dtype) for p in jax.tree.leaves(params))
    return AverageState(jax.tree.map(copy, params), jnp.zeros((), jnp.int32), dtypes)


def _toward(state: AverageState, params: PyTree, weight: jax.Array, due: jax.Array) -> AverageState:
    """Moves the mean towards the parameters by `weight`; what is not a real number takes the last value."""

    def move(mean: jax.Array, p: jax.Array) -> jax.Array:
        p = jnp.asarray(p).astype(mean.dtype)
        if not jnp.issubdtype(mean.dtype, jnp.floating):
            return p
        moved = jnp.where(weight < 1.0, mean + weight.astype(mean.dtype) * (p - mean), p)  # at 1 the sum would round
        # What stands still may be infinite, of which the difference is NaN; so is 0 times it.
        return jnp.where((weight > 0.0) & (p != mean), moved, mean)

    return AverageState(jax.tree.map(move, state.mean, params), state.count + due.astype(jnp.int32), state.dtypes)


def _equal(state: AverageState, params: PyTree, due: jax.Array) -> AverageState:
    """The next step of an equal average; without a first sample it follows the parameters."""
    share = 1.0 / (state.count + 1).astype(jnp.float32)
    return _toward(state, params, jnp.where(due | (state.count == 0), share, 0.0), due)


def _value(state: AverageState) -> PyTree:
    leaves, structure = jax.tree.flatten(state.mean)
    cast = [leaf.astype(dtype) for leaf, dtype in zip(leaves, state.dtypes, strict=True)]
    return jax.tree.unflatten(structure, cast)


def _wide(dtype: jnp.dtype) -> jnp.dtype:
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if narrow else dtype
