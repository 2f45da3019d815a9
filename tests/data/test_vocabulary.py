"""Vocabularies: which tokens get in, ids and back, files, and the way between two of them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.text import SPECIALS
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError

COUNTS = {"the": 50, "xxbos": 20, "film": 9, "zebra": 4, "apple": 4, "rare": 2}


def test_special_tokens_come_first_then_frequent_ones():
    vocabulary = Vocabulary.build(COUNTS)
    assert vocabulary.tokens == (*SPECIALS, "the", "film", "apple", "zebra")
    assert (vocabulary.unk, vocabulary.pad, vocabulary.bos) == (0, 1, 2)


def test_size_counts_the_special_tokens():
    assert Vocabulary.build(COUNTS, max_size=11).tokens == (*SPECIALS, "the", "film")
    assert Vocabulary.build(COUNTS, max_size=9).tokens == SPECIALS
    with pytest.raises(InputError, match="at most 8 tokens has no room"):
        Vocabulary.build(COUNTS, max_size=8)


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 5)), st.randoms())
def test_order_of_the_counts_does_not_matter(counts, random):
    items = list(counts.items())
    random.shuffle(items)
    assert Vocabulary.build(dict(items)) == Vocabulary.build(counts)


def test_ids_and_back():
    vocabulary = Vocabulary.build(COUNTS)
    ids = vocabulary.encode(["xxbos", "film", "unseen", "rare"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [2, 10, 0, 0]
    assert vocabulary.decode(ids) == ["xxbos", "film", "xxunk", "xxunk"]
    assert vocabulary.encode([]).shape == (0,)
    assert vocabulary.encode(vocabulary.tokens).tolist() == list(range(len(vocabulary)))


def test_matches_leads_from_one_vocabulary_to_another():
    ours, theirs = Vocabulary.build(COUNTS), Vocabulary(("film", *SPECIALS, "apple"))
    matches = ours.matches(theirs)
    assert matches.dtype == np.int32
    assert matches.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, -1, 0, 10, -1]


def test_filler_of_fastai_may_come_several_times():
    vocabulary = Vocabulary((*SPECIALS, "the", "xxfake", "xxfake"))
    assert len(vocabulary) == 12
    assert vocabulary.decode([11]) == ["xxfake"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [((*SPECIALS, "a", "b", "a"), "holds 'a' twice, as ids 9 and 11"), (("a", "xxpad", "xxbos"), "lacks .* xxunk")],
)
def test_a_bad_list_of_tokens_is_refused(tokens, message):
    with pytest.raises(InputError, match=message):
        Vocabulary(tokens)


def test_a_file_holds_every_token(tmp_path):
    # A lone surrogate comes out of broken JSON lines and has no UTF-8.
    vocabulary = Vocabulary((*SPECIALS, "naïve", "\n\n", '"', "\ud800"))
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b'{"tokens": ["xxunk"', "is not JSON"),
        (b'["xxunk"]', "is not a vocabulary"),
        (b'{"tokens": [1, 2]}', "is not a vocabulary"),
        (json.dumps({"tokens": ["a", "xxpad", "xxbos"]}).encode(), "lacks the special token xxunk"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "vocabulary.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        Vocabulary.load(path)
    assert str(path) in str(error.value)
