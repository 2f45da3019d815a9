"""Matrix products in float32, or with operands rounded to bfloat16 where the hardware multiplies those faster.

Sums and results are float32 either way; so are parameters, states and everything between two products. The layers in
`jaxft.models` use `product`, which JAX can differentiate; hand-written derivatives take the three forms it is made of.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

Precision = Literal["f32", "bf16"]


def product(x: jax.Array, weight: jax.Array, precision: Precision = "f32") -> jax.Array:
    """`x @ weight`; its derivative is made of products of the same precision.

    Args:
      x: (..., K) float.
      weight: (K, N) float.
      precision: "bf16" rounds both operands to 8 bits of mantissa.

    Returns:
      (..., N) float32.

    Examples:
      >>> third = jnp.full((1, 1), 1 / 3)
      >>> one = jnp.ones((1, 1))
      >>> [round(float(product(third, one, precision)[0, 0]), 5) for precision in ("f32", "bf16")]
      [0.33333, 0.33398]

    References:
      Micikevicius et al., Mixed Precision Training, ICLR 2018.
    """
    return _product(x, weight, precision)


def operand(x: jax.Array, precision: Precision) -> jax.Array:
    """`x` as a product takes it; worth doing once for a matrix that many products share."""
    return x.astype(jnp.bfloat16) if precision == "bf16" else x


def times(x: jax.Array, weight: jax.Array, precision: Precision) -> jax.Array:
    """(M, K) @ (K, N) -> (M, N) float32."""
    return _dot(operand(x, precision), operand(weight, precision), 1, 0)


def times_transposed(x: jax.Array, weight: jax.Array, precision: Precision) -> jax.Array:
    """(M, K) @ (N, K).T -> (M, N) float32."""
    return _dot(operand(x, precision), operand(weight, precision), 1, 1)


def transposed_times(x: jax.Array, y: jax.Array, precision: Precision) -> jax.Array:
    """(M, K).T @ (M, N) -> (K, N) float32: the gradient of a weight, from its inputs and those of its outputs."""
    x, y = operand(x, precision), operand(y, precision)
    if precision == "f32":
        return _dot(x, y, 0, 0)
    # XLA's fast bfloat16 product on a CPU reads rows: the transpose has to be stored as such, not just relabelled.
    return _dot(with_layout_constraint(x.T, Layout((0, 1))), y, 1, 0)


def _dot(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int) -> jax.Array:
    return jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())), preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: jax.Array, weight: jax.Array, precision: Precision) -> jax.Array:
    return times(_rows(x), weight, precision).reshape(*x.shape[:-1], weight.shape[1])


def _forward(x: jax.Array, weight: jax.Array, precision: Precision) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x, weight, precision), (x, weight)


def _backward(precision: Precision, operands: tuple[jax.Array, jax.Array], d_result: jax.Array) -> tuple:
    x, weight = operands
    d_rows = operand(_rows(d_result), precision)
    d_x = times_transposed(d_rows, weight, precision).reshape(x.shape)
    return d_x, transposed_times(_rows(x), d_rows, precision)


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


_product.defvjp(_forward, _backward)
