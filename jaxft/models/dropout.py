"""Dropout and its masks: many small masks from one draw, and large ones that are computed where they are used."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxft.models.hashing import mixed

LEVELS = 1 << 16


def keep_masks(key: jax.Array, probabilities_and_shapes: Sequence[tuple[float, tuple[int, ...]]]) -> list[jax.Array]:
    """Masks that keep an element with probability 1 - p, scaled by 1 / (1 - p) so that the mean stays.

    All of them come from one draw, since each draw is one more loop to compile.

    Args:
        key: a PRNG key.
        probabilities_and_shapes: of each mask, the probability p of dropping, below 1 and rounded to 1 / 65,536, and
            the shape.

    Returns:
        The masks, float32.

    Examples:
        >>> rows, ones = keep_masks(jax.random.key(0), [(0.5, (4, 1)), (0.0, (2,))])
        >>> sorted(set(rows.ravel().tolist())), ones.tolist()
        ([0.0, 2.0], [1.0, 1.0])

    References:
        Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 2014.
    """
    sizes = [math.prod(shape) for _, shape in probabilities_and_shapes]
    bits = jax.random.bits(key, (sum(sizes),), jnp.uint16)
    masks, start = [], 0
    for (p, shape), size in zip(probabilities_and_shapes, sizes, strict=True):
        dropped = round(p * LEVELS)
        keep = bits[start : start + size].reshape(shape) >= jnp.uint16(dropped)
        masks.append(keep.astype(jnp.float32) * (LEVELS / (LEVELS - dropped)))
        start += size
    return masks


def dropout(x: jax.Array, p: float, key: jax.Array | None, together: bool = False) -> jax.Array:
    """`x` with each element dropped with probability p and the others scaled by 1 / (1 - p); without a key, `x`.

    With `together`, all elements along the last axis are dropped or kept as one.

    Examples:
        >>> float(dropout(jnp.ones(100_000), 0.25, jax.random.key(0)).mean().round(2))
        1.0
    """
    if key is None or not p:
        return x
    shape = (*x.shape[:-1], 1) if together else x.shape
    return jnp.where(kept(key, p, shape), x / (1 - p), jnp.zeros_like(x))


def kept(key: jax.Array, p: float, shape: tuple[int, ...]) -> jax.Array:
    """The elements of a large array that dropout keeps, bool, each with probability 1 - p.

    The mask is a hash of an element's index, mixed once with each half of the key. XLA computes it within the loop that
    uses it and stores nothing for the backward pass; the bits of a generator would take three times as long as the
    matrix product whose result is dropped from.

    Args:
        key: a PRNG key.
        p: the probability of dropping, below 1.
        shape: of the array, below 2**32 elements.

    Examples:
        >>> float(kept(jax.random.key(0), 0.25, (100_000,)).mean().round(2))
        0.75
    """
    words = jax.random.key_data(key)
    index = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return mixed(mixed(index ^ words[0]) + words[1]) >= jnp.uint32(min(round(p * 2**32), 2**32 - 1))
