"""Unlabelled texts that the classifier learns from too."""

from dataclasses import replace

import numpy as np
import pytest

from jaxft.data.memory import Table, as_table
from jaxft.data.splits import Texts
from jaxft.errors import InputError
from jaxft.training.run_folder import record_config
from jaxft.ulmfit.inputs import open_corpus_of, read_texts
from jaxft.ulmfit.presets import PRESETS, parse
from jaxft.ulmfit.self_training import describe_pseudo_labels, pseudo_label_fingerprint
from jaxft.ulmfit.settings import Settings
from jaxft.ulmfit.stages import _training_batches, plans

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
    assert describe_pseudo_labels(texts, settings)[0].startswith(
        f"pseudo-labels: the classifier also learns from {len(texts.pseudo)} texts without a label"
    )


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
    assert [backward.store[i].tolist() for i in backward.classifier_train] == [
        texts.store[i][::-1].tolist() for i in texts.classifier_train
    ]


def test_words_that_tell_nothing_label_nothing():
    texts, settings = read(reviews(told_apart=False))
    assert not len(texts.pseudo)
    assert "cannot tell the classes" in describe_pseudo_labels(texts, settings)[0]


@pytest.mark.parametrize(("labelled", "unlabelled"), [(2_400, 100), (60, 0)])
def test_many_labels_or_no_other_texts_change_nothing(labelled, unlabelled):
    texts, settings = read(reviews(labelled, unlabelled))
    assert not len(texts.pseudo)
    assert describe_pseudo_labels(texts, settings) == []


def test_a_share_without_effect_is_said_to_have_none():
    texts, settings = read(reviews(60, 0), "--classifier.pseudo-share", "0.1")
    assert describe_pseudo_labels(texts, settings) == ["pseudo-labels: none, because every text has a label"]


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


def test_equal_texts_count_once_and_copies_of_labelled_ones_not_at_all():
    table = reviews()
    copied = [*[table["text"][90]] * 40, *table["text"][:40]]
    copies = {"text": copied, "label": [None] * 80, "split": ["unlabelled"] * 80}
    texts, _ = read({name: [*table[name], *copies[name]] for name in table}, "--classifier.pseudo-share", "1")
    keys = texts.store.keys[texts.pseudo]
    assert len(keys) == len(np.unique(keys))
    assert not np.isin(keys, texts.store.keys[texts.train]).any()


def test_the_hidden_labels_of_limited_texts_are_not_used(monkeypatch):
    def all_of_class_0(labelled, labels, folds, unlabelled, share):
        return np.arange(len(unlabelled)), np.zeros(len(unlabelled), np.int32)

    monkeypatch.setattr("jaxft.ulmfit.self_training.pseudo_labels", all_of_class_0)
    texts, _ = read(reviews(unlabelled=0), "--limit-labels", "20")
    assert len(texts.pseudo) > 20
    assert not texts.store.labels[texts.pseudo].any()


def test_a_long_text_without_a_label_has_a_batch_that_holds_it():
    long = " ".join(f"word{i % 30} dull" for i in range(200))
    row = {"text": long, "label": None, "split": "unlabelled"}
    table = {name: [*values, row[name]] for name, values in reviews().items()}
    texts, settings = read(table, "--lm.epochs", "0", "--classifier.pseudo-share", "1")
    longest = int(texts.store.lengths.argmax())
    assert longest in texts.pseudo
    assert max(_training_batches(texts, settings).widths) >= texts.store.lengths[longest]


def test_a_run_is_not_resumed_with_other_pseudo_labels(tmp_path):
    texts, _ = read(reviews())
    config = {"seed": 0, "corpus": "a", **pseudo_label_fingerprint(texts)}
    record_config(tmp_path, resume=False, config=config)
    record_config(tmp_path, resume=True, config=config)
    labels = texts.store.labels.copy()
    labels[texts.pseudo[0]] ^= 1
    other = replace(texts, store=replace(texts.store, labels=labels))
    for changed in (pseudo_label_fingerprint(other), {}):
        with pytest.raises(InputError, match="the pseudo-labels have changed since the run"):
            record_config(tmp_path, resume=True, config={"seed": 0, "corpus": "a", **changed})


def test_one_seed_gives_the_same_texts(monkeypatch):
    monkeypatch.setattr("jaxft.ulmfit.self_training.UNLABELLED_TEXTS", 50)
    first, second = (read(reviews(), "--seed", "5")[0] for _ in range(2))
    assert first.pseudo.tolist() == second.pseudo.tolist()
    assert len(first.pseudo) <= 26
    assert read(reviews(), "--seed", "6")[0].pseudo.tolist() != first.pseudo.tolist()


def test_published_recipes_and_the_demo_have_labelled_texts_alone():
    shares = {name: parse(["--preset", name]).classifier.pseudo_share for name in PRESETS}
    assert shares == {"small": None, "gpu": None, "paper": 0.0, "fastai": 0.0, "demo": 0.0}
