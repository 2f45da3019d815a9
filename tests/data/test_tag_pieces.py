"""Sentences in windows and words in pieces: every token gets one tag, the right one, and order is kept."""

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data.pieces import load_tokenizer
from jaxft.data.spans import Scheme, read_spans, write_tags
from jaxft.data.tag_pieces import TokenIds, guess_unit, split_text, tag_pieces
from jaxft.data.vocabulary import Vocabulary
from tests.checkpoints import write_checkpoint

NAMES = {"BIO": ("O", "B-X", "I-X"), "BIOES": ("O", "B-X", "I-X", "E-X", "S-X")}
BIO = NAMES["BIO"]
load_tokenizer_once = cache(load_tokenizer)
LETTERS = Vocabulary.build(dict.fromkeys("abcdef", 9))


def pieces_of(source, sizes, max_length, scheme: Scheme = "BIO", words=tuple("abcdef"), seed=0):
    """Random sentences of these words, their tags, and the sentences as ids."""
    rng = np.random.default_rng(seed)
    sentences = [rng.choice(list(words), size).tolist() for size in sizes]
    tags = []
    for size in sizes:
        spans, place = [], 0
        while place + 1 < size:
            end = min(size, place + int(rng.integers(1, 4)))
            spans.append(("X", place, end))
            place = end + int(rng.integers(0, 4))
        tags.append(write_tags(spans, size, scheme))
    return sentences, tags, tag_pieces(sentences, tags, NAMES[scheme], scheme, TokenIds(source), max_length)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(10, 50), st.sampled_from(["BIO", "BIOES"]))
def test_windows_cover_every_token_and_come_back_in_order(sizes, max_length, scheme):
    sentences, tags, pieces = pieces_of(LETTERS, sizes, max_length, scheme)
    assert pieces.lengths.max() <= max_length
    found = [pieces.tags[a:b] for a, b in pairwise(pieces.offsets)]
    for window, (sentence, start) in zip(found, pieces.windows.tolist(), strict=True):
        names = [NAMES[scheme][tag] for tag in window.tolist()]
        whole = [(n, max(a - start, 0), min(b - start, len(window))) for n, a, b in read_spans(tags[sentence])]
        assert read_spans(names) == [span for span in whole if span[1] < span[2]]  # what is cut begins anew
    merged = pieces.merge_windows(found, NAMES[scheme])
    assert [read_spans(own) for own in merged] == [read_spans(own) for own in tags]
    assert [len(own) for own in merged] == sizes
    if max_length >= max(sizes):
        assert len(found) == len(sentences)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3), max_length=st.integers(16, 40), seed=st.integers(0, 99)
)
def test_words_of_several_pieces_come_back_too(tiny_checkpoint, sizes, max_length, seed):
    words = ("good", "film-good", "bad-and-dull", "it")  # 1, 3, 5 and 1 pieces
    tokenizer = load_tokenizer_once(tiny_checkpoint)
    schemes: tuple[Scheme, ...] = ("BIO", "BIOES")
    for scheme in schemes:
        _, tags, pieces = pieces_of(tokenizer, sizes, max_length, scheme, words, seed)
        found = [pieces.tags[a:b] for a, b in pairwise(pieces.offsets)]
        merged = pieces.merge_windows(found, NAMES[scheme])
        assert [read_spans(own) for own in merged] == [read_spans(own) for own in tags]
        starts = {tuple(window) for window in pieces.windows.tolist()}
        assert len(starts) == len(pieces.windows)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_tags_that_fit_no_scheme_are_read_as_they_stand(numbers):
    names = NAMES["BIOES"]
    pieces = tag_pieces([["a"] * len(numbers)], None, names, "BIOES", TokenIds(LETTERS), 20)
    merged = pieces.merge_windows([np.array(numbers)], names)[0]
    assert read_spans(merged) == read_spans([names[number] for number in numbers])


def test_a_token_takes_its_tag_from_the_window_that_sees_more_around_it():
    pieces = tag_pieces([list("abcdefabcd")], None, BIO, "BIO", TokenIds(LETTERS), 8)
    assert pieces.windows.tolist() == [[0, 0], [0, 6]]
    merged = pieces.merge_windows([np.zeros(8, np.int64), np.ones(4, np.int64)], BIO)[0]
    assert merged == ["O"] * 7 + ["B-X"] * 3


