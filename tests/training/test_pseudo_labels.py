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


@pytest.mark.parametrize("counts", [(50, 50), (90, 10), (3, 1), (1, 1), (4, 0)])
def test_no_text_is_chosen_where_the_words_do_not_tell_the_classes_apart(counts):
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], counts)
    labelled = [text(rng, None) for _ in labels]
    chosen, classes = pseudo_labels(labelled, labels, np.arange(len(labels)) % 2, labelled, share=1.0)
    assert len(chosen) == len(classes) == 0


def test_a_class_whose_only_text_is_held_out_is_no_error():
    rng = np.random.default_rng(2)
    labels = np.array([0] * 20 + [1] * 20 + [2])
    chosen, classes = pseudo_labels(texts(rng, labels), labels, np.arange(41) % 5, texts(rng, labels), share=1.0)
    assert set(classes[:40].tolist()) <= {0, 1, 2}
    assert len(chosen) > 30


def test_without_unlabelled_texts_none_is_chosen():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 20)
    chosen, _ = pseudo_labels(texts(rng, labels), labels, np.arange(40) % 5, [], share=1.0)
    assert len(chosen) == 0
