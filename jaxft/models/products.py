"""Matrix products, whose operands may be rounded to bfloat16 for hardware that multiplies it faster.

Sums are float32 either way, and so are parameters and states. What lies between two products is float32 too, except in
encoders on an accelerator. `matmul` and `batch_matmul` have reverse-mode derivatives; LSTM and softmax, whose
derivatives are written by hand, use `matmul_nn`, `matmul_nt` and `matmul_tn`. On a GPU or TPU, JAX's default precision
decides how exact a float32 product is.

What this module does for XLA's compiler of CPU code is left out for other platforms, where it would cost copies.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

from jaxft.models.options import Precision

BLOCK = 32
"""rows that are transposed together, at most"""


def matmul(
    x: jax.Array, weight: jax.Array, precision: Precision = "f32", dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """`x @ weight`, with a derivative whose products have the same precision.

    Args:
        x: (..., K) float32 or bfloat16, which its gradient will be too.
        weight: (K, N) float32, or the result of `operand` where no gradient is taken.
        precision: "bf16" rounds both operands to 8 significant bits.
        dtype: of the result.

    Returns:
        (..., N).

    Examples:
        >>> third = jnp.full((1, 1), 1 / 3)
        >>> one = jnp.ones((1, 1))
        >>> [round(float(matmul(third, one, precision)[0, 0]), 5) for precision in ("f32", "bf16")]
        [0.33333, 0.33398]

    References:
        Micikevicius et al., Mixed Precision Training, ICLR 2018.
    """
    return _matmul(x, weight, precision, jnp.dtype(dtype))


def batch_matmul(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x @ y` of two stacks of matrices of one dtype, in float32, with a derivative that multiplies in this dtype too.

    JAX's own derivative multiplies the float32 cotangent by the other array, as it is. XLA's product of bfloat16 on a
    CPU reads rows; it converts both stacks to float32 where one of them is a transpose that is not copied.

    Args:
        x: (..., M, K) float32 or bfloat16, which its gradient will be too.
        y: (..., K, N), with the same first axes.

    Returns:
        (..., M, N) float32.

    Examples:
        >>> halves = jnp.full((1, 1, 2), 0.5, jnp.bfloat16)
        >>> batch_matmul(halves, transposed(halves))
        Array([[[0.5]]], dtype=float32)
    """
    return _batch_matmul(x, y)


def on_accelerator() -> bool:
    """Whether JAX's default backend is another than the CPU, for choices that are made when a function is traced."""
    return jax.default_backend() != "cpu"


def operand(x: jax.Array, precision: Precision) -> jax.Array:
    """`x` in the dtype of a product's operands; call it once for a matrix that many products share.

    Raises:
        ValueError: an unknown precision.
    """
    match precision:
        case "f32":
            return x
        case "bf16":
            return x.astype(jnp.bfloat16)
    raise ValueError(f"precision is {precision!r}: give 'f32' or 'bf16'")


