"""Batches of documents: pure functions of a number, every document once, few widths."""

import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.length_batches import LengthBatches, length_widths


def store(lengths):
    """Documents whose tokens tell where they stand: 100 times the document plus the position."""
    ids = np.concatenate([100 * n + np.arange(length) for n, length in enumerate(lengths)])
    return ids, np.concatenate([[0], np.cumsum(lengths)])


documents_of_many_lengths = st.lists(st.integers(1, 12), min_size=2, max_size=12)


def length_batches(lengths, batch_size=3, widths=(4, 8, 12)):
    ids, offsets = store(lengths)
    labels = np.arange(len(lengths), dtype=np.int32)
    return LengthBatches(ids, offsets, np.arange(len(lengths)), labels, batch_size, widths, pad=7)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(1, 5))
def test_documents_stand_on_the_right_and_every_position_comes_once(lengths, batch_size):
    batches = length_batches(lengths, batch_size)
    seen = []
    for positions in batches.evaluation_batches():
        batch = batches.evaluation_batch(positions)
        assert batch["tokens"].shape[0] == batch_size
        assert batch["tokens"].shape[1] in batches.widths
        for row, length, document in zip(batch["tokens"], batch["lengths"], positions, strict=False):
            assert (row[:-length] == 7).all()
            np.testing.assert_array_equal(row[-length:], 100 * document + np.arange(length))
        seen += positions.tolist()
    assert sorted(seen) == list(range(len(lengths)))


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20), st.integers(0, 9))
def test_an_epoch_of_training_has_no_document_twice_and_starts_with_the_widest(lengths, seed):
    batches = length_batches(lengths)
    epoch = [batches.training_batch(step, seed) for step in range(batches.steps_per_epoch)]
    labels = np.concatenate([batch["labels"] for batch in epoch])
    assert len(set(labels.tolist())) == len(labels) == min(3, len(lengths)) * len(epoch)
    assert len(labels) > len(lengths) - 3
    widths = [batch["tokens"].shape[1] for batch in epoch]
    assert widths[0] == max(widths)


@pytest.mark.parametrize(("documents", "empty", "together"), [(500, 0.25, 0.7), (4000, 0.08, 0.4), (12800, 0.04, 0.4)])
def test_batches_hold_texts_of_like_length_and_other_texts_in_every_epoch(documents, empty, together):
    lengths = np.random.default_rng(0).lognormal(5.2, 0.6, documents).astype(int) + 1  # as of film reviews
    batches = length_batches(lengths, batch_size=32, widths=(int(lengths.max()),))
    steps = batches.steps_per_epoch
    epochs = [[batches.training_batch(epoch * steps + i, seed=0) for i in range(steps)] for epoch in (0, 1)]
    of = np.stack([batch["lengths"] for batch in epochs[0]])
    assert 1 - of.sum() / (32 * of.max(axis=1)).sum() < empty  # the share of a step in which no word stands
    first, second = (np.stack([batch["labels"] for batch in epoch]) for epoch in epochs)
    again = [max(np.isin(row, other).mean() for other in second) for row in first[:40]]
    assert np.mean(again) < together


def test_the_longest_document_of_a_training_batch_comes_first():
    batches = length_batches(list(range(1, 13)), batch_size=4, widths=(12,))
    for step in range(2 * batches.steps_per_epoch):
        lengths = batches.training_batch(step, seed=0)["lengths"].tolist()
        assert lengths == sorted(lengths, reverse=True)


def test_the_order_of_an_epoch_is_made_once(monkeypatch):
    made = []
    monkeypatch.setattr(np, "lexsort", lambda keys, sort=np.lexsort: made.append(1) or sort(keys))
    batches = length_batches([1, 2, 3, 4, 5, 6, 7, 12])
    epoch = [batches.training_batch(step, seed=0)["labels"].tolist() for step in range(4)]
    assert len(made) == 2  # of two batches each
    fresh = [length_batches([1, 2, 3, 4, 5, 6, 7, 12]).training_batch(step, seed=0) for step in range(4)]
    assert epoch == [batch["labels"].tolist() for batch in fresh]


