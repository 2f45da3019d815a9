"""Averages of parameters: exponential (EMA), equal (SWA), and AWD-LSTM's averaged SGD (NT-ASGD).

Each factory returns an `Average`, a tuple of pure functions like an optax transformation; a training step keeps the
state of the average beside that of the optimizer. Training goes on with the raw parameters, and `value` returns the
averaged ones to evaluate. Every average is a running mean, $a \\leftarrow a + w_t (\\theta_t - a)$; they differ in the
weights $w_t$. Before it starts, an average equals the parameters, and the average of constant parameters equals them.
Averages are in float32 if parameters have fewer bits. With batch normalization, compute its statistics again for the
averaged parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxft.base.limits import INT32_MAX
from jaxft.optim.flax_serialization import register

PyTree = Any


class Average(NamedTuple):
    """An average of parameters as pure functions of its state; training goes on with the raw parameters.

    The functions work under `jax.jit` and in `jax.lax.scan`. Outside `jit`, `value` returns the float32 arrays of the
    state without a copy: copy them before the state is donated to a step.

    Attributes:
        init: `init(params)` returns a state that shares no buffer with `params`.
        update: `update(state, params, step)` returns the state with the parameters after step `step` added; steps count
            from 0, as for a schedule.
        value: `value(state)` returns the averaged parameters, in the dtypes of the parameters.
        observe: `observe(state, loss)` returns the state after an evaluation with this validation loss; only `nt_asgd`
            uses it.
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, jax.typing.ArrayLike], PyTree]
    value: Callable[[PyTree], PyTree]
    observe: Callable[[PyTree, jax.typing.ArrayLike], PyTree] = lambda state, loss: state


@partial(jax.tree_util.register_dataclass, data_fields=["mean", "count"], meta_fields=["dtypes"])
@dataclass(frozen=True)
class AverageState:
    """A running mean of parameters, the number of averaged updates, and the dtypes of the parameters.

    Attributes:
        mean: a pytree like the parameters, in float32 if they have fewer bits.
        count: () int32, how many updates have been averaged.
        dtypes: name of the dtype of each parameter, in the order of the leaves.
    """

    mean: PyTree
    count: jax.Array
    dtypes: tuple[str, ...]


class NTASGDState(NamedTuple):
    """The state of `nt_asgd`: the average, and the validation losses that decide when it starts.

    Attributes:
        average: the running mean.
        triggered: () bool, whether the average has started.
        best: () float32, the lowest of the losses before `recent`.
        recent: (patience,) float32, the last losses, oldest first.
    """

    average: AverageState
    triggered: jax.Array
    best: jax.Array
    recent: jax.Array


def ema(decay: float) -> Average:
    r"""Exponential moving average (EMA) of parameters with bias correction.

    With $w_t = (1 - d) / (1 - d^t)$ for the $t$-th update the running mean equals the debiased average
    $(1 - d) \sum_{i \le t} d^{t - i} \theta_i / (1 - d^t)$, which the initial parameters do not enter.

    Args:
        decay: $d$, from 0 (the last parameters) to below 1; the average spans about $1 / (1 - d)$ steps.

    Returns:
        An `Average`.

    Raises:
        ValueError: if `decay` is out of its range.

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
        raise ValueError(f"decay is {decay}: give a number from 0 to below 1")

    def update(state: AverageState, params: PyTree, step: jax.typing.ArrayLike) -> AverageState:
        del step
        t = (state.count + 1).astype(jnp.float32)
        # expm1 keeps the digits that 1 - 0.999**1 loses in float32.
        weight = (1.0 - decay) / -jnp.expm1(t * math.log(decay)) if decay else jnp.ones_like(t)
        return _weighted_step(state, params, weight, jnp.bool(True))

    return Average(_start, update, _value)


def swa(start_step: int, every: int = 1) -> Average:
    r"""Stochastic weight averaging (SWA): the mean of the parameters of every k-th step from a start step on.

    $$a = \frac{1}{n} \sum_{i < n} \theta_{s + i k}$$

    Before step $s$ the average equals the parameters. Use a constant or cyclic learning rate while averaging
    (`swa_schedule`).

    Args:
        start_step: $s$, the first step whose parameters are averaged; steps count from 0.
        every: $k$, in steps.

    Returns:
        An `Average`.

    Raises:
        ValueError: if an argument is out of its range.

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
    if not (0 <= start_step <= INT32_MAX and 1 <= every <= INT32_MAX):
        raise ValueError(
            f"start_step and every are {start_step} and {every}: give at least 0 and at least 1, and no more than "
            f"{INT32_MAX:,}"
        )

    def update(state: AverageState, params: PyTree, step: jax.typing.ArrayLike) -> AverageState:
        if isinstance(step, int) and step > INT32_MAX:
            raise ValueError(f"the step is {step}: steps are counted in 32 bits, up to {INT32_MAX:,}")
        step = jnp.asarray(step)
        due = (step >= start_step) & ((step - start_step) % every == 0)
        return _equal_step(state, params, due)

    return Average(_start, update, _value)


