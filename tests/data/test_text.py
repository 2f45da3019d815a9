"""fastai's tokens, for texts of our own and for real reviews, and the fast path against the rules one at a time."""

import hashlib
import json
from array import array
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.data import words
from jaxft.data.corpus import open_corpus
from jaxft.data.text import RULES, SPECIALS, tokenize, tokenize_by_rules
from jaxft.data.words import EXCEPTIONS, split_word
from jaxft.data.worker import Numberer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "fastai_tokens.json").read_text())


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


@pytest.mark.parametrize(("text", "tokens"), GOLDEN["sentences"], ids=range(len(GOLDEN["sentences"])))
def test_tokens_are_those_of_fastai(text, tokens):
    assert tokenize(text) == tokens


@pytest.mark.slow
@pytest.mark.realdata
def test_tokens_of_300_reviews_are_those_of_fastai(real_data):
    # The archive holds the test split first, of which the golden reviews are every 83rd.
    corpus = open_corpus(str(real_data / "imdb" / "aclImdb_v1.tar.xz"))
    tests = (document.text for document in corpus.documents() if document.split == "test")
    results = {}
    for text in islice(tests, 0, 83 * 300, 83):
        tokens = tokenize(text)
        results[digest(text)] = [len(tokens), digest(" ".join(tokens))]
    assert results == GOLDEN["reviews"]


# Pieces that the rules act on, so that random texts meet them side by side.
PIECES = st.sampled_from(
    [
        *("no", "No", "NO", "z", "zz", "zzz", "a", "it", "it's", "s", "'s", "em", "Great", "GREAT", "gReat", "word"),
        *("333", "4444", "4", "10", "km", "x" * 11, "xxrep", "É", "Σ", "İ", "日", "😀", "½", "’s", "don’t", "°c"),
        *(
            ".",
            ",",
            "!",
            "?",
            "...",
            "..",
            "-",
            "--",
            "'",
            '"',
            "(",
            ")",
            ":",
            ";",
            "/",
            "#",
            "\\",
            "*",
            "&amp;",
            "%",
            "$",
        ),
        *(" ", "  ", "\n", "\t", "\x85", "\xa0", "\u2003", "<br />", " @-@ ", "n't", ":)", "a.m.", "e.g."),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=14).map("".join), st.lists(PIECES, max_size=8).map(" ".join), st.text())


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(TEXTS)
def test_fast_path_is_the_rules_one_at_a_time(text):
    assert tokenize(text) == tokenize_by_rules(text)


NUMBER, NUMBERED = Numberer(), []


@settings(max_examples=1000, deadline=None)
@given(st.lists(TEXTS, max_size=3))
def test_workers_number_the_same_tokens(texts):
    lengths, ids, new_tokens = NUMBER(texts)
    NUMBERED.extend(new_tokens)
    tokens = [tokenize(text) for text in texts]
    assert array("i", lengths).tolist() == list(map(len, tokens))
    assert [NUMBERED[i] for i in array("i", ids)] == [token for text in tokens for token in text]


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(
    st.one_of(
        st.text(alphabet="abst'.,-\"():;!?5 m", max_size=8),
        st.lists(PIECES, max_size=5).map("".join),
        st.sampled_from(sorted(EXCEPTIONS)),
        st.text(),
    )
)
def test_plain_words_split_as_by_all_steps(text):
    for word in text.lower().split():
        tokens = words._restore_exceptions(words._split_by_steps(word, EXCEPTIONS))
        assert split_word(word) == tokens
        assert "".join(tokens) == word


@pytest.mark.parametrize("pair", ["*_", "😀😃", "([", ".!"])
def test_the_work_for_a_run_of_punctuation_grows_with_its_length_alone(pair, monkeypatch):
    searched, suffix = [], words._SUFFIX

    class Counting:
        def search(self, text: str):
            searched.append(len(text))
            return suffix.search(text)

    monkeypatch.setattr(words, "_SUFFIX", Counting())
    for count in (100, 1000):
        assert split_word(pair * count) == tuple(pair * count)
    assert 0 < sum(searched) < 40 * len(pair) * 1100


@given(TEXTS)
def test_tokens_hold_no_space_and_begin_with_xxbos(text):
    tokens = tokenize(text)
    assert tokens[0] == "xxbos"
    assert all(tokens)
    assert not any(" " in token for token in tokens)
    assert " ".join(tokens).split(" ") == tokens


def test_rules_are_in_the_published_order():
    assert " ".join(rule.__name__ for rule in RULES) == (
        "fix_html replace_rep replace_wrep spec_add_spaces rm_useless_spaces replace_all_caps replace_maj lowercase"
    )
    assert " ".join(SPECIALS) == "xxunk xxpad xxbos xxeos xxfld xxrep xxwrep xxup xxmaj"


def test_markup_is_read_once():
    # A repeated word starts the text over; "&#38;lt;" read twice would be "<".
    assert tokenize("no no no &#38;lt;") == ["xxbos", "xxwrep", "3", "no", "&", "lt", ";"]
