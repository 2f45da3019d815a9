"""Concat pooling with its hand-written derivative beside JAX's derivative of the plain formula."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.models.pooling import concat_pool

STEPS, ROWS, FEATURES = 6, 3, 4


def plain(outputs, valid):
    words = valid[:, :, None]
    largest = jnp.where(words, outputs, jnp.full_like(outputs, -jnp.inf)).max(axis=0)
    total = jnp.where(words, outputs, jnp.zeros_like(outputs)).sum(axis=0)
    counts = valid.sum(axis=0)[:, None].astype(outputs.dtype)
    return jnp.concatenate([outputs[-1], largest, total / counts], axis=1)


def test_values_and_gradients_are_those_of_the_plain_formula_also_where_the_largest_outputs_are_equal():
    rng = np.random.default_rng(0)
    outputs = jnp.asarray(rng.integers(-2, 3, (STEPS, ROWS, FEATURES)), jnp.float32)
    valid = jnp.arange(STEPS)[:, None] >= STEPS - jnp.array([[6, 3, 1]])
    direction = jnp.asarray(rng.normal(size=(ROWS, 3 * FEATURES)), jnp.float32)

    def loss(pool, outputs):
        return (pool(outputs, valid) * direction).sum()

    ours, theirs = (jax.value_and_grad(partial(loss, pool))(outputs) for pool in (concat_pool, plain))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), ours, theirs)


def test_padding_has_no_gradient_whatever_it_holds():
    outputs = jnp.full((STEPS, 1, FEATURES), jnp.inf).at[3:].set(1.0)
    valid = jnp.arange(STEPS)[:, None] >= 3
    gradient = jax.grad(lambda outputs: concat_pool(outputs, valid).sum())(outputs)
    np.testing.assert_array_equal(gradient[:3], np.zeros((3, 1, FEATURES)))
    np.testing.assert_allclose(gradient[3:].sum(axis=(0, 1)), np.full(FEATURES, 3.0), rtol=1e-6)
