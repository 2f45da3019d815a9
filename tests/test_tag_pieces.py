"""Sentences in windows and words in pieces: every token gets one tag, the right one, and order is kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.pieces import load_tokenizer
from jaxft.data.spans import read_spans, write_tags
from jaxft.data.tag_pieces import PieceMaker, guess_unit, split_text, tag_pieces
from jaxft.data.vocabulary import Vocabulary

NAMES = ("O", "B-X", "I-X")
LETTERS = Vocabulary.build(dict.fromkeys("abcdef", 9))


def letters(sizes, max_length, seed=0):
    rng = np.random.default_rng(seed)
    sentences = [rng.choice(list("abcdef"), size).tolist() for size in sizes]
    tags = []
    for size in sizes:
        spans, place = [], 0
        while place + 1 < size:
            end = min(size, place + int(rng.integers(1, 4)))
            spans.append(("X", place, end))
            place = end + int(rng.integers(0, 4))
        tags.append(write_tags(spans, size))
    return sentences, tags, tag_pieces(sentences, tags, NAMES, "BIO", PieceMaker(LETTERS), max_length)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(4, 50))
def test_windows_cover_every_token_and_come_back_in_order(sizes, max_length):
    sentences, tags, pieces = letters(sizes, max_length)
    assert pieces.lengths.max() <= max_length
    found = [pieces.tags[a:b] for a, b in zip(pieces.offsets, pieces.offsets[1:], strict=False)]
    for window, (sentence, start) in zip(found, pieces.windows.tolist(), strict=True):
        names = [NAMES[tag] for tag in window.tolist()]
        whole = [(n, max(a - start, 0), min(b - start, len(window))) for n, a, b in read_spans(tags[sentence])]
        assert read_spans(names) == [span for span in whole if span[1] < span[2]]  # what is cut begins anew
    merged = pieces.merged(found, NAMES)
    assert [len(own) for own in merged] == sizes
    if max_length >= max(sizes):
        assert merged == tags
        assert len(found) == len(sentences)


def test_a_token_takes_its_tag_from_the_window_that_sees_more_around_it():
    pieces = tag_pieces([list("abcdefabcd")], None, NAMES, "BIO", PieceMaker(LETTERS), 8)
    assert pieces.windows.tolist() == [[0, 0], [0, 6]]
    merged = pieces.merged([np.zeros(8, np.int64), np.ones(4, np.int64)], NAMES)[0]
    assert merged == ["O"] * 7 + ["B-X"] * 3


def test_words_become_pieces_and_only_the_first_has_a_tag(tiny_checkpoint):
    maker = PieceMaker(load_tokenizer(tiny_checkpoint))
    sentences = [["good", "film-good", "\x07", "bad"]]
    pieces = tag_pieces(sentences, [["O", "B-X", "I-X", "O"]], NAMES, "BIO", maker, 20)
    first, last = maker.around
    assert (pieces.ids[0], pieces.ids[-1]) == (first[0], last[0])
    assert pieces.tags.tolist() == [-1, 0, 1, -1, -1, 2, 0, -1]
    assert pieces.ids[5] == maker.unknown  # a control character of which nothing is left


def test_a_word_longer_than_a_window_still_has_its_tag(tiny_checkpoint):
    maker = PieceMaker(load_tokenizer(tiny_checkpoint))
    words = ["good", "-".join(["film"] * 20), "bad"]
    pieces = tag_pieces([words], [["O", "B-X", "O"]], NAMES, "BIO", maker, 8)
    found = [pieces.tags[a:b] for a, b in zip(pieces.offsets, pieces.offsets[1:], strict=False)]
    assert pieces.merged(found, NAMES) == [["O", "B-X", "O"]]


@pytest.mark.parametrize(
    ("text", "unit", "tokens"),
    [
        ("北京 好", "characters", ["北", "京", "好"]),
        (
            "@ada's #1: http://a.b/c?d, \u00fcber-cool!",
            "words",
            ["@ada's", "#1", ":", "http://a.b/c?d,", "über-cool", "!"],
        ),
        ("", "words", []),
        (" \t", "characters", []),
    ],
)
def test_raw_texts_are_split_where_tokens_stand(text, unit, tokens):
    assert [text[start:end] for start, end in split_text(text, unit)] == tokens


def test_tokens_are_characters_where_few_are_longer():
    assert guess_unit([list("中国人民银行今天开会"), ["2016"]]) == "characters"
    assert guess_unit([["I", "a", "b", "see"]]) == "words"
