"""Gradient accumulation that equals the large batch: micro-batches weigh as many tokens as they hold.

A training step calls `accumulate_gradients` where it would call `jax.value_and_grad` (`make_train_step` does, where it
is told so), and the optimizer sees one gradient per step, so that schedules, averages and logs count optimizer steps
and nothing needs a factor.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
LossFn = Callable[[PyTree, PyTree, PyTree, jax.Array | None], tuple[jax.Array, tuple[PyTree, Mapping[str, jax.Array]]]]
GradFn = Callable[
    [PyTree, PyTree, PyTree, jax.Array | None],
    tuple[tuple[jax.Array, tuple[PyTree, Mapping[str, jax.Array]]], PyTree],
]


def accumulate_gradients(
    loss_fn: LossFn, num_microbatches: int, weight: str = "tokens", carry_axis: int | None = None
) -> GradFn:
    r"""The value and gradient of a loss over a batch that is worked through in equal slices, one after another.

    With $w_i$ the number of tokens in slice $i$ and $l_i$ its mean loss,

    $$l = \sum_i w_i l_i / \sum_i w_i,$$

    which is the mean over all tokens of the batch, and likewise for the gradient; the mean of means is neither where
    slices differ in padding. Sums are in float32. At any time one slice's activations are in memory. For a step that
    accumulates: `make_train_step(..., value_and_grad=functools.partial(accumulate_gradients, num_microbatches=4))`.

    Args:
        loss_fn: `loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))` with a loss that is a mean over
            `metrics[weight]` tokens (or examples, or whatever it counts).
        num_microbatches: slices along the first axis of every array of the batch, which it must divide.
        weight: name of the metric that counts what the loss is a mean of.
        carry_axis: the batch axis of every array of the carry, which is then sliced with the batch (BPTT state);
            `None` hands the whole carry from one slice to the next (batch statistics).

    Returns:
        A function of the arguments of `loss_fn` that gives `((loss, (carry, metrics)), gradients)`, like
        `jax.value_and_grad(loss_fn, has_aux=True)`, which one slice is. Metrics of an integer type and
        `metrics[weight]` are summed over slices, others are weighted means. Each slice has a key of its own.

    Raises:
        ValueError: where the slices do not divide the batch or the metric is missing.

    Examples:
        >>> def loss_fn(params, carry, batch, key):
        ...     tokens = batch["mask"].sum()
        ...     return (params * batch["x"] * batch["mask"]).sum() / tokens, (carry, {"tokens": tokens})
        >>> batch = {"x": jnp.array([1.0, 2.0, 6.0, 5.0]), "mask": jnp.array([1.0, 1.0, 1.0, 0.0])}
        >>> (loss, (_, metrics)), grads = accumulate_gradients(loss_fn, 2)(jnp.array(1.0), (), batch, None)
        >>> float(loss), float(grads), float(metrics["tokens"])  # not the mean of 1.5 and 6
        (3.0, 3.0, 3.0)
    """
    if num_microbatches < 1:
        raise ValueError(f"a batch has at least one slice, not {num_microbatches}")

    def weighed(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        loss, (carry, metrics) = loss_fn(params, carry, batch, key)
        if weight not in metrics:
            raise ValueError(f"the loss function counts no {weight!r} among its metrics: {', '.join(sorted(metrics))}")
        return loss, (carry, metrics)

    value_and_grad = jax.value_and_grad(weighed, has_aux=True)
    if num_microbatches == 1:
        return value_and_grad

    split = carry_axis is not None
    axis = carry_axis or 0

    def accumulated(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        def body(state: tuple[PyTree, PyTree], xs: tuple[jax.Array, PyTree, PyTree]) -> tuple[Any, Any]:
            (total, shared), (i, batch, own) = state, xs
            slice_key = None if key is None else jax.random.fold_in(key, i)
            (loss, (carry, metrics)), grads = value_and_grad(params, own if split else shared, batch, slice_key)
            w = metrics[weight].astype(jnp.float32)
            total = jax.tree.map(lambda t, g: t + _weighted(g, w), total, grads)
            return (total, None if split else carry), (loss, w, metrics, carry if split else None)

        batches = jax.tree.map(partial(_slices, axis=0, number=num_microbatches), batch)
        own = jax.tree.map(partial(_slices, axis=axis, number=num_microbatches), carry) if split else None
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        (total, shared), (losses, ws, metrics, own) = jax.lax.scan(
            body, (zeros, None if split else carry), (jnp.arange(num_microbatches), batches, own)
        )
        weights = ws.sum()

        def mean(values: jax.Array) -> jax.Array:
            return jax.vmap(_weighted)(values, ws).sum(0) / weights

        metrics = {
            name: values.sum(0) if name == weight or jnp.issubdtype(values.dtype, jnp.integer) else mean(values)
            for name, values in metrics.items()
        }
        carry = jax.tree.map(partial(_joined, axis=axis), own) if split else shared
        return (mean(losses), (carry, metrics)), jax.tree.map(lambda t, p: (t / weights).astype(p.dtype), total, params)

    return accumulated


def _weighted(x: jax.Array, w: jax.Array) -> jax.Array:
    """`w * x`; the mean over a slice without tokens is NaN and counts for nothing."""
    return jnp.where(w > 0.0, w * x.astype(jnp.float32), 0.0)


def _slices(x: jax.Array, axis: int, number: int) -> jax.Array:
    """(..., B, ...) -> (number, ..., B / number, ...)."""
    if x.ndim <= axis or x.shape[axis] % number:
        raise ValueError(f"{number} slices do not divide axis {axis} of an array of shape {x.shape}")
    parts = x.reshape(*x.shape[:axis], number, x.shape[axis] // number, *x.shape[axis + 1 :])
    return jnp.moveaxis(parts, axis, 0)


def _joined(x: jax.Array, axis: int) -> jax.Array:
    """The inverse of `_slices`."""
    parts = jnp.moveaxis(x, 0, axis)
    return parts.reshape(*parts.shape[:axis], -1, *parts.shape[axis + 2 :])
