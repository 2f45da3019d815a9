"""Equal texts are counted over the splits, with what their labels are."""

import numpy as np
import pytest

from jaxft.data.duplicates import count_duplicates, describe_duplicates, text_key
from jaxft.data.examples import read_examples


def splits(train, dev, test):
    return {"train": np.arange(train), "dev": train + np.arange(dev), "test": train + dev + np.arange(test)}


@pytest.mark.parametrize(
    ("other", "is_equal"),
    [("a film\t of\nnote ", True), ("A film of note", False), ("a film of note.", False), ("afilm of note", False)],
)
def test_white_space_alone_makes_no_other_text(other, is_equal):
    assert (text_key("a film of note") == text_key(other)) == is_equal


def test_a_pair_is_no_joined_text_and_has_an_order():
    keys = [text_key("a", "b"), text_key("b", "a"), text_key("a b"), text_key("a", ""), text_key("", "a")]
    assert len(set(keys)) == 5


def test_half_a_surrogate_pair_has_a_key():
    assert text_key("\ud83d") != text_key("\ude00")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1, 0, 0, 1, 1, 0], np.int32),
        np.array([0.5, 1.5, 0.5, 0.5, 2.0, 2.0, 0.1]),
        np.array([[0, 1], [1, 1], [0, 1], [0, 1], [1, 0], [1, 0], [0, 0]], np.float32),
    ],
)
def test_copies_with_other_labels_and_in_train_are_counted(labels):
    keys = np.array([1, 1, 2, 2, 3, 3, 4])
    parts = splits(3, 1, 3)
    counts = count_duplicates(keys, labels, parts)
    assert counts == {"repeated": 3, "with_several_labels": 1, "dev_in_train": 1, "test_in_train": 0}
    (line,) = describe_duplicates(counts, parts)
    assert line.startswith("3 texts occur more than once, 1 of them with more than one label; also in train: ")
    assert line.endswith("1 of 1 dev, 0 of 3 test texts")


def test_no_copies_give_no_line():
    counts = count_duplicates(np.arange(4), None, splits(2, 1, 1))
    assert counts == {"repeated": 0, "dev_in_train": 0, "test_in_train": 0}
    assert describe_duplicates(counts, splits(2, 1, 1)) == []


@pytest.mark.realdata
def test_the_copies_of_the_cases_are_counted(cases):
    for name, number in (("text/dup_leak.csv", 40), ("encoders/dups.csv", 15)):
        examples = read_examples(str(cases / name), "classification")
        assert count_duplicates(examples.keys, examples.targets, {"train": examples.of(0)})["repeated"] == number
