"""Texts as word pieces: what is cut is counted, and windows hold all of a long text."""

import itertools

import numpy as np
import pytest

from jaxft.data.pieces import encode, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint):
    return load_tokenizer(tiny_checkpoint)


def test_pieces_are_cut_and_counted(tokenizer):
    pieces = encode(tokenizer, [("good film " * 20,), ("bad",)], 8)
    assert pieces.lengths.tolist() == [8, 3]
    assert (pieces.truncated, pieces.cut) == (1, 40 - 6)
    assert pieces.token_type_ids is None
    pairs = encode(tokenizer, [("good film", "bad")], 8)
    assert pairs.token_type_ids is not None
    assert pairs.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1]
    assert (pairs.truncated, pairs.cut) == (0, 0)
    pairs = encode(tokenizer, [("good film " * 5, "bad " * 3), ("one", "two")], 12)
    assert (pairs.truncated, pairs.cut) == (1, 10 + 3 + 3 - 12)


@pytest.mark.parametrize("words", [1, 6, 7, 23, 40])
def test_windows_overlap_and_hold_every_piece(tokenizer, words):
    text = (["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"] * 5)[:words]
    pieces = encode(tokenizer, [("bad",), (" ".join(text),), ("good",)], 8, "windows")
    assert (pieces.truncated, pieces.cut) == (0, 0)
    rows = pieces.rows(np.array([1]))
    assert np.flatnonzero(pieces.texts == 1).tolist() == rows.tolist()
    inner = [pieces.ids[pieces.offsets[row] + 1 : pieces.offsets[row + 1] - 1].tolist() for row in rows]
    whole = tokenizer(" ".join(text), add_special_tokens=False)["input_ids"]
    assert inner[0] + [piece for window in inner[1:] for piece in window[2:]] == whole
    assert all(before[-2:] == after[:2] for before, after in itertools.pairwise(inner))


def test_the_values_of_windows_are_averaged_in_the_order_of_the_texts(tokenizer):
    pieces = encode(tokenizer, [("bad film " * 10,), ("good",), ("fine " * 9,)], 8, "windows")
    texts = np.array([2, 0, 1])
    values = np.arange(len(pieces.rows(texts)), dtype=np.float32)[:, None]
    counts = [(pieces.texts == text).sum() for text in texts]
    expected = [part.mean() for part in np.split(values[:, 0], np.cumsum(counts)[:-1])]
    np.testing.assert_allclose(pieces.means(texts, values)[:, 0], expected)
    assert pieces.rows(np.array([], np.int64)).tolist() == []
