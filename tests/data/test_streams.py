"""Batches: pure functions of a number, every token in its place, every document once."""

import itertools
import threading
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxft.data.streams import LengthBatches, WindowStream, length_widths


def store(lengths):
    """Documents whose tokens tell where they stand: 100 times the document plus the position."""
    ids = np.concatenate([100 * n + np.arange(length) for n, length in enumerate(lengths)])
    return ids, np.concatenate([[0], np.cumsum(lengths)])


documents_of_many_lengths = st.lists(st.integers(1, 12), min_size=2, max_size=12)


@given(documents_of_many_lengths, st.integers(1, 3), st.integers(1, 5))
def test_evaluation_predicts_every_token_but_the_first_once(lengths, batch_size, bptt):
    ids, offsets = store(lengths)
    if len(ids) < 2:
        return
    stream = WindowStream(ids, offsets, range(len(lengths)), batch_size=batch_size, bptt=bptt, seed=None)
    pairs = []
    for step in range(stream.steps_per_epoch):
        window = stream.batch(step)
        seen = window["targets"] >= 0
        pairs += list(zip(window["inputs"][seen], window["targets"][seen], strict=True))
    assert sorted(pairs) == sorted(itertools.pairwise(ids))


@given(documents_of_many_lengths, st.integers(1, 3), st.integers(1, 4), st.integers(0, 5))
def test_training_rows_go_on_from_window_to_window(lengths, batch_size, bptt, seed):
    ids, offsets = store(lengths)
    if (len(ids) - 1) // batch_size < bptt:
        return
    stream = WindowStream(ids, offsets, range(len(lengths)), batch_size=batch_size, bptt=bptt, seed=seed)
    windows = [stream.batch(step) for step in range(2 * stream.steps_per_epoch)]
    epoch = stream.steps_per_epoch
    for first, second in itertools.pairwise(windows[:epoch]):
        np.testing.assert_array_equal(first["targets"][:, -1], second["inputs"][:, 0])
    for window in windows:
        np.testing.assert_array_equal(window["inputs"][:, 1:], window["targets"][:, :-1])
        assert set(window["inputs"].ravel()) <= set(ids)
    assert [bool(window["reset"]) for window in windows] == ([True] + [False] * (epoch - 1)) * 2
    inputs = np.concatenate([window["inputs"].ravel() for window in windows[:epoch]])
    assert len(set(inputs)) == len(inputs)


def test_a_window_depends_on_its_number_alone_and_epochs_differ():
    ids, offsets = store([7, 9, 4, 11, 8])
    make: Any = {"batch_size": 2, "bptt": 3, "seed": 3}
    stream = WindowStream(ids, offsets, range(5), **make)
    later = stream.steps_per_epoch + 1
    again = WindowStream(ids, offsets, range(5), **make).batch(later)
    for step in (0, later, 1, later):
        window = stream.batch(step)
        if step == later:
            np.testing.assert_array_equal(window["inputs"], again["inputs"])
    assert not np.array_equal(stream.batch(0)["inputs"], stream.batch(stream.steps_per_epoch)["inputs"])


def test_too_few_tokens_are_refused():
    ids, offsets = store([3])
    with pytest.raises(ValueError, match="3 tokens are too few for 4 rows of 8 tokens"):
        WindowStream(ids, offsets, [0], batch_size=4, bptt=8, seed=0)


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


def test_no_length_is_left_out_of_training_for_good():
    batches = length_batches([1, 2, 3, 4, 5, 6, 7, 12])
    seen = set()
    for step in range(20 * batches.steps_per_epoch):
        seen |= set(batches.training_batch(step, seed=0)["labels"].tolist())
    assert seen == set(range(8))


@given(st.integers(1, 3000), st.integers(1, 500), st.integers(4, 80), st.integers(1, 6))
def test_widths_are_few_ascending_and_hold_the_longest(longest, max_length, bptt, buckets):
    widths = length_widths(longest, max_length, bptt, buckets)
    assert list(widths) == sorted(set(widths))
    assert len(widths) <= buckets
    assert widths[-1] >= longest
    assert all(width <= max_length for width in widths[:-1])
    assert widths[-1] <= max_length or (widths[-1] - max_length) % bptt == 0


@settings(deadline=None)
@given(tokens=st.integers(30, 5000), batch_size=st.integers(1, 6), bptt=st.integers(1, 90), seed=st.integers(0, 20))
def test_windows_of_varying_length_fit_their_row_and_follow_one_another(tokens, batch_size, bptt, seed):
    ids, offsets = np.arange(tokens), np.array([0, tokens])
    assume((tokens - 1) // batch_size >= bptt)
    stream = WindowStream(ids, offsets, [0], batch_size=batch_size, bptt=bptt, seed=seed, vary=True)
    for epoch in (0, 1):
        lengths = stream.window_lengths(epoch)
        np.testing.assert_array_equal(lengths, stream.window_lengths(epoch))
        assert len(lengths) == stream.steps_per_epoch
        assert lengths.min() >= 1
        assert lengths.sum() <= (tokens - 1) // batch_size
        windows = [stream.batch(epoch * stream.steps_per_epoch + i) for i in range(min(4, stream.steps_per_epoch))]
        rows = np.concatenate([window["inputs"] for window in windows], axis=1)
        assert (np.diff(rows, axis=1) == 1).all()  # each goes on where the one before ended
        assert all((window["targets"] == window["inputs"] + 1).all() for window in windows)


def test_lengths_of_windows_follow_the_published_distribution():
    tokens = 20 * 70 * 3000
    stream = WindowStream(np.zeros(tokens), np.array([0, tokens]), [0], batch_size=20, bptt=70, seed=0, vary=True)
    lengths = stream.window_lengths(0)
    assert set(lengths) <= set(range(10, 110, 10))
    assert abs((lengths <= 50).mean() - 0.05) < 0.01
    assert abs(lengths[lengths > 50].mean() - 70) < 0.5
    assert lengths.sum() > 0.98 * tokens / 20


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