def test_words_become_pieces_and_only_the_first_has_a_tag(tiny_checkpoint):
    token_ids = TokenIds(load_tokenizer(tiny_checkpoint))
    sentences = [["good", "film-good", "\x07", "bad"]]
    pieces = tag_pieces(sentences, [["O", "B-X", "I-X", "O"]], BIO, "BIO", token_ids, 20)
    first, last = token_ids.special_ids
    assert (pieces.ids[0], pieces.ids[-1]) == (first[0], last[0])
    assert pieces.tags.tolist() == [-1, 0, 1, -1, -1, 2, 0, -1]
    assert pieces.ids[5] == token_ids.unk_id  # a control character of which nothing is left


def test_a_word_longer_than_a_window_still_has_its_tag(tiny_checkpoint):
    token_ids = TokenIds(load_tokenizer(tiny_checkpoint))
    words = ["good", "-".join(["film"] * 20), "bad"]
    pieces = tag_pieces([words], [["O", "B-X", "O"]], BIO, "BIO", token_ids, 8)
    found = [pieces.tags[a:b] for a, b in pairwise(pieces.offsets)]
    assert pieces.merge_windows(found, BIO) == [["O", "B-X", "O"]]


@pytest.mark.parametrize(
    ("text", "unit", "tokens"),
    [
        ("北京 好", "characters", ["北", "京", "好"]),
        (
            "@ada's #1: http://a.b/c?d, \u00fcber-cool!",
            "words",
            ["@ada's", "#1", ":", "http://a.b/c?d,", "über-cool", "!"],
        ),
        (
            "U.S. 3.5% of 1,000: cafe\u0301 हिन्दी",
            "words",
            ["U.S.", "3.5", "%", "of", "1,000", ":", "cafe\u0301", "हिन्दी"],
        ),
        ("I \u2764\ufe0fLondon\u00ad", "words", ["I", "\u2764\ufe0f", "London", "\u00ad"]),
        ("", "words", []),
        (" \t", "characters", []),
    ],
)
def test_raw_texts_are_split_where_tokens_stand(text, unit, tokens):
    assert [text[start:end] for start, end in split_text(text, unit)] == tokens


EMOJI = {
    "a skin tone": "\U0001f44d\U0001f3fd",
    "a skin tone alone": "\U0001f3fd",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "an astronaut": "\U0001f469\U0001f3fd\u200d\U0001f680",
    "two people": "\U0001f9d1\U0001f3fb\u200d\U0001f91d\u200d\U0001f9d1\U0001f3ff",
    "a flag": "\U0001f1e9\U0001f1ea",
    "a flag of tags": "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "a rainbow flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
    "a heart on fire": "\u2764\ufe0f\u200d\U0001f525",
    "a keycap": "1\ufe0f\u20e3",
    "a hash key": "#\ufe0f\u20e3",
    "plain": "\U0001f600",
}


@pytest.mark.parametrize("emoji", EMOJI.values(), ids=EMOJI)
def test_an_emoji_is_one_token_as_in_files_of_tokens(emoji):
    text = f"so {emoji} {emoji}!"
    assert [text[start:end] for start, end in split_text(text, "words")] == ["so", emoji, emoji, "!"]


# a keycap and a skin tone alone join what is before them
@pytest.mark.parametrize("name", sorted(EMOJI.keys() - {"a keycap", "a skin tone alone"}))
def test_an_emoji_is_one_token_beside_words_and_others(name):
    text = f"Ada{EMOJI[name]}{EMOJI[name]}, {EMOJI[name]}Ada"
    tokens = ["Ada", EMOJI[name], EMOJI[name], ",", EMOJI[name], "Ada"]
    assert [text[start:end] for start, end in split_text(text, "words")] == tokens


def test_tokens_are_characters_where_few_are_longer():
    assert guess_unit([list("中国人民银行今天开会"), ["2016"]]) == "characters"
    assert guess_unit([["I", "a", "b", "see"]]) == "words"


def test_a_tokenizer_without_cls_and_sep_adds_what_it_adds_to_a_text(tmp_path):
    bare = TokenIds(load_tokenizer(write_checkpoint(tmp_path / "bare", tokenizer="no cls")))
    assert bare.special_ids == ((), ())
    folder = write_checkpoint(tmp_path / "framed", tokenizer="bytes")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    framed = {"bos_token": settings.pop("cls_token"), "eos_token": settings.pop("sep_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | framed))
    assert TokenIds(load_tokenizer(folder)).special_ids == ((2,), (3,))


def test_a_token_without_pieces_has_an_id_whatever_the_tokenizer_names(tmp_path):
    folder = write_checkpoint(tmp_path, tokenizer="no cls")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    token_ids = TokenIds(load_tokenizer(folder))
    pieces = tag_pieces([["\u200b", "a"]], None, ["O"], "BIO", token_ids, 8)
    assert pieces.ids.tolist()[0] == token_ids.unk_id == 0