@given(st.lists(st.integers(1, 12), min_size=4, max_size=12), st.permutations(range(4)))
def test_some_rows_of_a_batch_are_those_of_the_whole_batch(lengths, rows):
    batches, rows = length_batches(lengths, batch_size=4), np.array(rows[:2])
    whole, part = batches.training_batch(0, seed=1), batches.training_batch(0, seed=1, rows=rows)
    for name in whole:
        np.testing.assert_array_equal(part[name], whole[name][rows])


def test_no_length_is_left_out_of_training_for_good():
    batches = length_batches([1, 2, 3, 4, 5, 6, 7, 12])
    seen = set()
    for step in range(20 * batches.steps_per_epoch):
        seen |= set(batches.training_batch(step, seed=0)["labels"].tolist())
    assert seen == set(range(8))


@given(st.integers(1, 9000), st.integers(1, 500), st.integers(4, 80), st.integers(1, 6))
def test_widths_are_few_ascending_and_hold_the_longest(longest, max_length, bptt, buckets):
    widths = length_widths(longest, max_length, bptt, buckets)
    assert list(widths) == sorted(set(widths))
    assert widths[-1] >= longest
    assert widths[-1] <= max_length or (widths[-1] - max_length) % bptt == 0
    shorter = list(widths[:-1])
    if widths[-1] > max_length + 128 * bptt:
        assert shorter.pop() == max_length + 16 * bptt
    assert len(shorter) < buckets
    assert all(width <= max_length for width in shorter)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=12), batch_size=st.integers(1, 5))
@settings(deadline=None)
def test_columns_and_what_is_made_of_every_token_come_back_in_order(lengths, batch_size):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(offsets[-1]).astype(np.int32)
    for padding in ("left", "right"):
        batches = LengthBatches(
            ids,
            offsets,
            np.arange(len(lengths)),
            np.zeros(len(lengths), np.int32),
            batch_size,
            (8, 20),
            0,
            padding,
            {"double": (2 * ids, -7)},
        )
        for positions in batches.evaluation_batches():
            batch = batches.evaluation_batch(positions)
            real = batch["double"] != -7
            assert (real.sum(axis=1) == batch["lengths"]).all()
            assert (batch["double"] == np.where(real, 2 * batch["tokens"], -7)).all()
        found = batches.map_tokens(lambda batch: batch["tokens"] + batch["double"])
        assert [row.tolist() for row in found] == [(3 * ids[a:b]).tolist() for a, b in pairwise(offsets)]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_batches_computed_at_once_come_back_in_order(at_once):
    batches = length_batches(list(range(1, 13)), batch_size=1, widths=(12,))
    together, lock = threading.Barrier(at_once), threading.Lock()
    running, most = 0, 0

    def first_word(batch):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(timeout=30)  # never passes where fewer are computed at once; 12 is a multiple
        with lock:
            running -= 1
        return batch["tokens"][:, -batch["lengths"][0], None]

    found = batches.map(first_word, at_once)
    assert most == at_once
    assert found.ravel().tolist() == [100 * document for document in range(12)]


@pytest.mark.parametrize("at_once", [1, 2])
def test_few_batches_are_begun_before_the_first_is_fetched(at_once):
    batches, begun, fetched = length_batches(list(range(1, 13)), batch_size=1), [], []

    class Answer:
        def __array__(self, dtype=None, copy=None):
            fetched.append(len(begun))
            return np.zeros((1, 1), np.float32)

    def answer(batch):
        begun.append(batch)
        return Answer()

    batches.map(answer, at_once)
    assert fetched[0] <= at_once + 1
    assert len(begun) == len(fetched) == 12
    begun.clear()
    evaluated = batches._evaluated(answer, at_once)
    next(evaluated)
    time.sleep(0.2)  # a thread that was given more would go on
    assert len(begun) <= at_once + 1


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_error_in_a_batch_ends_the_evaluation(at_once):
    begun = []

    def fail(batch):
        begun.append(batch)
        raise RuntimeError(f"no memory for {batch['tokens'].shape}")

    with pytest.raises(RuntimeError, match=r"no memory for \(1, 12\)"):
        length_batches(list(range(1, 13)), batch_size=1).map(fail, at_once)
    assert len(begun) <= at_once + 1