def nt_asgd(patience: int = 5) -> Average:
    r"""Non-monotonically triggered averaged SGD (NT-ASGD): averaging starts when validation stops improving.

    Call `observe` with every validation loss $v_k$. The average starts at the first evaluation $k$ with

    $$v_k > \min_{l < k - n} v_l,$$

    that is, with a loss above the lowest loss from more than $n$ evaluations before. Until then it equals the
    parameters. The paper uses plain SGD with a constant learning rate.

    Args:
        patience: $n$, in evaluations.

    Returns:
        An `Average` whose `observe` starts it.

    Raises:
        ValueError: if `patience` is below 1.

    Examples:
        >>> average = nt_asgd(patience=1)
        >>> state = average.init(jnp.array(0.0))
        >>> for step, (params, loss) in enumerate([(9.0, 4.0), (8.0, 5.0), (7.0, 6.0), (3.0, 6.0), (2.0, 6.0)]):
        ...     state = average.update(state, jnp.array(params), step)
        ...     state = average.observe(state, loss)
        >>> float(average.value(state))  # the third loss starts it: 6 > 4
        2.5

    References:
        Merity et al., `Regularizing and Optimizing LSTM Language Models <https://arxiv.org/abs/1708.02182>`_, 2018,
        algorithm 1.
    """
    if patience < 1:
        raise ValueError(f"patience is {patience}: give a number of evaluations, at least 1")

    def init(params: PyTree) -> NTASGDState:
        return NTASGDState(
            average=_start(params),
            triggered=jnp.zeros((), bool),
            best=jnp.full((), jnp.inf, jnp.float32),
            recent=jnp.full((patience,), jnp.inf, jnp.float32),
        )

    def update(state: NTASGDState, params: PyTree, step: jax.typing.ArrayLike) -> NTASGDState:
        del step
        return state._replace(average=_equal_step(state.average, params, state.triggered))

    def value(state: NTASGDState) -> PyTree:
        return _value(state.average)

    def observe(state: NTASGDState, loss: jax.typing.ArrayLike) -> NTASGDState:
        loss = jnp.asarray(loss, jnp.float32)
        return state._replace(
            triggered=state.triggered | (loss > state.best),
            best=jnp.fmin(state.best, state.recent[0]),  # after a NaN, jnp.minimum would stay NaN
            recent=jnp.append(state.recent[1:], loss),
        )

    return Average(init, update, value, observe)


def _start(params: PyTree) -> AverageState:
    register(AverageState, static=("dtypes",))

    def copy(p: jax.typing.ArrayLike) -> jax.Array:
        p = jnp.asarray(p)
        # A copy, because a train state with the same buffer twice cannot be donated.
        return jnp.array(p, dtype=_average_dtype(p.dtype), copy=True)

    dtypes = tuple(str(jnp.asarray(p).dtype) for p in jax.tree.leaves(params))
    return AverageState(jax.tree.map(copy, params), jnp.zeros((), jnp.int32), dtypes)


def _weighted_step(state: AverageState, params: PyTree, weight: jax.Array, due: jax.Array) -> AverageState:
    """Moves the mean towards the parameters by `weight`; integer parameters keep their last value."""

    def move(mean: jax.Array, p: jax.Array) -> jax.Array:
        p = jnp.asarray(p).astype(mean.dtype)
        if not jnp.issubdtype(mean.dtype, jnp.inexact):
            return p
        moved = jnp.where(weight < 1.0, mean + weight.astype(mean.dtype) * (p - mean), p)  # exact at weight 1
        # A constant parameter may be infinite; inf - inf and 0 * inf are NaN.
        return jnp.where((weight > 0.0) & (p != mean), moved, mean)

    return AverageState(jax.tree.map(move, state.mean, params), state.count + due.astype(jnp.int32), state.dtypes)


def _equal_step(state: AverageState, params: PyTree, due: jax.Array) -> AverageState:
    """Adds the parameters to an equal average if they are due; before the first sample it takes them all the same."""
    weight = 1.0 / (state.count + 1).astype(jnp.float32)
    return _weighted_step(state, params, jnp.where(due | (state.count == 0), weight, 0.0), due)


def _value(state: AverageState) -> PyTree:
    leaves, structure = jax.tree.flatten(state.mean)
    values = [leaf.astype(dtype) for leaf, dtype in zip(leaves, state.dtypes, strict=True)]
    return jax.tree.unflatten(structure, values)


def _average_dtype(dtype: jnp.dtype) -> jnp.dtype:
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if narrow else dtype
