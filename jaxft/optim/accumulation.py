"""Gradient accumulation with the same result as the large batch: microbatches are weighted by their tokens.

`accumulate_gradients` takes the place of `jax.value_and_grad`, for example in `jaxft.make_train_step`. The optimizer
sees one gradient per step, so schedules, averages and logs count optimizer steps.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.optim.whole_batch import GradFn, LossFn, PyTree, of_whole_batch


def accumulate_gradients(
    loss_fn: LossFn, num_microbatches: int, weight: str = "tokens", carry_axis: int | None = None
) -> GradFn:
    r"""Computes the loss of a batch and its gradients one microbatch at a time, to save memory.

    With $w_i$ the number of tokens in microbatch $i$ and $l_i$ its mean loss,

    $$l = \sum_i w_i l_i / \sum_i w_i,$$

    which is the mean over all tokens of the batch; the gradients are weighted likewise. The mean of the $l_i$ differs
    from it if microbatches differ in padding. Sums are in float32. Only one microbatch has its activations in memory.
    A step that accumulates is
    `make_train_step(..., value_and_grad=functools.partial(accumulate_gradients, num_microbatches=4))`.

    Args:
        loss_fn: `loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))` with a loss that is a mean over
            `metrics[weight]` tokens, or examples.
        num_microbatches: how many microbatches to split every array of the batch into, along its first axis, whose
            size must be a multiple of it.
        weight: name of the metric that counts the tokens, or examples, that the loss is a mean over.
        carry_axis: the batch axis of every array of the carry, which is then split like the batch (BPTT state);
            `None` hands the whole carry from one microbatch to the next (batch statistics).

    Returns:
        A function of the arguments of `loss_fn` that returns `((loss, (carry, metrics)), gradients)`, as
        `jax.value_and_grad(loss_fn, has_aux=True)` does. Integer metrics and `metrics[weight]` are sums over the
        microbatches, other metrics are weighted means. Microbatch i uses the key `fold_in(key, i)`; a single
        microbatch uses `key`.

    Raises:
        ValueError: if the batch cannot be split equally, or the metric is missing.

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
        raise ValueError(f"num_microbatches is {num_microbatches}: give at least 1")

    def checked_loss_fn(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        loss, (carry, metrics) = loss_fn(params, carry, batch, key)
        if weight not in metrics:
            raise ValueError(
                f"the metrics of the loss function have no {weight!r}: return it, or set weight to one of "
                f"{', '.join(sorted(metrics))}"
            )
        return loss, (carry, metrics)

    value_and_grad = jax.value_and_grad(checked_loss_fn, has_aux=True)
    if num_microbatches == 1:
        return lambda params, carry, batch, key: of_whole_batch(value_and_grad(params, carry, batch, key), weight)

    split_carry = carry_axis is not None
    axis = carry_axis or 0

    def accumulated(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        def body(state: tuple[PyTree, PyTree], xs: tuple[jax.Array, PyTree, PyTree]) -> tuple[Any, Any]:
            (total, shared), (i, batch, part) = state, xs
            microbatch_key = None if key is None else jax.random.fold_in(key, i)
            (loss, (carry, metrics)), grads = value_and_grad(
                params, part if split_carry else shared, batch, microbatch_key
            )
            w = metrics[weight].astype(jnp.float32)
            total = jax.tree.map(lambda t, g: t + _weighted(g, w), total, grads)
            return (total, None if split_carry else carry), (loss, w, metrics, carry if split_carry else None)

        batches = jax.tree.map(partial(_split, axis=0, number=num_microbatches), batch)
        parts = jax.tree.map(partial(_split, axis=axis, number=num_microbatches), carry) if split_carry else None
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, _sum_dtype(p)), params)
        (total, shared), (losses, ws, metrics, parts) = jax.lax.scan(
            body, (zeros, None if split_carry else carry), (jnp.arange(num_microbatches), batches, parts)
        )
        weights = ws.sum()

        def mean(values: jax.Array) -> jax.Array:
            total = jax.vmap(_weighted)(values, ws).sum(0)
            return total / weights.astype(total.dtype)

        metrics = {
            name: values.sum(0) if name == weight or jnp.issubdtype(values.dtype, jnp.integer) else mean(values)
            for name, values in metrics.items()
        }
        carry = jax.tree.map(partial(_joined, axis=axis), parts) if split_carry else shared
        grads = jax.tree.map(lambda t, p: (t / weights.astype(t.dtype)).astype(p.dtype), total, params)
        return of_whole_batch(((mean(losses), (carry, metrics)), grads), weight)

    return accumulated


def _weighted(x: jax.Array, w: jax.Array) -> jax.Array:
    """`w * x`, and 0 for a microbatch without tokens, whose mean is NaN."""
    x = x.astype(_sum_dtype(x))
    return jnp.where(w > 0.0, w.astype(x.dtype) * x, 0.0)


def _sum_dtype(x: jax.Array) -> jnp.dtype:
    """The dtype of a sum: float32, or that of a complex array."""
    return x.dtype if jnp.iscomplexobj(x) else jnp.dtype(jnp.float32)


def _split(x: jax.Array, axis: int, number: int) -> jax.Array:
    """(..., B, ...) -> (number, ..., B / number, ...)."""
    if not hasattr(x, "shape"):
        raise ValueError(f"{x!r} in the batch or the carry is no array, so it cannot be split: give an array")
    if x.ndim <= axis or x.shape[axis] % number:
        raise ValueError(
            f"axis {axis} of an array of shape {x.shape} does not split into {number} equal microbatches: "
            "give a number that divides it"
        )
    parts = x.reshape(*x.shape[:axis], number, x.shape[axis] // number, *x.shape[axis + 1 :])
    return jnp.moveaxis(parts, axis, 0)


def _joined(x: jax.Array, axis: int) -> jax.Array:
    """The inverse of `_split`."""
    parts = jnp.moveaxis(x, 0, axis)
    return parts.reshape(*parts.shape[:axis], -1, *parts.shape[axis + 2 :])
