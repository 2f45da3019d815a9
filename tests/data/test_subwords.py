"""Subwords: every text can be told by them, texts come back, and corpora of any language hold no unknown token."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxft.data.detokenize import detokenize
from jaxft.data.document import Corpus, Document
from jaxft.data.store import build_store
from jaxft.data.subwords import BYTES
from jaxft.data.text import SPECIALS, tokenize
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError

TEXTS = [
    "The film was GREAT!!! I loved it, and its story.",
    "这部电影非常好看，我很喜欢这个故事。",
    "ภาพยนตร์เรื่องนี้ดีมาก และเรื่องราวดี",
    "A dull film; I left early, and so did the others.",
]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.of_subwords(TEXTS * 5, max_size=500, min_count=2)


def test_special_tokens_and_bytes_come_first(vocabulary):
    assert vocabulary.tokens[: len(SPECIALS) + 256] == (*SPECIALS, *BYTES)
    assert len(vocabulary) <= 500
    assert max(map(len, vocabulary.tokens[len(SPECIALS) + 256 :])) <= 16


def test_the_same_texts_give_the_same_subwords(vocabulary):
    assert Vocabulary.of_subwords(TEXTS * 5, max_size=500, min_count=2) == vocabulary


@given(st.text())
@example("xxmaj of xxrep 3 xxmajor")
@example("a\n\n b\t c  d")
@example("😀👍🏽 ▁")
def test_nothing_is_unknown_and_a_text_is_the_same_alone_and_among_others(vocabulary, text):
    ids = vocabulary.encode_texts([text])[0]
    assert ids[0] == vocabulary.bos
    assert ("xxunk" in vocabulary.decode(ids)) == ("xxunk" in tokenize(text))
    np.testing.assert_array_equal(vocabulary.encode_texts([TEXTS[0], text])[1], ids)
    assert vocabulary.encode(vocabulary.tokenize(text)).tolist() == ids.tolist()


@pytest.mark.parametrize("text", [*TEXTS, "Неизвестные буквы, and é.", "WELL-made / fine (mostly) 😀"])
def test_a_text_comes_back(vocabulary, text):
    plain = detokenize(tokenize(text))
    again = vocabulary.detokenize(vocabulary.tokenize(text))
    assert again.replace(" ", "") == plain.replace(" ", "")


def test_a_vocabulary_is_saved_with_its_merges(vocabulary, tmp_path):
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


def test_damaged_merges_are_refused(vocabulary, tmp_path):
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    path.write_text(path.read_text().replace('"merges": [', '"merges": [3, '))
    with pytest.raises(InputError, match="is not a vocabulary"):
        Vocabulary.load(path)


def test_a_store_of_subwords_knows_every_character(tmp_path):
    documents = [Document(text, "ab"[i % 2], "train") for i, text in enumerate(TEXTS * 5)]
    documents.append(Document("未见过的字", "a", "test"))
    corpus = Corpus("texts", "0" * 64, lambda: iter(documents))
    words, subwords = (
        build_store(corpus, tmp_path, min_count=2, max_vocab=500, subwords=on, progress=False) for on in (False, True)
    )
    assert (words.ids == words.vocabulary.unk).any()
    assert not (subwords.ids == subwords.vocabulary.unk).any()
    assert subwords.vocabulary == Vocabulary.of_subwords(TEXTS * 5, max_size=500, min_count=2)
    for i, document in enumerate(documents):
        assert subwords[i].tolist() == subwords.vocabulary.encode_texts([document.text])[0].tolist()
    again = build_store(corpus, tmp_path, vocabulary=subwords.vocabulary, progress=False)
    np.testing.assert_array_equal(again.ids, subwords.ids)


def test_many_characters_of_one_count_are_chosen_among_in_a_fixed_order():
    texts = ["".join(chr(0x4E00 + i) for i in range(start, start + 50)) for start in range(0, 3000, 50)]
    first, again = (Vocabulary.of_subwords(texts, max_size=1500, min_count=2) for _ in range(2))
    assert first == again
    assert len(first) <= 1500
    assert len(Vocabulary.of_subwords(texts, max_size=300, min_count=2)) <= 300
