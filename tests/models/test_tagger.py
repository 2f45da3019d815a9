"""A tagger's scores, loss and decoding: padding, order, gradients, and words in several pieces."""

import re
from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxft.models.crf import constrain, log_likelihood
from jaxft.models.encoders import open_checkpoint
from jaxft.models.tagger import BiLSTM, Tagger, TaggerConfig, TaggerFns, bigram_buckets

TAGS = ("O", "B-A", "I-A")
PLAIN = TaggerConfig(TAGS, features=6, vocab_size=11, lstm_size=4)
CHANGES = ({}, {"bigrams": 50}, {"lstm_size": 0}, {"crf": False}, {"precision": "bf16"})
VARIANTS = [replace(PLAIN, **change) for change in CHANGES]


def batch(lengths=(5, 1, 3), width=5, seed=0):
    rng = np.random.default_rng(seed)
    valid = np.arange(width)[None, :] < np.array(lengths)[:, None]
    tags = np.where(rng.random(valid.shape) < 0.5, 0, 1).astype(np.int32)
    tags[:, 1:] = np.where((tags[:, :-1] > 0) & (tags[:, 1:] > 0), 2, tags[:, 1:])
    return {
        "tokens": np.where(valid, rng.integers(0, 11, valid.shape), 0).astype(np.int32),
        "lengths": np.array(lengths, np.int32),
        "tags": np.where(valid, tags, -1).astype(np.int32),
    }


def padded(batch, more):
    wide = {name: np.pad(batch[name], ((0, 0), (0, more)), constant_values=fill) for name, fill in PADDING}
    return {**batch, **wide}


PADDING = [("tokens", 3), ("tags", -1)]


@pytest.mark.parametrize("config", [VARIANTS[0], *(pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS[1:])])
def test_neither_padding_nor_batch_mates_matter(config):
    fns = TaggerFns(config)
    loss_of, decode, params = jax.jit(fns.loss), jax.jit(fns.decode), fns.init(0)
    whole = batch()
    loss, _ = loss_of(params, (), whole, None)
    wide = padded(whole, 4)
    assert loss_of(params, (), wide, None)[0] == pytest.approx(float(loss), rel=1e-5)
    tags, wide_tags = np.asarray(decode(params, whole)), np.asarray(decode(params, wide))
    np.testing.assert_array_equal(wide_tags[:, :5], tags)
    assert (wide_tags[:, 5:] == -1).all()
    for row in range(3):
        alone = {name: values[row : row + 1] for name, values in whole.items()}
        np.testing.assert_array_equal(np.asarray(decode(params, alone))[0], tags[row])


@pytest.mark.slow
@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize("lengths", [(5, 5), (1, 1), (5, 1)])
def test_every_weight_gets_a_finite_gradient(config, lengths):
    fns = TaggerFns(config)
    params = fns.init(1)
    gradient = jax.jit(jax.grad(lambda params, key: fns.loss(params, (), batch(lengths), key)[0]))
    slopes = gradient(params, jax.random.key(0))
    for path, slope in jax.tree_util.tree_leaves_with_path(slopes):
        assert np.isfinite(slope).all(), path
        if max(lengths) > 1 or not re.search("transitions|recurrent", str(path)):  # which one token does not use
            assert np.abs(slope).max() > 0, path


def test_a_bigram_is_a_token_with_the_one_after_it_and_few_share_a_bucket():
    first, second = np.divmod(np.arange(10_000), 100)
    rows = jnp.stack([first, second], axis=1)
    buckets = np.asarray(bigram_buckets(rows, rows >= 0, 1 << 16))[:, 0]
    assert 9_200 < len(set(buckets)) < 9_350  # 65,536 * (1 - exp(-10,000 / 65,536)) = 9,274 if they fall at random
    rows = jnp.array([[7, 8, 9], [7, 8, 7]])
    short, long = bigram_buckets(rows, jnp.arange(3)[None, :] < jnp.array([[2], [3]]), 1 << 16)
    assert short[0] == long[0]
    assert short[1] == bigram_buckets(rows[:1, :2], rows[:1, :2] > 0, 1 << 16)[0, 1]
    assert short[1] != long[1]


