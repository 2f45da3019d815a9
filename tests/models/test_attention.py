"""Attention with its hand-written derivative beside JAX's derivative of the plain formula."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.models.attention import attention
from jaxft.models.dropout import kept

QUERIES, KEYS, HEADS, FEATURES = 5, 7, 2, 4


def plain(query, keys, values, mask, bias=None, *, p=0.0, key=None):
    scores = jnp.einsum("qnd,knd->nqk", query, keys)
    scores = scores if bias is None else scores + bias
    weights = jax.nn.softmax(jnp.where(mask[None], scores, jnp.finfo(scores.dtype).min))
    if key is not None:
        weights = jnp.where(kept(key, p, weights.shape), weights / (1 - p), jnp.zeros_like(weights))
    return jnp.einsum("nqk,knd->qnd", weights, values)


def arrays(dtype=jnp.float32):
    draw = partial(np.random.default_rng(0).normal, size=(KEYS, HEADS, FEATURES))
    query, keys, values = (jnp.asarray(draw(), dtype) for _ in range(3))
    return query[:QUERIES], keys, values


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("mask", ["texts", "rows", "nothing"])
def test_values_and_gradients_are_those_of_the_plain_formula(mask, p, has_bias):
    rng = np.random.default_rng(1)
    masks = {
        "texts": jnp.arange(KEYS)[None] < 5,
        "rows": jnp.asarray(rng.random((QUERIES, KEYS)) < 0.5).at[2].set(False),  # one query attends to nothing
        "nothing": jnp.zeros((1, KEYS), bool),
    }
    bias = jnp.asarray(rng.normal(size=(HEADS, QUERIES, KEYS)), jnp.float32) if has_bias else None
    direction = jnp.asarray(rng.normal(size=(QUERIES, HEADS, FEATURES)), jnp.float32)

    def loss(attend, inputs):
        *parts, bias = inputs
        key = jax.random.key(3) if p else None
        return (attend(*parts, masks[mask], bias, p=p, key=key) * direction).sum()

    ours, theirs = (jax.value_and_grad(partial(loss, attend))((*arrays(), bias)) for attend in (attention, plain))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6), ours, theirs)


def test_bfloat16_stays_bfloat16_with_its_gradients_near_those_of_float32():
    mask = jnp.ones((1, KEYS), bool)

    def loss(inputs):
        query, keys, values = inputs
        attended = attention(query, keys, values, mask)
        assert attended.dtype == query.dtype
        return attended.astype(jnp.float32).sum()

    rounded = jax.grad(loss)(arrays(jnp.bfloat16))
    for ours, exact in zip(rounded, jax.grad(loss)(arrays()), strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(ours.astype(jnp.float32), exact, atol=0.05)


def test_a_gradient_takes_seven_products_and_one_search_for_the_largest_score():
    """Two of them forward, then the scores again and four gradients; the largest score of a row is not sought again."""
    query, keys, values = arrays()

    def total(query):
        return attention(query, keys, values, jnp.ones((1, KEYS), bool)).sum()

    def counted(function):
        text = str(jax.make_jaxpr(function)(query))
        return text.count("dot_general"), text.count("reduce_max")

    assert counted(total) == (2, 1)
    assert counted(jax.grad(total)) == (7, 1)
