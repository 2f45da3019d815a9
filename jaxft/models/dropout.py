"""Dropout masks: all small ones of a step in one draw, as each would be one more loop to compile, and large ones."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxft.models.hashing import mixed

LEVELS = 1 << 16


def keep_masks(key: jax.Array, wanted: Sequence[tuple[float, tuple[int, ...]]]) -> list[jax.Array]:
    """Masks that keep an element with probability 1 - p, scaled by 1 / (1 - p) so that the mean stays.

    Args:
        key: a PRNG key.
        wanted: for each mask the probability p of dropping, below 1 and exact to 1 / 65,536, and its shape.

    Returns:
        The masks, float32.

    Examples:
        >>> rows, ones = keep_masks(jax.random.key(0), [(0.5, (4, 1)), (0.0, (2,))])
        >>> sorted(set(rows.ravel().tolist())), ones.tolist()
        ([0.0, 2.0], [1.0, 1.0])

    References:
        Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 2014.
    """
    sizes = [math.prod(shape) for _, shape in wanted]
    bits = jax.random.bits(key, (sum(sizes),), jnp.uint16)
    masks, start = [], 0
    for (p, shape), size in zip(wanted, sizes, strict=True):
        dropped = round(p * LEVELS)
        keep = bits[start : start + size].reshape(shape) >= jnp.uint16(dropped)
        masks.append(keep.astype(jnp.float32) * (LEVELS / (LEVELS - dropped)))
        start += size
    return masks


def dropout(x: jax.Array, p: float, key: jax.Array | None, together: bool = False) -> jax.Array:
    """`x` with each element dropped with probability p and the others scaled by 1 / (1 - p); no key drops nothing.

    With `together` the elements of the last axis are dropped as one.

    Examples:
        >>> float(dropout(jnp.ones(100_000), 0.25, jax.random.key(0)).mean().round(2))
        1.0
    """
    if key is None or not p:
        return x
    shape = (*x.shape[:-1], 1) if together else x.shape
    return jnp.where(kept(key, p, shape), x / (1 - p), jnp.zeros_like(x))


def kept(key: jax.Array, p: float, shape: tuple[int, ...]) -> jax.Array:
    """Which elements of a large array dropout keeps, bool, each with probability 1 - p.

    A hash of the place, mixed once with each half of the key, which XLA computes within the loop that uses it: nothing
    is stored for the backward pass, where a generator's bits would take three times as long as the product that is
    dropped from.

    Args:
        key: a PRNG key.
        p: the probability of dropping, below 1.
        shape: of the array, below 2**32 elements.

    Examples:
        >>> float(kept(jax.random.key(0), 0.25, (100_000,)).mean().round(2))
        0.75
    """
    words = jax.random.key_data(key)
    place = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return mixed(mixed(place ^ words[0]) + words[1]) >= jnp.uint32(min(round(p * 2**32), 2**32 - 1))
