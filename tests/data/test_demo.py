"""The demo corpus: the same everywhere, readable, and hard for the labels alone where unlabelled texts can help."""

import hashlib
import re
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from jaxft.data import demo_words
from jaxft.data.corpus import open_corpus
from jaxft.data.demo import demo_corpus
from jaxft.data.document import Document

OPINIONS = (demo_words.ADJECTIVES, demo_words.ADVERBS, demo_words.NOUNS, demo_words.VERBS)
POLARITY = {word: polarity for kind in OPINIONS for polarity in kind for word in kind[polarity]}


@pytest.fixture(scope="module")
def demo() -> dict[str, list[Document]]:
    splits: dict[str, list[Document]] = {"train": [], "test": [], "unlabelled": []}
    for document in open_corpus("demo").documents():
        splits[document.split].append(document)
    return splits


def opinions(document: Document) -> list[str]:
    return [word for word in re.findall(r"\w+", document.text.lower()) if word in POLARITY]


def test_the_texts_are_the_same_on_every_platform():
    digest = hashlib.sha256()
    for document in demo_corpus().documents():
        digest.update(f"{document.split} {document.label} {document.text}\n".encode())
    # if the texts were meant to change, raise VERSION in demo.py and put the new value here
    assert digest.hexdigest() == "a6e436eb709035f81c9b2799f1067daf949a2fb646965bfc4fb4067fa1806fb8"


def test_sizes_balance_and_labels(demo):
    sizes = {split: len(documents) for split, documents in demo.items()}
    assert sizes == {"train": 100, "test": 1000, "unlabelled": 6000}
    for split in ("train", "test"):
        labels = Counter(document.label for document in demo[split])
        assert labels == {"positive": sizes[split] // 2, "negative": sizes[split] // 2}
    assert {document.label for document in demo["unlabelled"]} == {None}
    texts = Counter(document.text for documents in demo.values() for document in documents)
    assert max(texts.values()) == 1


def test_a_split_grows_without_changing_the_others_and_another_seed_changes_all():
    few, more = (list(demo_corpus(train=size, test=5, unlabelled=5).documents()) for size in (10, 20))
    assert few[:10] == more[:10]
    assert few[10:] == more[20:]
    other = list(demo_corpus(seed=1, train=10, test=5, unlabelled=5).documents())
    assert not {document.text for document in few} & {document.text for document in other}
    fingerprints = {demo_corpus(**settings).fingerprint for settings in ({}, {"seed": 1}, {"train": 10}, {"test": 10})}
    assert len(fingerprints) == 4


def test_the_words_are_plain_distinct_and_as_many_for_each_polarity():
    for kind in OPINIONS:
        assert len(kind["positive"]) == len(kind["negative"])
    words = [word for kind in OPINIONS for polarity in kind for word in kind[polarity]]
    assert len(words) == len(set(words))
    assert all(re.fullmatch("[a-z]+", word) for word in words)
    neutral = [*demo_words.SINGULAR_ASPECTS, *demo_words.PLURAL_ASPECTS, *demo_words.CRAFTS, *demo_words.GENRES]
    for phrase in [*neutral, *demo_words.WORKS, *demo_words.PEOPLE, *demo_words.OCCASIONS, *demo_words.DEEDS]:
        assert not set(phrase.lower().split()) & set(words)


def test_the_texts_are_tidy_english(demo):
    for document in demo["test"]:
        text = document.text
        assert re.fullmatch(r"([A-Z][A-Za-z ,]+\.( |<br /><br />|$))+", text), text
        assert not re.search(r"  |\ba [aeio]|\ban [b-dfgj-np-tv-z]|\b(\w+) \1\b", text), text
    lengths = [len(document.text.split()) for document in demo["test"]]
    assert 30 < np.mean(lengths) < 60
    assert min(lengths) >= 10


def test_opinions_of_one_kind_meet_and_the_labels_show_only_some_words(demo):
    shares = [np.mean([POLARITY[word] == document.label for word in opinions(document)]) for document in demo["test"]]
    assert 0.8 < np.mean(shares) < 0.95
    shown = {word for document in demo["train"] for word in opinions(document)}
    assert len(shown) < 0.7 * len(POLARITY)
    counts = Counter(word for document in demo["unlabelled"] for word in opinions(document))
    assert min(counts[word] for word in POLARITY) >= 10


def test_labels_alone_teach_far_less_than_could_be_known(demo):
    def accuracy(texts, labels):
        model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10.0))
        model.fit(texts, labels)
        return model.score([document.text for document in demo["test"]], [document.label for document in demo["test"]])

    texts = [document.text for document in demo["train"]]
    labels = [document.label for document in demo["train"]]
    few = accuracy(texts, labels)
    withheld = ["negative", "positive"] * (len(demo["unlabelled"]) // 2)  # the generator takes turns
    everything = accuracy(texts + [document.text for document in demo["unlabelled"]], labels + withheld)
    assert few < 0.86
    assert everything > 0.95
