"""Controllers that watch evaluations: lower the learning rate on a plateau, stop when nothing improves.

Each is a pair of pure functions and a state of arrays, to be saved with the run. Call `update` once per evaluation,
never per training step: the patience of a controller fed every step is over at once.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any


class Monitor(NamedTuple):
    """A controller: a pair of pure functions. Call `update` once per evaluation, never per training step.

    Attributes:
        init: `init(...)` gives a state of arrays, to be saved with the run.
        update: `update(state, value)` gives the state after one more evaluation, of which `value` is the metric.
    """

    init: Callable[..., Any]
    update: Callable[[Any, jax.typing.ArrayLike], Any]


def replay(monitor: Monitor, values: Iterable[jax.typing.ArrayLike]) -> Any:
    """The state of a controller after these values, one for each evaluation so far.

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
        rate: () float32, what it is for: the learning rate, or the factor for `rescale`.
        best: () float32, the best value so far.
        wait: () int32, evaluations without improvement.
        cooldown: () int32, evaluations for which no waiting is counted.
    """

    rate: jax.Array
    best: jax.Array
    wait: jax.Array
    cooldown: jax.Array


class EarlyStoppingState(NamedTuple):
    """The state of `early_stopping`.

    Attributes:
        stop: () bool, what it is for.
        best: () float32, the best value so far.
        best_evaluation: () int32, which evaluation, counted from 0, had it; -1 before there is one.
        evaluations: () int32, how many there were.
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
    """Lowers a rate when evaluations stop improving, with the meaning of Keras' `ReduceLROnPlateau`.

    After `patience` evaluations in a row that do not better the best by more than `min_delta`, the rate becomes
    `max(rate * factor, min_lr)`. For `cooldown` evaluations after that none is counted. NaN is no improvement.

    `init(rate=1.0)` starts from a learning rate or, with the default, from a factor for `rescale`; `update` is called
    once per evaluation, for a plateau fed every training step is over at once.

    Args:
        factor: what the rate is multiplied with, from above 0 to below 1.
        patience: evaluations without improvement before the rate falls.
        min_delta: the least improvement that counts, in units of the value.
        cooldown: evaluations after a fall during which no waiting is counted.
        min_lr: the lowest rate, in the unit of `init`: with a factor for `rescale`, the lowest factor.
        mode: "min" where lower values are better, "max" where higher ones are.

    Returns:
        A `Monitor` with a `PlateauState`; its `rate` is what to train with until the next evaluation.

    Raises:
        ValueError: where an argument is out of its range.

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
        raise ValueError(f"factor is between 0 and 1, not {factor}")
    if cooldown < 0 or not min_lr >= 0.0:
        raise ValueError(f"cooldown and min_lr are not negative, unlike {cooldown} and {min_lr}")
    better = _better(patience, min_delta, mode)

    def init(rate: float = 1.0) -> PlateauState:
        return PlateauState(jnp.asarray(rate, jnp.float32), _worst(mode), jnp.zeros((), jnp.int32), jnp.int32(0))

    def update(state: PlateauState, value: jax.typing.ArrayLike) -> PlateauState:
        value = jnp.asarray(value, jnp.float32)
        cooling = jnp.maximum(state.cooldown - 1, 0)
        improved = better(value, state.best)
        # Waiting restarts while it cools, and on the evaluation on which cooling ends.
        wait = jnp.where(state.cooldown > 0, 0, state.wait)
        wait = jnp.where(improved, 0, jnp.where(cooling > 0, wait, wait + 1))
        falls = (wait >= patience) & (state.rate > min_lr)
        return PlateauState(
            rate=jnp.where(falls, jnp.maximum(state.rate * factor, min_lr), state.rate),
            best=jnp.where(improved, value, state.best),
            wait=jnp.where(falls, 0, wait),
            cooldown=jnp.where(falls, cooldown, cooling),
        )

    return Monitor(init, update)


def early_stopping(patience: int, min_delta: float = 0.0, mode: str = "min") -> Monitor:
    """Says when to stop: after so many evaluations in a row without improvement.

    Keep the checkpoint of `best_evaluation`. NaN is no improvement. The first evaluation never stops, as in Keras. A
    state that says stop goes on saying it.

    Args:
        patience: evaluations without improvement before it says stop, at least 1.
        min_delta: the least improvement that counts, in units of the value.
        mode: "min" where lower values are better, "max" where higher ones are.

    Returns:
        A `Monitor` with an `EarlyStoppingState`; its `stop` says whether to.

    Raises:
        ValueError: where an argument is out of its range.

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
    better = _better(patience, min_delta, mode)

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
        improved = better(value, state.best)
        wait = jnp.where(improved, 0, state.wait + 1)
        return EarlyStoppingState(
            stop=state.stop | ((wait >= patience) & (state.evaluations > 0)),
            best=jnp.where(improved, value, state.best),
            best_evaluation=jnp.where(improved, state.evaluations, state.best_evaluation),
            evaluations=state.evaluations + 1,
            wait=wait,
        )

    return Monitor(init, update)


def _better(patience: int, min_delta: float, mode: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    if patience < 1:
        raise ValueError(f"patience counts evaluations, at least 1, not {patience}")
    if not min_delta >= 0.0:
        raise ValueError(f"min_delta is not negative, unlike {min_delta}")
    if mode not in ("min", "max"):
        raise ValueError(f"mode is 'min' or 'max', not {mode!r}")
    if mode == "min":
        return lambda value, best: value < best - min_delta
    return lambda value, best: value > best + min_delta


def _worst(mode: str) -> jax.Array:
    return jnp.full((), jnp.inf if mode == "min" else -jnp.inf, jnp.float32)
