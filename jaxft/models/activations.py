"""The activation functions that config.json of an encoder may name."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp


def gelu(x: jax.Array) -> jax.Array:
    """x times the standard normal distribution function at x, by erf, which XLA computes faster than JAX's erfc.

    Examples:
        >>> print(f"{gelu(jax.numpy.float32(1)):.4f} {gelu(jax.numpy.float32(-1)):.4f}")
        0.8413 -0.1587

    References:
        Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.
    """
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}
"""by their names in transformers"""
