"""The loss and gradients of a whole batch, wherever its rows are: with one device, those of `jax.value_and_grad`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.base.sharding import shards, sum_over_shards

PyTree = Any
LossFn = Callable[[PyTree, PyTree, PyTree, jax.Array | None], tuple[jax.Array, tuple[PyTree, Mapping[str, jax.Array]]]]
GradFn = Callable[
    [PyTree, PyTree, PyTree, jax.Array | None],
    tuple[tuple[jax.Array, tuple[PyTree, Mapping[str, jax.Array]]], PyTree],
]


def value_and_grad(loss_fn: LossFn, weight: str | None = None) -> GradFn:
    """`jax.value_and_grad(loss_fn, has_aux=True)` of all rows of a batch, also where each device has some of them.

    Args:
        loss_fn: `(params, carry, batch, key) -> (loss, (carry, metrics))`.
        weight: name of the metric that counts the tokens, or examples, that the loss is a mean over; None where all
            rows count alike.

    Examples:
        >>> grad_fn = value_and_grad(lambda params, carry, batch, key: (jnp.mean(params * batch), (carry, {})))
        >>> (loss, _), gradient = grad_fn(jnp.array(2.0), (), jnp.array([1.0, 3.0]), None)
        >>> float(loss), float(gradient)
        (4.0, 2.0)
    """
    of_shard = jax.value_and_grad(loss_fn, has_aux=True)
    return lambda params, carry, batch, key: of_whole_batch(of_shard(params, carry, batch, key), weight)


def of_whole_batch(result: Any, weight: str | None = None) -> Any:
    """Loss, metrics and gradients of the whole batch from those of one shard; the carry stays that of the shard.

    The sums over the shards are one collective operation. Integer metrics and `metrics[weight]` are sums, other metrics
    are means, weighted as the loss is.

    Args:
        result: `((loss, (carry, metrics)), gradients)` of the rows of this device.
        weight: as in `value_and_grad`.
    """
    if shards() == 1:
        return result
    (loss, (carry, metrics)), grads = result
    share = _share_of_shard(metrics, weight)
    counts = {name for name, x in metrics.items() if name == weight or jnp.issubdtype(x.dtype, jnp.integer)}
    addends = {name: x if name in counts else _times(x, share) for name, x in metrics.items()}
    loss, metrics, grads = sum_over_shards((_times(loss, share), addends, _times(grads, share)))
    return (loss, (carry, metrics)), grads


def whole_gradients(grads: PyTree, metrics: Mapping[str, jax.Array], weight: str | None = None) -> PyTree:
    """The gradients of the whole batch from those of one shard, where they are needed before the end of a step."""
    return grads if shards() == 1 else sum_over_shards(_times(grads, _share_of_shard(metrics, weight)))


def _share_of_shard(metrics: Mapping[str, jax.Array], weight: str | None) -> jax.Array:
    """The share of this shard in a mean over the whole batch, () float32."""
    if weight is None:
        return jnp.float32(1 / shards())
    own = metrics[weight].astype(jnp.float32)
    return own / sum_over_shards(own)


def _times(tree: PyTree, share: jax.Array) -> PyTree:
    """Every array times the share; 0 where the shard has none, because a mean over nothing is NaN."""
    return jax.tree.map(lambda x: jnp.where(share > 0, share.astype(x.dtype) * x, jnp.zeros_like(x)), tree)
