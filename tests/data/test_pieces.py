"""Texts as word pieces: what is cut is counted, and windows hold all of a long text."""

import itertools
import os

import numpy as np
import pytest

from jaxft.data import growing
from jaxft.data import pieces as pieces_module
from jaxft.data.pieces import encode, load_tokenizer
from jaxft.errors import InputError
from tests.checkpoints import write_checkpoint


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


@pytest.fixture(scope="module", params=["wordpiece", "slow"])
def fast_or_slow(request, tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), tokenizer=request.param)
    return load_tokenizer(folder)


def test_what_a_tokenizer_written_in_python_cuts_is_counted_as_well(fast_or_slow):
    pieces = encode(fast_or_slow, [("good film " * 20,), ("bad",), ("so " * 7,)], 8)
    assert pieces.lengths.tolist() == [8, 3, 8]
    assert (pieces.truncated, pieces.cut) == (2, 34 + 1)
    pairs = encode(fast_or_slow, [("good film " * 5, "bad " * 3), ("so", "then")], 12)
    assert (pairs.truncated, pairs.cut) == (1, 10 + 3 + 3 - 12)


def test_a_tokenizer_written_in_python_makes_no_windows(fast_or_slow):
    if not fast_or_slow.is_fast:
        with pytest.raises(InputError, match=r"cannot make windows, .* tokenizer\.json: give --long-texts cut"):
            encode(fast_or_slow, [("good film " * 20,)], 8, "windows")


def test_a_text_without_pieces_is_one_unknown_piece(tmp_path):
    tokenizer = load_tokenizer(write_checkpoint(tmp_path, tokenizer="no cls"))
    pieces = encode(tokenizer, [("",), ("good",), ("\u200b",)], 8)
    assert pieces.lengths.tolist() == [1, 1, 1]
    assert pieces.ids[0] == pieces.ids[2] == tokenizer.unk_token_id
    pairs = encode(tokenizer, [("", ""), ("good", "bad")], 8)
    assert pairs.token_type_ids is not None
    assert pairs.token_type_ids.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "settings", [None, '{"model_max_length": 512}', '{"do_lower_case": false}', '{"do_lower_case": true}']
)
def test_a_cased_vocabulary_needs_its_settings(settings, tmp_path):
    folder = write_checkpoint(tmp_path, tokenizer=None)
    cased = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Ada", "Rome", "in", "the", "##ly"]
    (folder / "vocab.txt").write_text("\n".join(cased))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(settings)
    if settings is None or "do_lower_case" not in settings:
        with pytest.raises(InputError, match=r'upper-case pieces .* with {"do_lower_case": false} for a cased model'):
            load_tokenizer(folder)
        (folder / "vocab.txt").write_text("\n".join(cased).replace("Ada", "ada").replace("Rome", "[UNUSED]"))
        load_tokenizer(folder)
        return
    ids = load_tokenizer(folder)("Ada in Rome", add_special_tokens=False)["input_ids"]
    assert ids == ([5, 7, 6] if "false" in settings else [1, 7, 1])


@pytest.mark.parametrize("kind", ["single", "pairs", "windows"])
def test_texts_encoded_part_by_part_onto_the_disk_are_the_same(kind, fast_or_slow, tmp_path, monkeypatch):
    if kind == "windows" and not fast_or_slow.is_fast:
        pytest.skip("a tokenizer written in Python makes no windows")
    texts = [("bad film " * n,) if kind != "pairs" else ("bad " * n, "good film") for n in (9, 1, 5, 2, 7)]
    arguments = (fast_or_slow, texts, 10, "windows" if kind == "windows" else "cut")
    whole = encode(*arguments)
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pieces_module, "AT_ONCE", 2)
    monkeypatch.setattr(growing, "MOST_IN_MEMORY", 0)
    parts = encode(*arguments)
    assert isinstance(parts.ids, np.memmap)
    for name in ("ids", "offsets", "texts", "token_type_ids", "truncated", "cut"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert os.listdir(tmp_path / "cache") == []
