"""Which documents serve what: nothing held out is learnt from, and the same seed gives the same splits."""

import numpy as np
import pytest

from jaxft.data.document import TRAIN, Corpus, Document
from jaxft.data.splits import hold_out, split_texts
from jaxft.data.store import build_store
from jaxft.errors import InputError

LABELS = ["bad"] * 30 + ["good"] * 20 + ["odd"] * 10


def corpus(train=LABELS, test=LABELS[25:35], unlabelled=15):
    documents = [Document(f"train {i} {label}", label, "train") for i, label in enumerate(train)]
    documents += [Document(f"test {i} {label}", label, "test") for i, label in enumerate(test)]
    documents += [Document(f"unlabelled {i}", None, "unlabelled") for i in range(unlabelled)]
    return Corpus("small", "0" * 64, lambda: iter(documents))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(corpus(), tmp_path_factory.mktemp("texts"), min_count=1, workers=1, progress=False)


def split(store, **options):
    return split_texts(corpus(), store, **{"seed": 0, "dev_fraction": 0.2, "valid_fraction": 0.1, **options})


@pytest.mark.parametrize("transductive", [False, True])
def test_what_is_held_out_is_learnt_from_nowhere(store, transductive):
    texts = split(store, transductive=transductive)
    learnt = set(texts.lm_train)
    assert not set(texts.train) & set(texts.dev)
    assert not learnt & set(texts.lm_valid)
    assert not learnt & set(texts.dev)
    read = learnt | set(texts.lm_valid)
    assert bool(read & set(texts.test)) == transductive
    assert len(read) == len(texts.train) + 15 + transductive * len(texts.test)


def test_dev_has_its_share_of_every_class(store):
    assert np.bincount(store.labels[split(store).dev]).tolist() == [6, 4, 2]


def test_fewer_labels_are_a_balanced_part_of_more_and_so_are_their_dev_texts(store):
    few, more = split(store, limit_labels=9), split(store, limit_labels=27)
    labelled = set(few.train) | set(few.dev)
    assert labelled < set(more.train) | set(more.dev)
    assert set(few.dev) <= set(more.dev)
    assert np.bincount(store.labels[sorted(labelled)]).tolist() == [3, 3, 3]
    assert len(few.lm_train) + len(few.lm_valid) + len(few.dev) == (store.splits == TRAIN).sum() + 15


def test_the_seed_decides(store):
    first, again, other = split(store), split(store), split(store, seed=1)
    for name in ("train", "dev", "lm_train", "lm_valid"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.dev.tolist() != other.dev.tolist()


def test_unlabelled_texts_can_be_limited(store):
    texts = split(store, limit_unlabelled=5)
    assert len(texts.lm_train) + len(texts.lm_valid) == len(texts.train) + 5


def test_too_few_labels_for_the_classes_are_refused(store):
    with pytest.raises(InputError, match="--limit-labels 5 is too few for 3 classes: give at least 6"):
        split(store, limit_labels=5)


def test_a_dev_split_that_would_be_empty_is_refused(tmp_path):
    few = build_store(corpus(train=["bad", "good"], test=["bad"]), tmp_path, min_count=1, workers=1, progress=False)
    with pytest.raises(InputError, match=r"too few labelled texts \(2\)"):
        split(few)


def test_a_corpus_may_have_dev_texts_of_its_own_and_no_test_texts(tmp_path):
    labels = ["bad", "good"] * 10
    documents = [Document(f"text {i}", label, "dev" if i < 4 else "train") for i, label in enumerate(labels)]
    own = Corpus("own", "1" * 64, lambda: iter(documents))
    store = build_store(own, tmp_path, min_count=1, workers=1, progress=False)
    texts = split_texts(own, store, seed=0, dev_fraction=0.3, valid_fraction=0.1)
    assert texts.dev.tolist() == [0, 1, 2, 3]
    assert sorted([*texts.lm_train, *texts.lm_valid]) == texts.train.tolist() == list(range(4, 20))
    assert len(texts.test) == 0


def texts_in(store, documents):
    return set(store.keys[documents].tolist())


@pytest.mark.parametrize("copies", [2, 3, 4])
def test_equal_texts_are_never_on_both_sides(tmp_path, copies):
    count = 60 // copies
    documents = [
        Document(f"text {i % count} {'good' if i % count % 2 else 'bad'}", "ab"[i % count % 2], "train")
        for i in range(60)
    ]
    documents += [Document(f"text {i}  bad", None, "unlabelled") for i in range(0, count, 2)] * 2
    own = Corpus("copies", f"{copies:064}", lambda: iter(documents))
    store = build_store(own, tmp_path, min_count=1, workers=1, progress=False)
    for seed in range(3):
        texts = split_texts(own, store, seed=seed, dev_fraction=0.2, valid_fraction=0.2, limit_labels=30)
        parts = {name: texts_in(store, getattr(texts, name)) for name in ("train", "dev", "lm_train", "lm_valid")}
        assert not parts["train"] & parts["dev"]
        assert not parts["dev"] & (parts["lm_train"] | parts["lm_valid"])
        assert not parts["lm_train"] & parts["lm_valid"]
        assert 2 <= len(texts.dev) <= 9
        assert set(store.labels[texts.train]) == set(store.labels[texts.dev]) == {0, 1}


def test_texts_held_out_for_perplexity_are_in_no_other_copy_but_where_all_are_equal():
    for seed in range(3):
        learnt, valid = hold_out(np.arange(40), 0.1, np.random.default_rng(seed), np.arange(40) % 10)
        assert not set(learnt % 10) & set(valid % 10)
        assert len(valid) == 4
        learnt, valid = hold_out(np.arange(40), 0.1, np.random.default_rng(seed), np.zeros(40, np.int64))
        assert (len(learnt), len(valid)) == (36, 4)


def test_a_dev_split_of_many_classes_leaves_most_texts_to_train(tmp_path):
    documents = [Document(f"text {i}", f"class {i % 1000}", "train") for i in range(3000)]
    own = Corpus("many", "2" * 64, lambda: iter(documents))
    store = build_store(own, tmp_path, min_count=1, workers=1, progress=False)
    texts = split_texts(own, store, seed=0, dev_fraction=0.1, valid_fraction=0.1)
    assert len(texts.dev) == 300
    assert len(set(store.labels[texts.train])) == 1000