def matmul_nn(
    x: jax.Array, weight: jax.Array, precision: Precision, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """(M, K) @ (K, N) -> (M, N) in `dtype`."""
    return _dot(operand(x, precision), operand(weight, precision), 1, 0, dtype)


def matmul_nt(
    x: jax.Array, weight: jax.Array, precision: Precision, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """(M, K) @ (N, K).T -> (M, N) in `dtype`."""
    return _dot(operand(x, precision), operand(weight, precision), 1, 1, dtype)


def matmul_nt_few(x: jax.Array, weight: jax.Array, precision: Precision) -> jax.Array:
    """`matmul_nt` of few rows M and many N: the transpose of `weight @ x.T`.

    XLA's product on a CPU copies its second operand into blocks, which is much of the work where `x` has few rows. The
    transpose copies those few rows instead.
    """

    def columns(x: jax.Array, weight: jax.Array) -> jax.Array:
        return _in_row_order(jax.lax.optimization_barrier(matmul_nt(weight, x, precision)).T)

    return jax.lax.platform_dependent(x, weight, cpu=columns, default=partial(matmul_nt, precision=precision))


def matmul_tn(x: jax.Array, y: jax.Array, precision: Precision) -> jax.Array:
    """(..., K).T @ (..., N) -> (K, N) float32, over all rows: a weight's gradient, of inputs and output gradients."""
    x, y = operand(_rows(x), precision), operand(_rows(y), precision)

    def copying(x: jax.Array, y: jax.Array) -> jax.Array:
        """Copies the smaller operand into the order that the product reads, and where it is `y` the result too."""
        # XLA would merge a transpose that follows into the product, and its fast product on a CPU cannot write one.
        if x.shape[1] <= y.shape[1]:
            return jax.lax.optimization_barrier(_dot(_copied(x), y, 1, 0))
        return _copied(jax.lax.optimization_barrier(_dot(_copied(y), x, 1, 0)))

    return jax.lax.platform_dependent(x, y, cpu=copying, default=lambda x, y: _dot(x, y, 0, 0))


def transposed(x: jax.Array) -> jax.Array:
    """(..., M, N) -> (..., N, M), on a CPU copied into this order, because XLA's fast product there reads rows."""
    return jax.lax.platform_dependent(jnp.asarray(x), cpu=_copied, default=lambda x: x.swapaxes(-1, -2))


def _copied(x: jax.Array) -> jax.Array:
    """(..., M, N) -> (..., N, M) in row order: blocks of rows are transposed, each within the caches, and joined.

    XLA's copy in one go reads down the columns, which takes two to eight times as long where there are many rows.
    """
    *axes, rows, columns = x.shape
    block = next(size for size in range(BLOCK, 0, -1) if rows % size == 0)
    if block in (1, rows):
        return _in_row_order(x.swapaxes(-1, -2))
    blocks = _in_row_order(x.reshape(*axes, -1, block, columns).swapaxes(-1, -2))
    return _in_row_order(blocks.swapaxes(-3, -2).reshape(*axes, columns, rows))


def _in_row_order(x: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(with_layout_constraint(x, Layout(tuple(range(x.ndim)))))


def _dot(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int, dtype: Any = jnp.float32) -> jax.Array:
    return jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())), preferred_element_type=dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _matmul(x: jax.Array, weight: jax.Array, precision: Precision, dtype: Any) -> jax.Array:
    return matmul_nn(_rows(x), weight, precision, dtype).reshape(*x.shape[:-1], weight.shape[1])


def _forward(
    x: jax.Array, weight: jax.Array, precision: Precision, dtype: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _matmul(x, weight, precision, dtype), (x, weight)


def _backward(precision: Precision, dtype: Any, operands: tuple[jax.Array, jax.Array], d_result: jax.Array) -> tuple:
    x, weight = operands
    d_result = operand(d_result, precision)
    d_x = matmul_nt(_rows(d_result), weight, precision, x.dtype).reshape(x.shape)
    return d_x, matmul_tn(x, d_result, precision)


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


_matmul.defvjp(_forward, _backward)


@jax.custom_vjp
def _batch_matmul(x: jax.Array, y: jax.Array) -> jax.Array:
    # where they are transposes, XLA would merge them into the product
    rows = partial(jax.lax.platform_dependent, cpu=_in_row_order, default=lambda x: x)
    return jnp.matmul(rows(x), rows(y), preferred_element_type=jnp.float32)


def _batch_backward(operands: tuple[jax.Array, jax.Array], d_result: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, y = operands
    d_result = d_result.astype(x.dtype)
    d_x, d_y = _batch_matmul(d_result, transposed(y)), _batch_matmul(transposed(x), d_result)
    return d_x.astype(x.dtype), d_y.astype(y.dtype)


_batch_matmul.defvjp(lambda x, y: (_batch_matmul(x, y), (x, y)), _batch_backward)
