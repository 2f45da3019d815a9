"""The train step as a pure function: `TrainState` and `make_train_step`.

A loss function `loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))` is all that the step knows of a model;
`carry` is state that passes from step to step without being trained: a recurrent state, batch statistics, or `()`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxft.optim.averaging import Average
from jaxft.optim.discriminative import DiscriminativeState, applied_metrics
from jaxft.optim.flax_serialization import register
from jaxft.optim.whole_batch import GradFn, LossFn
from jaxft.optim.whole_batch import value_and_grad as whole_value_and_grad


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that a step changes, and nothing else: a pytree to donate, save and restore.

    Attributes:
        step: () int32, steps taken, skipped ones included.
        params: the parameters that train.
        opt_state: the state of the optax transformation.
        carry: state that passes from step to step without being trained.
        average: the state of the parameter average, `()` where there is none.
        key: () PRNG key of the run; step n uses `fold_in(key, n)`.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    carry: Any
    average: Any
    key: jax.Array

    @classmethod
    def create(
        cls,
        params: Any,
        tx: optax.GradientTransformation,
        *,
        key: jax.Array,
        carry: Any = (),
        average: Average | None = None,
    ) -> "TrainState":
        """A state at step 0 with fresh optimizer state and average.

        Args:
            params: a pytree of arrays; the state holds them, so donating it gives them away. An array that stands for
                two parameters is copied for the second.
            tx: the optax transformation whose state to make.
            key: a typed PRNG key, as from `jax.random.key`.
            carry: what else lives from step to step.
            average: the average that the step will update.

        Returns:
            A state whose arrays share no buffer with each other, so that it can be donated; those of `params`, `carry`
            and `key` are the caller's.

        Examples:
            >>> state = TrainState.create({"w": jnp.ones(2)}, optax.sgd(0.1), key=jax.random.key(0))
            >>> int(state.step)
            0
        """
        register(cls)
        state = cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=tx.init(params),
            carry=carry,
            average=() if average is None else average.init(params),
            key=key,
        )
        return _without_shared_buffers(state)


def make_train_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    average: Average | None = None,
    value_and_grad: Callable[[LossFn], GradFn] | None = None,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """Makes the pure step `(state, batch) -> (state, metrics)`; jit it with the state donated.

    Metrics are what `loss_fn` returns, `loss`, and, with `jaxft.discriminative`, the rates that were applied
    (`lr/<group>`), the gradient norm where it is known, and the count of skipped updates. A step whose loss is not
    finite leaves the carry as it was; a step that `jaxft.discriminative` skips leaves the average as it was.

    Args:
        loss_fn: `(params, carry, batch, key) -> (loss, (carry, metrics))`; the loss is a float32 scalar, metrics a dict
            of scalars.
        tx: an optax transformation. One that takes them, such as `optax.lbfgs` or `optax.polyak_sgd`, is given the loss
            as `value`, the gradients as `grad`, and the loss as a function of the parameters as `value_fn`.
        average: an average of the parameters to keep in the state; None for none.
        value_and_grad: turns `loss_fn` into a function that returns `((loss, (carry, metrics)), gradients)`, for
            example `functools.partial(accumulate_gradients, num_microbatches=4)`; None for `jax.value_and_grad`.

    Returns:
        The step; step n draws from `fold_in(state.key, n)`.

    Examples:
        >>> def loss_fn(params, carry, batch, key):
        ...     return jnp.mean((batch - params["w"]) ** 2), (carry, {})
        >>> tx = optax.sgd(0.5)
        >>> step = jax.jit(make_train_step(loss_fn, tx), donate_argnums=0)
        >>> state = TrainState.create({"w": jnp.zeros(())}, tx, key=jax.random.key(0))
        >>> state, metrics = step(state, jnp.full(3, 2.0))
        >>> float(state.params["w"]), float(metrics["loss"])
        (2.0, 4.0)
    """
    grad_fn: GradFn = (value_and_grad or whole_value_and_grad)(loss_fn)
    takes = _extra_arguments(tx)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(state.key, state.step)
        (loss, (carry, metrics)), gradients = grad_fn(state.params, state.carry, batch, key)
        extra = {
            "value": loss,
            "grad": gradients,
            "value_fn": lambda params: loss_fn(params, state.carry, batch, key)[0],
        }
        computes_rates = isinstance(state.opt_state, DiscriminativeState)
        if computes_rates:  # it would compile a new function at every step
            del extra["grad"], extra["value_fn"]
        extra = {name: argument for name, argument in extra.items() if takes(name)}
        updates, opt_state = tx.update(gradients, state.opt_state, state.params, **extra)
        params: Any = optax.apply_updates(state.params, updates)
        applied = applied_metrics(opt_state)
        averaged = () if average is None else average.update(state.average, params, state.step)
        moved = TrainState(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            carry=_where(jnp.isfinite(loss), carry, state.carry),
            # An equal average would count the weights of a skipped step twice.
            average=_where(applied.get("skipped_in_a_row", 0) == 0, averaged, state.average),
            key=state.key,
        )
        return moved, {"loss": loss, **applied, **metrics}

    return step


def _extra_arguments(tx: optax.GradientTransformation) -> Callable[[str], bool]:
    """Whether the update of a transformation takes an extra argument of a name."""
    if not isinstance(tx, optax.GradientTransformationExtraArgs):
        return lambda name: False
    parameters = inspect.signature(tx.update).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return lambda name: True
    return parameters.__contains__


def _without_shared_buffers(state: TrainState) -> TrainState:
    """The state with a copy in place of every array that it holds a second time, which donation does not allow."""
    seen: set[int] = set()

    def once(leaf: Any) -> Any:
        if id(leaf) in seen and isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer):
            return jnp.copy(leaf)
        seen.add(id(leaf))
        return leaf

    return jax.tree.map(once, state)


def _where(condition: jax.typing.ArrayLike, new: Any, old: Any) -> Any:
    return jax.tree.map(partial(jnp.where, condition), new, old)


def make_eval_step(loss_fn: LossFn) -> Callable[[Any, Any, Any], tuple[Any, dict[str, jax.Array]]]:
    """Makes the pure step `(params, carry, batch) -> (carry, metrics)`: the loss without dropout.

    Examples:
        >>> def loss_fn(params, carry, batch, key):
        ...     return jnp.mean((batch - params) ** 2), (carry, {})
        >>> make_eval_step(loss_fn)(jnp.zeros(()), (), jnp.full(3, 2.0))
        ((), {'loss': Array(4., dtype=float32)})
    """

    def step(params: Any, carry: Any, batch: Any) -> tuple[Any, dict[str, jax.Array]]:
        loss, (carry, metrics) = loss_fn(params, carry, batch, None)
        return carry, {"loss": loss, **metrics}

    return step
