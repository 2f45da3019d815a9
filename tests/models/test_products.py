"""Matrix products in either precision, in value and gradient."""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel, initial_carry
from jaxft.models.lstm import lstm
from jaxft.models.options import NO_DROPOUT
from jaxft.models.products import batch_matmul, matmul, transposed
from jaxft.models.tied_softmax import tied_cross_entropy

BF16 = 2.0**-8  # the largest relative error of rounding to bfloat16


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("leading", [(5,), (3, 2), (1, 4, 2)])
def test_a_float32_product_and_its_derivative_are_those_of_jax(leading):
    x, weight, direction = normal(0, *leading, 7), normal(1, 7, 6), normal(2, *leading, 6)
    ours = jax.value_and_grad(lambda x, w: jnp.sum(matmul(x, w) * direction), (0, 1))(x, weight)
    plain = jax.value_and_grad(lambda x, w: jnp.sum(jnp.matmul(x, w) * direction), (0, 1))(x, weight)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, plain)


def test_bfloat16_rounds_the_operands_and_nothing_else():
    x, weight, direction = normal(0, 4, 64), normal(1, 64, 8), normal(2, 4, 8)
    rounded = [np.asarray(a.astype(jnp.bfloat16), np.float64) for a in (x, weight, direction)]
    value = matmul(x, weight, "bf16")
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, rounded[0] @ rounded[1], rtol=1e-5, atol=1e-5)
    dx, dw = jax.grad(lambda x, w: jnp.sum(matmul(x, w, "bf16") * direction), (0, 1))(x, weight)
    np.testing.assert_allclose(dx, rounded[2] @ rounded[1].T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dw, rounded[0].T @ rounded[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_of_stacks_round_no_more_than_their_gradients_dtype(dtype):
    x, y = normal(0, 2, 6, 8).astype(dtype), normal(1, 2, 8, 5).astype(dtype)
    direction = normal(2, 2, 6, 5)

    def gradients(product, direction):
        return jax.grad(lambda x, y: jnp.sum(product(x, y) * direction), (0, 1))(x, y)

    ours = gradients(batch_matmul, direction)
    plain = gradients(
        partial(jnp.matmul, preferred_element_type=jnp.float32), direction.astype(dtype).astype("float32")
    )
    for one, other in zip(ours, plain, strict=True):
        assert one.dtype == other.dtype == dtype
        np.testing.assert_allclose(np.asarray(one, np.float32), np.asarray(other, np.float32), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(96, 7), (72, 3), (12, 64), (37, 3), (2, 48, 6), (1, 1)])
def test_a_transpose_by_way_of_blocks_is_the_transpose(shape):
    x = normal(0, *shape)
    np.testing.assert_array_equal(jax.jit(transposed)(x), np.swapaxes(x, -1, -2))


def relative(one, other):
    return float(jnp.linalg.norm(one - other) / jnp.linalg.norm(other))


@pytest.mark.slow
def test_the_layers_differ_between_precisions_by_rounding_alone():
    zeros, weights = jnp.zeros((3, 8)), (normal(1, 5, 32), 0.3 * normal(2, 8, 32), normal(3, 32))

    def hidden(precision, steps):
        inputs, valid = normal(0, steps, 3, 5), jnp.arange(steps)[:, None] >= jnp.array([0, 2, 5])[None, :]

        def scalar(kernel, recurrent, bias):
            outputs, _ = lstm(inputs, (zeros, zeros), kernel, recurrent, bias, valid, precision)
            return jnp.sum(outputs**2), outputs

        return jax.jit(jax.grad(scalar, (0, 1, 2), has_aux=True))(*weights)

    def loss(precision, rows):
        fixed = partial(tied_cross_entropy, targets=jnp.arange(9), rows=rows, precision=precision)
        return jax.jit(jax.value_and_grad(fixed, (0, 1, 2)))(normal(4, 9, 5), normal(5, 11, 5), normal(6, 11))

    windows, blocks = [partial(hidden, steps=n) for n in (6, 96)], [partial(loss, rows=n) for n in (4, 256)]
    for results in (*windows, *blocks):
        for rounded, exact in zip(*map(jax.tree.leaves, (results("bf16"), results("f32"))), strict=True):
            assert 0 < relative(rounded, exact) < 4 * BF16


def test_logits_of_bfloat16_operands_have_a_gradient():
    config = AWDLSTMConfig(50, 16, 16, 1, "bf16")
    graphdef, state = nnx.split(LanguageModel(config, NO_DROPOUT, nnx.Rngs(0)))

    def total(params):
        logits, _ = nnx.merge(graphdef, params)(jnp.ones((2, 8), jnp.int32), initial_carry(config, 2))
        return jnp.sum(logits**2)

    for gradient in jax.tree.leaves(jax.jit(jax.grad(total))(nnx.to_pure_dict(state))):
        assert bool(jnp.isfinite(gradient).all() & (gradient != 0).any())


def test_a_word_foreseen_well_keeps_its_small_gradient():
    """Softmax minus one is small there; rounding its two halves apart would leave little of it."""
    hidden, embedding = jnp.full((1, 2), 2.0), jnp.array([[1.0, 1.0], [-0.1, 0.0], [0.0, -0.1]]) * 1.3

    def gradient(precision):
        return jax.jit(jax.grad(partial(tied_cross_entropy, precision=precision)))(
            hidden, embedding, jnp.zeros(3), jnp.zeros(1, jnp.int32)
        )

    assert float(jnp.abs(gradient("f32")).max()) < 0.05
    assert relative(gradient("bf16"), gradient("f32")) < 4 * BF16


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="precision is 'bfloat16': give 'f32' or 'bf16'"):
        matmul(normal(0, 2, 2), normal(1, 2, 2), cast(Any, "bfloat16"))
