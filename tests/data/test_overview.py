"""Lines that show how data were read: few, whatever the number of classes and the length of the texts."""

import numpy as np

from jaxft.data.overview import describe_classes, describe_first


def test_of_many_classes_the_largest_are_shown():
    names = [f"c{i}" for i in range(1000)]
    (line,) = describe_classes(names, {"train": np.repeat(np.arange(1000), 2), "test": np.full(5, 7)})
    assert line.startswith("largest of 1,000 classes: c7 2 train, 5 test; c0 2 train, 0 test; ")
    assert line.endswith("; 992 more")


def test_sets_of_labels_are_counted_by_label_and_numbers_have_no_classes():
    assert describe_classes(["a", "b"], {"train": np.array([[1.0, 0], [1, 1]])}) == ["classes: a 2 train; b 1 train"]
    assert describe_classes([], {"train": np.array([0.5, 1.5])}) == []


def test_a_long_first_text_is_cut():
    line = describe_first("word " * 1000, "pos", ["word"] * 1000)
    assert len(line) < 250
    assert line.endswith("word word ...")
