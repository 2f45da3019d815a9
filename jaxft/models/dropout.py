"""Dropout masks, all of a step's in one draw: each draw of its own would be one more loop to compile and to start."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

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
