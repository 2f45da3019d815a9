"""What has to hold of the encoder, the language model and the classifier, whatever their weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxft.models import awd_lstm, heads
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel, initial_carry, language_model_loss
from jaxft.models.heads import Classifier, classification_loss
from jaxft.models.options import NO_DROPOUT, Dropouts
from jaxft.models.pooling import concat_pool

CONFIG = AWDLSTMConfig(vocabulary_size=40, embedding_size=6, hidden_size=9, num_layers=3)
DROPOUTS = Dropouts(0.3, 0.2, 0.3, 0.5, 0.1)


def language_model(dropouts=DROPOUTS):
    graphdef, state = nnx.split(LanguageModel(CONFIG, dropouts, nnx.Rngs(0)))
    return graphdef, nnx.to_pure_dict(state)


def windows(seed, batch=4, steps=6):
    tokens = np.random.default_rng(seed).integers(0, CONFIG.vocabulary_size, (batch, steps + 1))
    return {
        "inputs": jnp.asarray(tokens[:, :-1], jnp.int32),
        "targets": jnp.asarray(tokens[:, 1:], jnp.int32),
        "reset": jnp.asarray(False),
    }


def classifier(max_length=6, bptt=3, dropouts=DROPOUTS, **options):
    model = Classifier(CONFIG, 2, dropouts, nnx.Rngs(0), max_length=max_length, bptt=bptt, **options)
    graphdef, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)


def padded(documents, width):
    tokens = np.full((len(documents), width), 1, np.int32)
    for row, document in zip(tokens, documents, strict=True):
        row[width - len(document) :] = document
    return jnp.asarray(tokens), jnp.asarray([len(d) for d in documents], jnp.int32)


def logits(parts, documents, width, key=None):
    graphdef, params, statistics = parts

    @jax.jit
    def apply(params, statistics, tokens, lengths, key):
        return nnx.merge(graphdef, params, statistics)(tokens, lengths, key)

    return apply(params, statistics, *padded(documents, width), key)


def documents(seed, lengths):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, CONFIG.vocabulary_size, n) for n in lengths]


@pytest.mark.slow
def test_every_weight_gets_a_finite_gradient_under_dropconnect():
    graphdef, params = language_model()
    batch = windows(0, batch=16, steps=20)
    gradient = jax.jit(jax.grad(lambda p, k: language_model_loss(graphdef)(p, initial_carry(CONFIG, 16), batch, k)[0]))
    total = jax.tree.map(jnp.zeros_like, params)
    for i in range(32):  # a weight that one mask drops is kept by another
        total = jax.tree.map(lambda t, g: t + jnp.abs(g), total, gradient(params, jax.random.key(i)))
    for path, values in jax.tree_util.tree_leaves_with_path(total):
        assert bool(jnp.isfinite(values).all()), path
        assert bool((values > 0).all()), path


@pytest.mark.slow
def test_every_classifier_weight_gets_a_finite_gradient():
    graphdef, params, statistics = classifier(max_length=30)
    tokens, lengths = padded(documents(0, [30] * 16), 30)
    batch = {"tokens": tokens, "lengths": lengths, "labels": jnp.arange(16) % 2}
    gradient = jax.jit(jax.grad(lambda p, k: classification_loss(graphdef)(p, statistics, batch, k)[0]))
    total = jax.tree.map(jnp.zeros_like, params)
    for i in range(20):
        total = jax.tree.map(lambda t, g: t + jnp.abs(g), total, gradient(params, jax.random.key(i)))
    for path, values in jax.tree_util.tree_leaves_with_path(total["encoder"]):
        rows = values > 0
        if "embedding" in str(path):  # a word that no document holds gets none
            rows = rows[np.unique(tokens)]
        assert bool(rows.all()), path
    assert all(bool(jnp.isfinite(values).all()) for values in jax.tree.leaves(total))
    # a unit that ReLU keeps shut for all documents gets no gradient; most must
    assert all(float((values > 0).mean()) > 0.8 for values in jax.tree.leaves(total["head"]))


def test_two_windows_equal_one_of_twice_the_length():
    graphdef, params = language_model()
    model = jax.jit(nnx.merge(graphdef, params))
    tokens = windows(1, steps=10)["inputs"]
    whole, end = model(tokens, initial_carry(CONFIG, 4))
    first, middle = model(tokens[:, :5], initial_carry(CONFIG, 4))
    second, later_end = model(tokens[:, 5:], middle)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), later_end, end)


def test_no_word_sees_a_later_one():
    graphdef, params = language_model()

    def summed(table):
        changed = {**params, "encoder": {**params["encoder"], "embedding": table}}
        tokens = jnp.arange(7)[None, :]  # each word its own row of the table
        outputs, _, _ = nnx.merge(graphdef, changed).encoder(tokens, initial_carry(CONFIG, 1))
        return outputs.sum(axis=(1, 2))

    gradients = jax.jit(jax.jacrev(summed))(params["encoder"]["embedding"])  # (position, word, feature)
    reached = np.abs(gradients).sum(axis=2) > 0
    np.testing.assert_array_equal(reached[:, :7], np.tri(7, dtype=bool))
    assert not reached[:, 7:].any()


def test_reset_starts_from_a_zero_state():
    graphdef, params = language_model()
    loss = jax.jit(language_model_loss(graphdef))
    dirty = jax.tree.map(lambda c: c + 1, initial_carry(CONFIG, 4))
    batch = windows(2)
    fresh = loss(params, initial_carry(CONFIG, 4), batch, None)[0]
    assert float(loss(params, dirty, {**batch, "reset": jnp.asarray(True)}, None)[0]) == float(fresh)
    assert float(loss(params, dirty, batch, None)[0]) != float(fresh)


def test_penalties_are_the_published_ones():
    graphdef, params = language_model(NO_DROPOUT)
    batch, carry, key = windows(3), initial_carry(CONFIG, 4), jax.random.key(0)
    outputs, _, _ = nnx.merge(graphdef, params).encoder(batch["inputs"], carry)
    plain = jax.jit(language_model_loss(graphdef, 0.0, 0.0))(params, carry, batch, key)[0]
    penalized = jax.jit(language_model_loss(graphdef, 2.0, 1.0))(params, carry, batch, key)[0]
    expected = 2 * np.mean(np.square(outputs)) + np.mean(np.square(np.diff(outputs, axis=0)))
    np.testing.assert_allclose(penalized - plain, expected, rtol=1e-3)


@pytest.mark.parametrize("field", ["input", "hidden", "output", "weight", "embedding"])
def test_each_dropout_acts_alone_and_only_with_a_key(field):
    graphdef, params = language_model(Dropouts(**{**dict.fromkeys(vars(NO_DROPOUT), 0.0), field: 0.5}))
    model, plain = (jax.jit(nnx.merge(g, params)) for g in (graphdef, language_model(NO_DROPOUT)[0]))
    tokens, carry = windows(4)["inputs"], initial_carry(CONFIG, 4)
    without = plain(tokens, carry)[0]
    np.testing.assert_array_equal(model(tokens, carry)[0], without)
    one, again, other = (model(tokens, carry, jax.random.key(k))[0] for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, without)
    assert not np.allclose(one, other)


def test_output_dropout_mask_is_one_per_sequence():
    graphdef, params = language_model(Dropouts(0.0, 0.0, 0.5, 0.0, 0.0))
    _, dropped, _ = nnx.merge(graphdef, params).encoder(
        windows(5)["inputs"], initial_carry(CONFIG, 4), key=jax.random.key(0)
    )
    zero = np.asarray(dropped == 0)  # (T, B, E)
    assert zero.any()
    assert (zero == zero[:1]).all()
    assert not (zero[0] == zero[0, :1]).all()


@pytest.mark.parametrize("dropouts", [Dropouts(0.5, 0.0, 0.0, 0.0, 0.0), Dropouts(0.0, 0.5, 0.0, 0.0, 0.0)])
def test_input_and_hidden_dropout_masks_are_one_per_sequence(dropouts):
    """Two windows that share a key must see one mask: read in one go or in halves, the outputs are the same."""
    graphdef, params = language_model(dropouts)
    encoder, key = jax.jit(nnx.merge(graphdef, params).encoder), jax.random.key(0)
    tokens, carry = windows(5)["inputs"], initial_carry(CONFIG, 4)
    whole, _, _ = encoder(tokens, carry, key=key)
    first, _, middle = encoder(tokens[:, :2], carry, key=key)
    second, _, _ = encoder(tokens[:, 2:], middle, key=key)
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, rtol=1e-6, atol=1e-7)
    same_rows = jnp.broadcast_to(tokens[:1], tokens.shape)
    outputs, _, _ = encoder(same_rows, carry, key=key)
    assert not np.allclose(outputs[:, 0], outputs[:, 1])


@pytest.mark.parametrize("max_length", [pytest.param(6, marks=pytest.mark.slow), 30])
def test_logits_do_not_depend_on_padding_or_batch_mates(max_length):
    parts, texts = classifier(max_length=max_length), documents(0, [30, 1, 5, 17, 6, 7])
    together = logits(parts, texts, 30)
    wider = logits(parts, texts, 36)
    np.testing.assert_allclose(wider, together, rtol=1e-5, atol=1e-6)
    for i, text in enumerate(texts):
        width = max_length + -(-max(0, len(text) - max_length) // 3) * 3
        np.testing.assert_allclose(logits(parts, [text], width)[0], together[i], rtol=1e-5, atol=1e-6)


def test_the_output_dropout_is_left_to_the_head():
    texts, key = documents(2, [12] * 8), jax.random.key(0)

    def classifier_logits(output):
        parts = classifier(dropouts=Dropouts(0.0, 0.0, output, 0.0, 0.0), head_dropouts=(0.0, 0.0))
        return logits(parts, texts, 12, key)

    np.testing.assert_array_equal(classifier_logits(0.5), classifier_logits(0.0))


def test_head_dropout_acts_on_pooled_and_hidden_features():
    texts, key = documents(2, [12] * 8), jax.random.key(0)

    def classifier_logits(*head_dropouts):
        parts = classifier(dropouts=NO_DROPOUT, head_dropouts=head_dropouts)
        return np.asarray(logits(parts, texts, 12, key))

    plain = classifier_logits(0.0, 0.0)
    assert not np.allclose(classifier_logits(0.5, 0.0), plain)
    assert not np.allclose(classifier_logits(0.0, 0.5), plain)


def test_state_runs_through_the_whole_document_and_the_gradient_through_its_end():
    graphdef, params, statistics = classifier(max_length=6)
    text = np.arange(12)

    @jax.jit
    def summed(table):
        changed = {**params, "encoder": {**params["encoder"], "embedding": table}}
        return nnx.merge(graphdef, changed, statistics)(*padded([text], 12)).sum()

    table = params["encoder"]["embedding"]
    reached = np.flatnonzero(np.abs(jax.jit(jax.grad(summed))(table)).sum(axis=1))
    assert reached.tolist() == list(range(6, 12))
    assert float(summed(table)) != float(summed(table.at[0].add(1.0)))


def test_chunks_before_the_end_change_nothing_but_the_gradient():
    texts = documents(1, [21, 12, 9])
    graphdef, params, statistics = classifier(max_length=21)
    outputs, _, _ = nnx.merge(graphdef, params, statistics).encoder(
        padded(texts, 21)[0], initial_carry(CONFIG, 3), jnp.arange(21)[None, :] >= 21 - jnp.array([21, 12, 9])[:, None]
    )
    tail = (jnp.arange(21)[None, :] >= 21 - jnp.array([21, 12, 9])[:, None])[:, -6:]
    head = nnx.merge(graphdef, params, statistics).head
    expected = head(concat_pool(outputs[-6:], tail.T))
    np.testing.assert_allclose(logits(classifier(max_length=6), texts, 21), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("max_length", [6, 7, 30])
@pytest.mark.parametrize("width", [30, 31, 45])
@pytest.mark.parametrize("many_texts", [6, 7])  # in columns, in rows
def test_evaluation_in_chunks_equals_a_call_without_a_key(max_length, width, many_texts, monkeypatch):
    for module in (awd_lstm, heads):
        monkeypatch.setattr(module, "MANY_TEXTS", many_texts)
    (graphdef, params, statistics), texts = classifier(max_length=max_length), documents(0, [29, 1, 5, 17, 6, 7])
    model = nnx.merge(graphdef, params, statistics)
    weights = awd_lstm.column_weights(params["encoder"], CONFIG, len(texts))
    assert (weights is not None) == (len(texts) >= many_texts)
    taken, step_columns, batch = [], awd_lstm.Encoder.step_columns, padded(texts, width)

    def counted(*arguments):
        jax.debug.callback(partial(taken.append, 1))
        return step_columns(*arguments)

    monkeypatch.setattr(awd_lstm.Encoder, "step_columns", counted)
    chunked, whole = jax.jit(model.evaluate)(*batch, weights), jax.jit(model)(*batch)
    jax.effects_barrier()
    assert len(taken) == (0 if weights is None else 29)  # and none of the padding that all texts have
    np.testing.assert_allclose(chunked, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [[30, 5, 4, 4, 3, 2, 2, 1, 1] * 2, [1, 4, 30, 2, 7, 25, 3, 30, 2] * 2])
@pytest.mark.parametrize("many_texts", [18, 19])  # all in columns and fewer in rows, or all in rows
def test_documents_that_have_not_begun_are_left_out_and_change_nothing(lengths, many_texts, monkeypatch):
    for module in (awd_lstm, heads):
        monkeypatch.setattr(module, "MANY_TEXTS", many_texts)
    parts, texts = classifier(max_length=6), documents(0, lengths)
    model, loops, answers = nnx.merge(*parts), [], []
    weights = awd_lstm.column_weights(parts[1]["encoder"], CONFIG, len(texts))
    for chunks in (1000, 0):
        monkeypatch.setattr(heads, "LONG_CHUNKS", chunks)
        evaluate = jax.jit(lambda batch: model.evaluate(*batch, weights=weights))
        loops.append(str(jax.make_jaxpr(evaluate)(padded(texts, 30))).count("while["))
        with_dropout = logits(parts, texts, 30, jax.random.key(0))
        answers.append((evaluate(padded(texts, 30)), logits(parts, texts, 30), with_dropout))
    steps = 0 if weights is None else 1  # of all texts in columns
    assert loops == [1 + steps, 3 + steps]  # for all rows, and for one, two and all
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), *answers)


def test_memory_of_an_evaluation_does_not_grow_with_the_width():
    graphdef, params, statistics = classifier(max_length=6000)

    def temporary(width):
        evaluate = jax.jit(lambda p, tokens, lengths: nnx.merge(graphdef, p, statistics).evaluate(tokens, lengths))
        analysis = evaluate.lower(params, *padded(documents(0, [4, 2]), width)).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    ids = 2 * 5400 * 4
    assert temporary(6000) < temporary(600) + 2 * ids


def test_batch_norm_learns_its_statistics_only_with_a_key():
    graphdef, params, statistics = classifier(max_length=30)
    tokens, lengths = padded(documents(0, [30] * 8), 30)
    batch = {"tokens": tokens, "lengths": lengths, "labels": jnp.arange(8) % 2}
    loss = jax.jit(classification_loss(graphdef))
    _, (kept, _) = loss(params, statistics, batch, None)
    _, (moved, _) = loss(params, statistics, batch, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, kept, statistics)
    assert all(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (moved, statistics)), strict=True))
