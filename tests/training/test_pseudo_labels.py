"""Classes that a linear model on words gives to texts without labels."""

import numpy as np
import pytest

from jaxft.training.pseudo_labels import pseudo_labels

WORDS = 50
"""ids of words without a meaning; that of class c is WORDS + c"""


def text(rng: np.random.Generator, label: int | None) -> np.ndarray:
    words = rng.integers(WORDS, size=12)
    return words if label is None else rng.permutation([*words, WORDS + label])


def texts(rng: np.random.Generator, labels: np.ndarray) -> list[np.ndarray]:
    return [text(rng, label) for label in labels]


def test_the_surest_texts_of_each_class_are_chosen_in_the_proportions_of_the_labelled_ones():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 3], [40, 40, 20])
    hidden = rng.permutation(np.repeat([0, 1, 3], 200))
    unlabelled = [*texts(rng, hidden), *(text(rng, None) for _ in range(400))]
    chosen, classes = pseudo_labels(texts(rng, labels), labels, np.arange(100) % 5, unlabelled, share=0.2)
    assert np.bincount(classes).tolist() == [80, 80, 0, 40]
    assert (np.diff(chosen) > 0).all()
    named = chosen < 600
    assert named.mean() > 0.9  # a text with the word of its class is surer than one without
    assert (classes[named] == hidden[chosen[named]]).mean() > 0.95
    assert classes.dtype == np.int32


@pytest.mark.parametrize("counts", [(50, 50), (10, 10), (90, 10), (20, 20, 20), (3, 1), (1, 1), (4, 0)])
def test_words_that_tell_nothing_choose_no_text_but_rarely(counts):
    passed = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat(range(len(counts)), counts))
        labelled = [text(rng, None) for _ in labels]
        passed += len(pseudo_labels(labelled, labels, np.arange(len(labels)) % 5, labelled, share=1.0)[0]) > 0
    assert passed <= 1


def test_a_rare_class_is_told_apart_though_the_largest_class_is_mostly_right():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [160, 40])
    labelled = [text(rng, label) for label in labels]
    chosen, classes = pseudo_labels(labelled, labels, np.arange(200) % 5, texts(rng, np.repeat([0, 1], 100)), share=0.5)
    assert set(classes.tolist()) == {0, 1}
    assert (classes[chosen >= 100] == 1).mean() > 0.5


def test_a_class_whose_only_text_is_held_out_is_no_error():
    rng = np.random.default_rng(3)
    labels = np.array([0] * 20 + [1] * 20 + [2])
    chosen, classes = pseudo_labels(texts(rng, labels), labels, np.arange(41) % 5, texts(rng, labels[:40]), share=1.0)
    assert set(classes.tolist()) <= {0, 1, 2}
    assert len(chosen) == len(classes)


def test_few_texts_give_every_class_one():
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], 20)
    _, classes = pseudo_labels(
        texts(rng, labels), labels, np.arange(60) % 5, texts(rng, np.array([0, 1, 2])), share=0.1
    )
    assert sorted(classes.tolist()) == [0, 1, 2]


def test_without_unlabelled_texts_none_is_chosen():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 20)
    chosen, _ = pseudo_labels(texts(rng, labels), labels, np.arange(40) % 5, [], share=1.0)
    assert len(chosen) == 0
