"""Dropout and its masks, which are hashes of a key and of the places of the elements."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxft.base.sharding import own_rows, rows_before, shards
from jaxft.models.hashing import mixed


def keep_masks(
    key: jax.Array,
    probabilities_and_shapes: Sequence[tuple[float, tuple[int, ...]]],
    row_axes: Sequence[int | None] | None = None,
) -> list[jax.Array]:
    """Masks that keep an element with probability 1 - p, scaled by 1 / (1 - p) so that the mean stays.

    An element's place, as in `kept`, is its number among the elements of all masks in the whole batch. So the mask of a
    row does not depend on where the row is computed, and a key that makes masks here should make no others.

    Args:
        key: a PRNG key.
        probabilities_and_shapes: of each mask, the probability p of dropping, below 1, and the shape; below 2**32
            elements in all.
        row_axes: of each mask, the axis along which it has the rows of a batch; None for a mask that all rows share.

    Returns:
        The masks, float32.

    Examples:
        >>> rows, ones = keep_masks(jax.random.key(0), [(0.5, (16, 1)), (0.0, (2,))])
        >>> sorted(set(rows.ravel().tolist())), ones.tolist()
        ([0.0, 2.0], [1.0, 1.0])

    References:
        Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 2014.
    """
    axes = row_axes or [None] * len(probabilities_and_shapes)
    masks, start = [], 0
    for (p, shape), axis in zip(probabilities_and_shapes, axes, strict=True):
        whole = _of_whole_batch(shape, axis)
        keep = _kept_from(start, key, p, whole)
        keep = keep if axis is None else own_rows(keep, axis)
        masks.append(jnp.where(keep, jnp.float32(1 / (1 - p)), jnp.float32(0)))
        start += math.prod(whole)
    return masks


def dropout(x: jax.Array, p: float, key: jax.Array | None, together: bool = False, has_rows: bool = True) -> jax.Array:
    """`x` with each element dropped with probability p and the others scaled by 1 / (1 - p); without a key, `x`.

    With `together`, all elements along the last axis are dropped or kept as one. The first axis is that of the batch's
    rows, unless `has_rows` is False.

    Examples:
        >>> float(dropout(jnp.ones(100_000), 0.25, jax.random.key(0)).mean().round(2))
        1.0
    """
    if key is None or not p:
        return x
    shape = (*x.shape[:-1], 1) if together else x.shape
    return jnp.where(kept(key, p, shape, has_rows), x / (1 - p), jnp.zeros_like(x))


def kept(key: jax.Array, p: float, shape: tuple[int, ...], has_rows: bool = False) -> jax.Array:
    """The elements of an array that dropout keeps, bool, each with probability 1 - p.

    The mask is a hash of an element's place, mixed once with each half of the key. XLA computes it within the loop that
    uses it and stores nothing for the backward pass; the bits of a generator would take three times as long as the
    matrix product whose result is dropped from.

    Args:
        key: a PRNG key.
        p: the probability of dropping, below 1.
        shape: of the array, below 2**32 elements in the whole batch.
        has_rows: whether the first axis is that of the batch's rows; the place is then that in the whole batch.

    Examples:
        >>> float(kept(jax.random.key(0), 0.25, (100_000,)).mean().round(2))
        0.75
    """
    first = rows_before(math.prod(shape)) if has_rows else 0
    return _kept_from(first, key, p, shape)


def _kept_from(first: int | jax.Array, key: jax.Array, p: float, shape: tuple[int, ...]) -> jax.Array:
    """`kept`, where `first` is the place of the first element."""
    words = jax.random.key_data(key)
    places = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape) + jnp.uint32(first)
    return mixed(mixed(places ^ words[0]) + words[1]) >= jnp.uint32(min(round(p * 2**32), 2**32 - 1))


def _of_whole_batch(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    """The shape with the rows of all shards along an axis."""
    return shape if axis is None else (*shape[:axis], shape[axis] * shards(), *shape[axis + 1 :])
