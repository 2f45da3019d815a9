"""Unlabelled texts that the classifier learns from too."""

import numpy as np
import pytest

from jaxft.data.memory import Table, as_table
from jaxft.data.splits import Texts
from jaxft.ulmfit.presets import SMALL, parse
from jaxft.ulmfit.self_training import describe_pseudo_labels
from jaxft.ulmfit.settings import Settings
from jaxft.ulmfit.stages import open_corpus_of, plans, read_texts

SAYS = {"neg": "dull", "pos": "lovely"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))


def reviews(labelled: int = 60, unlabelled: int = 100, told_apart: bool = True) -> dict[str, list[str | None]]:
    """A table of short reviews; those without a label say the same words."""
    rng = np.random.default_rng(0)
    rows: list[tuple[str, str | None, str]] = []
    for split, count in (("train", labelled), ("test", 20), ("unlabelled", unlabelled)):
        for number in range(count):
            label = ("neg", "pos")[number % 2]
            words = [f"word{i}" for i in rng.integers(30, size=8)]
            opinion = [SAYS[label]] if told_apart else []
            rows.append((" ".join([*words, *opinion]), None if split == "unlabelled" else label, split))
    return {name: [row[i] for row in rows] for i, name in enumerate(("text", "label", "split"))}


def read(table: dict[str, list[str | None]], *flags: str) -> tuple[Texts, Settings]:
    settings, data = parse(["--text.min-count", "1", *flags]), as_table(table)
    assert isinstance(data, Table)
    return read_texts(settings, progress=False, corpus=open_corpus_of(settings, data)), settings


def test_few_labels_are_joined_by_texts_that_the_linear_model_is_surest_of():
    texts, settings = read(reviews())
    assert 0 < len(texts.pseudo) <= 0.5 * 100
    words = texts.store.vocabulary.tokens
    for document in texts.pseudo.tolist():
        says = SAYS[texts.store.classes[texts.store.labels[document]]]
        assert says in [words[i] for i in texts.store[document]]
    assert not np.intersect1d(texts.pseudo, np.concatenate([texts.train, texts.dev, texts.test, texts.lm_valid])).size
    assert describe_pseudo_labels(texts, settings)[0].startswith(f"{len(texts.pseudo)} unlabelled texts train")


def test_the_classifier_takes_more_steps_and_the_labelled_texts_stay():
    texts, settings = read(reviews(), "--lm.epochs", "0")
    alone, without = read(reviews(), "--lm.epochs", "0", "--classifier.pseudo-share", "0")
    assert not len(alone.pseudo)
    assert texts.train.tolist() == alone.train.tolist()
    assert plans(texts, settings)["classifier"][1] > plans(alone, without)["classifier"][1]
    assert describe_pseudo_labels(alone, without) == []


def test_a_reversed_store_has_the_same_labels():
    texts, _ = read(reviews())
    backward = texts.in_direction("backward")
    assert backward.store.labels[backward.pseudo].tolist() == texts.store.labels[texts.pseudo].tolist()
    assert [backward.store[i].tolist() for i in backward.taught] == [
        texts.store[i][::-1].tolist() for i in texts.taught
    ]


def test_words_that_tell_nothing_label_nothing():
    texts, settings = read(reviews(told_apart=False))
    assert not len(texts.pseudo)
    assert describe_pseudo_labels(texts, settings)[0].startswith("no unlabelled text trains the classifier")


@pytest.mark.parametrize(("labelled", "unlabelled"), [(2_400, 100), (60, 0)])
def test_many_labels_or_no_other_texts_change_nothing(labelled, unlabelled):
    texts, settings = read(reviews(labelled, unlabelled))
    assert not len(texts.pseudo)
    assert describe_pseudo_labels(texts, settings) == []


def test_the_test_texts_that_a_transductive_language_model_reads_stay_unlabelled():
    texts, _ = read(reviews(), "--transductive", "--classifier.pseudo-share", "1")
    assert np.isin(texts.test, np.concatenate([texts.lm_train, texts.lm_valid])).all()
    assert len(texts.pseudo) > 50
    assert not np.intersect1d(texts.pseudo, texts.test).size


def test_unlabelled_copies_of_test_texts_stay_out():
    table = reviews()
    tested = [text for text, split in zip(table["text"], table["split"], strict=True) if split == "test"]
    copies = {"text": tested, "label": [None] * len(tested), "split": ["unlabelled"] * len(tested)}
    texts, _ = read({name: [*table[name], *copies[name]] for name in table}, "--classifier.pseudo-share", "1")
    assert len(texts.pseudo) > 50
    assert not np.isin(texts.store.keys[texts.pseudo], texts.store.keys[texts.test]).any()


def test_one_seed_gives_the_same_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxft.ulmfit.self_training.UNLABELLED_TEXTS", 50)
    first, second = (read(reviews(), "--seed", "5")[0] for _ in range(2))
    assert first.pseudo.tolist() == second.pseudo.tolist()
    assert len(first.pseudo) <= 25
    assert read(reviews(), "--seed", "6")[0].pseudo.tolist() != first.pseudo.tolist()


def test_published_recipes_have_labelled_texts_alone():
    shares = {name: parse(["--preset", name]).classifier.pseudo_share for name in ("paper", "fastai", "gpu", "demo")}
    assert set(shares.values()) == {0.0}
    assert SMALL.classifier.pseudo_share is None
