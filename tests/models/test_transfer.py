"""Rows follow their tokens from any vocabulary to any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.vocabulary import Vocabulary
from jaxft.models.transfer import transfer_vocabulary

SPECIAL = ["xxunk", "xxpad", "xxbos"]
WORDS = st.lists(st.sampled_from("abcdefghij"), unique=True, max_size=8)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(old=WORDS, new=WORDS, seed=st.integers(0, 3))
def test_rows_follow_their_tokens_and_the_rest_gets_the_mean(old: list[str], new: list[str], seed: int):
    before, after = (Vocabulary((*SPECIAL, *words)) for words in (old, new))
    rng = np.random.default_rng(seed)
    embedding, bias = rng.normal(size=(len(before), 2)).astype(np.float32), rng.normal(size=len(before))
    kernel = jnp.ones((2, 8))
    params = {
        "encoder": {"embedding": jnp.array(embedding), "lstm_0": kernel},
        "decoder_bias": jnp.array(bias, jnp.float32),
    }
    moved, matched = transfer_vocabulary(params, before, after)
    assert matched == 3 + len(set(old) & set(new))
    assert moved["encoder"]["lstm_0"] is kernel
    for i, token in enumerate(after.tokens):
        known = token in before.tokens
        row = embedding[before.tokens.index(token)] if known else embedding.mean(axis=0)
        one = bias[before.tokens.index(token)] if known else bias.mean()
        np.testing.assert_allclose(moved["encoder"]["embedding"][i], row, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(moved["decoder_bias"][i], one, rtol=1e-5, atol=1e-6)


def test_the_same_vocabulary_changes_nothing():
    vocabulary = Vocabulary((*SPECIAL, "film"))
    params = {"encoder": {"embedding": jnp.eye(4)}, "decoder_bias": jnp.arange(4.0)}
    moved, matched = transfer_vocabulary(params, vocabulary, vocabulary)
    assert matched == 4
    jax.tree.map(np.testing.assert_array_equal, moved, params)
