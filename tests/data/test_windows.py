"""Windows of a stream: pure functions of a number, every token in its place."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxft.data.length_batches import LengthBatches
from jaxft.data.windows import WindowStream


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
    with pytest.raises(ValueError, match="3 tokens, too few for 4 rows of 8 tokens"):
        WindowStream(ids, offsets, [0], batch_size=4, bptt=8, seed=0)


def length_batches(lengths, batch_size=3, widths=(4, 8, 12)):
    ids, offsets = store(lengths)
    labels = np.arange(len(lengths), dtype=np.int32)
    return LengthBatches(ids, offsets, np.arange(len(lengths)), labels, batch_size, widths, pad=7)


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


def test_some_rows_of_a_window_are_those_of_the_whole_window():
    stream, rows = WindowStream(np.arange(60), np.array([0, 25, 60]), [0, 1], batch_size=4, bptt=5, seed=0), [2, 0]
    whole, part = stream.batch(1), stream.batch(1, np.array(rows))
    for name in ("inputs", "targets"):
        np.testing.assert_array_equal(part[name], whole[name][rows])
    assert part["reset"] == whole["reset"]