def test_the_layer_that_reads_backward_begins_at_the_last_token():
    layer = BiLSTM(3, 4, nnx.Rngs(0))
    compiled = nnx.jit(layer, static_argnums=2)
    x = jax.random.normal(jax.random.key(1), (2, 6, 3))
    valid = jnp.arange(6)[None, :] < jnp.array([6, 2])[:, None]
    both = compiled(x, valid, "f32")
    short = compiled(x[1:, :2], valid[1:, :2], "f32")
    np.testing.assert_allclose(both[1, :2], short[0], rtol=1e-5, atol=1e-6)
    # one token: both directions see the same, each with its own weights
    layer.back = layer.ahead
    one = layer(x[:, :1], valid[:, :1], "f32")
    np.testing.assert_allclose(one[..., :4], one[..., 4:], rtol=1e-6)
    mirrored = layer(x[:1, ::-1], valid[:1], "f32")[0, ::-1]
    np.testing.assert_allclose(mirrored[:, 4:], layer(x[:1], valid[:1], "f32")[0, :, :4], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_loss_is_that_of_the_crf_and_decoding_finds_the_likeliest_allowed_tags():
    fns = TaggerFns(replace(PLAIN, dropout=0.0))
    params, one = fns.init(2), batch((4,), 4)

    tagger = nnx.merge(nnx.graphdef(Tagger(fns.config, nnx.Rngs(0))), params["tagger"])
    scores = tagger(one["tokens"], one["tags"] >= 0)
    crf, mask = constrain(params["tagger"]["crf"], TAGS), one["tags"] >= 0
    every = np.array(list(product(range(3), repeat=4)), np.int32)
    likelihoods = jax.vmap(lambda tags: log_likelihood(crf, scores, tags[None], mask)[0])(every)
    assert float(jnp.exp(likelihoods).sum()) == pytest.approx(1, rel=1e-4)
    np.testing.assert_array_equal(fns.decode(params, one)[0], every[int(likelihoods.argmax())])
    likelihood = log_likelihood(crf, scores, one["tags"], mask)[0]
    assert float(fns.loss(params, (), one, None)[0]) == pytest.approx(-float(likelihood) / 4, rel=1e-5)


def test_no_tag_goes_on_with_what_has_not_begun():
    fns = TaggerFns(PLAIN)
    decode = jax.jit(fns.decode)
    for seed in range(5):
        for row in np.asarray(decode(fns.init(seed), batch((5, 5, 5), seed=seed))):
            assert all(tag != 2 or before > 0 for before, tag in zip([0, *row], row, strict=False))


@pytest.mark.slow
def test_only_the_first_piece_of_a_word_answers_for_it(tiny_checkpoint):
    encoder = open_checkpoint(tiny_checkpoint)
    fns = TaggerFns(TaggerConfig(TAGS, encoder.config.hidden_size, lstm_size=4), encoder)
    params = fns.init(0)
    ids = np.array([[2, 7, 8, 9, 3]], np.int32)
    pieces = {"tokens": ids, "lengths": np.array([5], np.int32), "tags": np.array([[-1, 1, -1, 0, -1]], np.int32)}
    assert (np.asarray(jax.jit(fns.decode)(params, pieces))[0] >= 0).tolist() == [False, True, False, True, False]
    slopes = jax.jit(jax.grad(lambda params: fns.loss(params, (), pieces, jax.random.key(0))[0]))(params)
    leaves = jax.tree_util.tree_leaves_with_path(slopes["encoder"]["layer_0"])
    assert all(np.isfinite(slope).all() for _, slope in leaves)
    assert any(np.abs(slope).max() > 0 for _, slope in leaves)
