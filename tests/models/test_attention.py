"""Attention with its hand-written derivative beside JAX's derivative of the plain formula."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.models.attention import attention, by_text, split_heads
from jaxft.models.dropout import kept
from jaxft.models.encoder_layers import recomputed
from jaxft.models.options import Precision
from jaxft.training.precision import multiplies_bfloat16

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


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_bfloat16_stays_bfloat16_and_rounds_little(p):
    mask = jnp.arange(KEYS)[None] < 5
    direction = jnp.asarray(np.random.default_rng(1).normal(size=(1, HEADS, FEATURES)), jnp.float32)

    def loss(inputs):
        query, keys, values = inputs
        attended = attention(query, keys, values, mask, p=p, key=jax.random.key(3) if p else None)
        assert attended.dtype == query.dtype
        return (attended.astype(jnp.float32) * direction).sum()

    rounded = arrays(jnp.bfloat16)
    exact = jax.grad(loss)([x.astype(jnp.float32) for x in rounded])
    for ours, theirs in zip(jax.grad(loss)(list(rounded)), exact, strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(ours.astype(jnp.float32), theirs, atol=0.01 * float(jnp.abs(theirs).max()))


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_the_precision_bf16_rounds_operands_and_returns_float32(p):
    mask = jnp.arange(KEYS)[None] < 5
    direction = jnp.asarray(np.random.default_rng(1).normal(size=(1, HEADS, FEATURES)), jnp.float32)

    def loss(inputs, precision):
        query, keys, values = inputs
        attended = attention(query, keys, values, mask, precision=precision, p=p, key=jax.random.key(3) if p else None)
        assert attended.dtype == jnp.float32
        return (attended * direction).sum()

    rounded, exact = (jax.grad(loss)(list(arrays()), precision) for precision in ("bf16", "f32"))
    for ours, theirs in zip(rounded, exact, strict=True):
        assert ours.dtype == jnp.float32
        difference = float(jnp.abs(ours - theirs).max() / jnp.abs(theirs).max())
        assert 0 < difference < 0.02


def attend(projected, valid, key, precision: Precision = "f32"):
    query, keys, values = split_heads(projected, HEADS)
    return attention(query, keys, values, valid[None, :], precision=precision, p=0.4, key=key)


def texts():
    rng = np.random.default_rng(0)
    projected = jnp.asarray(rng.normal(size=(3, KEYS, 3 * HEADS * FEATURES)), jnp.float32)
    return projected, jnp.arange(KEYS)[None] < jnp.array([[7], [3], [0]])


def test_all_texts_at_once_are_one_after_the_other():
    projected, valid = texts()
    keys = jax.random.split(jax.random.key(3), len(projected))

    def loss(all_texts, projected):
        return (all_texts(projected) ** 2).sum()

    one_by_one, at_once = (
        jax.value_and_grad(partial(loss, all_texts))(projected)
        for all_texts in (
            lambda projected: by_text(attend, projected, valid, jax.random.key(3)),
            lambda projected: jax.vmap(attend)(projected, valid, keys),
        )
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), one_by_one, at_once)


@pytest.mark.parametrize(("whole", "products", "maxima"), [(False, 7, 1), (True, 9, 2)])
def test_the_backward_pass_of_a_layer_computes_no_row_again_that_is_saved(whole, products, maxima):
    """Two products forward; then the scores again and four gradients, and with nothing saved all of the first two."""
    projected, valid = texts()

    def total(projected):
        return by_text(attend, projected, valid, jax.random.key(3)).sum()

    text = str(jax.make_jaxpr(jax.grad(recomputed(total, whole)))(projected))
    branches = 2  # of a CPU and of other platforms
    assert text.count("dot_general") == branches * products
    assert text.count("reduce_max") == branches * maxima


@pytest.mark.skipif(
    jax.default_backend() != "cpu" or not multiplies_bfloat16(),
    reason="reads the program of a CPU that multiplies bfloat16",
)
def test_every_product_of_bfloat16_reaches_the_processor_as_such():
    """XLA converts both operands of a product to float32 where it finds no fast one, for example of a transpose."""
    projected = jnp.ones((2, 64, 3 * 64), jnp.float32)
    valid = jnp.ones((2, 64), bool)
    rounding = partial(attend, precision="bf16")
    total = jax.jit(jax.grad(lambda projected: by_text(rounding, projected, valid, jax.random.key(3)).sum()))
    text = str(total.lower(projected).compile().as_text())
    dtypes = dict(re.findall(r"%([\w.-]+) = (\w+)\[", text))
    operands = [operand for pair in re.findall(r" dot\(%([\w.-]+), %([\w.-]+)\)", text) for operand in pair]
    assert {dtypes[operand] for operand in operands} == {"bf16"}
    assert len(operands) == 2 * 7
