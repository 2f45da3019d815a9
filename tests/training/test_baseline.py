"""The linear baseline: what it scores, and texts that it cannot read."""

import numpy as np

from jaxft.training.baseline import NAME, linear_baseline


def test_words_and_pairs_of_words_tell_classes_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    texts = [" ".join(rng.permutation(["film", "plot", "not good" if label else "good not"])) for label in labels]
    result = linear_baseline(texts[:100], labels[:100].tolist(), texts[100:], labels[100:].tolist(), ["a", "b"])
    assert result["method"] == NAME
    assert result["accuracy"] > 0.95
    assert result["accuracy_interval"][0] < result["accuracy"]


def test_texts_without_a_word_have_no_score():
    assert linear_baseline(["!", "?"], [0, 1], ["."], [0], ["a", "b"]) == {"method": NAME}
