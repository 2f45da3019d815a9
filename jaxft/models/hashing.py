"""A hash of integers, cheap enough for XLA to compute within the loop that uses it."""

import jax
import jax.numpy as jnp


def mixed(x: jax.Array) -> jax.Array:
    """A one-to-one map of uint32 in which every bit of the result depends on every bit of `x`.

    Examples:
        >>> sorted((mixed(jnp.arange(4, dtype=jnp.uint32)) >> 30).tolist())
        [0, 1, 1, 3]

    References:
        Wellons, Prospecting for Hash Functions, 2018.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
