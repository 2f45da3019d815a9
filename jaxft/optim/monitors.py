"""Monitors of evaluations: lower the learning rate on a plateau, and stop early.

A monitor is a pair of pure functions and a state of arrays that a run can save. Call `update` once per evaluation,
not once per training step, because patience counts the calls.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any


class Monitor(NamedTuple):
    """A monitor of evaluations: a pair of pure functions; call `update` once per evaluation.

    Attributes:
        init: `init(...)` returns a state of arrays, which a run can save.
        update: `update(state, value)` returns the state after one more evaluation, with the metric `value`.
    """

    init: Callable[..., Any]
    update: Callable[[Any, jax.typing.ArrayLike], Any]


def replay(monitor: Monitor, values: Iterable[jax.typing.ArrayLike]) -> Any:
    """Computes the state of a monitor after a sequence of evaluations.

    Args:
        monitor: a monitor.
        values: the metric of each evaluation so far.

    Returns:
        The state, from a fresh one (`monitor.init()`).

    Examples:
        >>> bool(replay(early_stopping(patience=1), [1.0, 2.0]).stop)
        True
    """
    state = monitor.init()
    for value in values:
        state = monitor.update(state, value)
    return state


class PlateauState(NamedTuple):
    """The state of `plateau`.

    Attributes:
        rate: () float32, the learning rate, or the factor for `rescale`, until the next evaluation.
        best: () float32, the best value so far.
        wait: () int32, evaluations without improvement.
        cooldown: () int32, evaluations until `wait` counts again.
    """

    rate: jax.Array
    best: jax.Array
    wait: jax.Array
    cooldown: jax.Array


class EarlyStoppingState(NamedTuple):
    """The state of `early_stopping`.

    Attributes:
        stop: () bool, whether to stop.
        best: () float32, the best value so far.
        best_evaluation: () int32, number of the evaluation with the best value, from 0; -1 before the first.
        evaluations: () int32, number of evaluations so far.
        wait: () int32, evaluations without improvement.
    """

    stop: jax.Array
    best: jax.Array
    best_evaluation: jax.Array
    evaluations: jax.Array
    wait: jax.Array


def plateau(
    factor: float = 0.1,
    patience: int = 10,
    min_delta: float = 1e-4,
    cooldown: int = 0,
    min_lr: float = 0.0,
    mode: str = "min",
) -> Monitor:
    """Lowers the learning rate when evaluations stop improving, as Keras' `ReduceLROnPlateau` does.

    After `patience` evaluations in a row that do not improve the best value by more than `min_delta`, the rate becomes
    `max(rate * factor, min_lr)`. Counting resumes with the `cooldown`-th evaluation after that. NaN is no improvement.

    `init(rate=1.0)` takes the initial learning rate, or, by default, starts with a factor of 1 for `rescale`.

    Args:
        factor: factor that lowers the rate, above 0 and below 1.
        patience: evaluations without improvement before the rate is lowered.
        min_delta: the least improvement that counts, in the unit of the value.
        cooldown: evaluations after the rate is lowered until counting resumes; 0 and 1 resume it at once.
        min_lr: the lowest rate, in the unit of the argument of `init`.
        mode: "min" if lower values are better, "max" if higher values are.

    Returns:
        A `Monitor` with a `PlateauState`; train with its `rate` until the next evaluation.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> monitor = plateau(factor=0.5, patience=2)
        >>> state = monitor.init(0.01)
        >>> for loss in [1.0, 0.8, 0.8, 0.9]:
        ...     state = monitor.update(state, loss)
        >>> round(float(state.rate), 6)
        0.005

    References:
        `ReduceLROnPlateau in Keras <https://keras.io/api/callbacks/reduce_lr_on_plateau>`_.
    """
    if not 0.0 < factor < 1.0:
        raise ValueError(f"factor is {factor}: give a number above 0 and below 1")
    if cooldown < 0 or not min_lr >= 0.0:
        raise ValueError(f"cooldown and min_lr are {cooldown} and {min_lr}: give numbers from 0")
    improves = _improvement_test(patience, min_delta, mode)

    def init(rate: float = 1.0) -> PlateauState:
        return PlateauState(jnp.asarray(rate, jnp.float32), _worst(mode), jnp.zeros((), jnp.int32), jnp.int32(0))

    def update(state: PlateauState, value: jax.typing.ArrayLike) -> PlateauState:
        value = jnp.asarray(value, jnp.float32)
        remaining_cooldown = jnp.maximum(state.cooldown - 1, 0)
        improved = improves(value, state.best)
        # As in Keras, waiting restarts during the cooldown and counts the evaluation that ends it.
        wait = jnp.where(state.cooldown > 0, 0, state.wait)
        wait = jnp.where(improved, 0, jnp.where(remaining_cooldown > 0, wait, wait + 1))
        lowered = (wait >= patience) & (state.rate > min_lr)
        return PlateauState(
            rate=jnp.where(lowered, jnp.maximum(state.rate * factor, min_lr), state.rate),
            best=jnp.where(improved, value, state.best),
            wait=jnp.where(lowered, 0, wait),
            cooldown=jnp.where(lowered, cooldown, remaining_cooldown),
        )

    return Monitor(init, update)


def early_stopping(patience: int, min_delta: float = 0.0, mode: str = "min") -> Monitor:
    """Stops training after a number of evaluations in a row without improvement, as Keras' `EarlyStopping` does.

    Keep the checkpoint of `best_evaluation`. NaN is no improvement. As in Keras, the first evaluation never stops. Once
    `stop` is true it stays true.

    Args:
        patience: evaluations without improvement before training stops, at least 1.
        min_delta: the least improvement that counts, in the unit of the value.
        mode: "min" if lower values are better, "max" if higher values are.

    Returns:
        A `Monitor` with an `EarlyStoppingState`; stop training when its `stop` is true.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> monitor = early_stopping(patience=2, mode="max")
        >>> state = monitor.init()
        >>> for accuracy in [0.90, 0.93, 0.92, 0.93]:
        ...     state = monitor.update(state, accuracy)
        >>> bool(state.stop), int(state.best_evaluation)
        (True, 1)

    References:
        `EarlyStopping in Keras <https://keras.io/api/callbacks/early_stopping>`_.
    """
    improves = _improvement_test(patience, min_delta, mode)

    def init() -> EarlyStoppingState:
        return EarlyStoppingState(
            stop=jnp.zeros((), bool),
            best=_worst(mode),
            best_evaluation=jnp.full((), -1, jnp.int32),
            evaluations=jnp.zeros((), jnp.int32),
            wait=jnp.zeros((), jnp.int32),
        )

    def update(state: EarlyStoppingState, value: jax.typing.ArrayLike) -> EarlyStoppingState:
        value = jnp.asarray(value, jnp.float32)
        improved = improves(value, state.best)
        wait = jnp.where(improved, 0, state.wait + 1)
        return EarlyStoppingState(
            stop=state.stop | ((wait >= patience) & (state.evaluations > 0)),
            best=jnp.where(improved, value, state.best),
            best_evaluation=jnp.where(improved, state.evaluations, state.best_evaluation),
            evaluations=state.evaluations + 1,
            wait=wait,
        )

    return Monitor(init, update)


def _improvement_test(patience: int, min_delta: float, mode: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Makes a function of a value and the best one before it, whether the value is better; checks the arguments."""
    if patience < 1:
        raise ValueError(f"patience is {patience}: give a number of evaluations, at least 1")
    if not min_delta >= 0.0:
        raise ValueError(f"min_delta is {min_delta}: give a number from 0")
    if mode not in ("min", "max"):
        raise ValueError(f"mode is {mode!r}: give 'min' or 'max'")
    if mode == "min":
        return lambda value, best: value < best - min_delta
    return lambda value, best: value > best + min_delta


def _worst(mode: str) -> jax.Array:
    return jnp.full((), jnp.inf if mode == "min" else -jnp.inf, jnp.float32)
