"""Scores against scikit-learn's and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, pearsonr, spearmanr
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from jaxft.training.scores import accuracy_interval, classification_scores, multilabel_scores, regression_scores


@given(counts=st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(counts):
    correct, n = counts
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(accuracy_interval(correct, n), (expected.low, expected.high), atol=1e-12)
    low, high = accuracy_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert low < high


@settings(deadline=None)
@given(
    pairs=st.integers(2, 6).flatmap(
        lambda c: st.tuples(st.just(c), st.lists(st.tuples(*[st.integers(0, c - 1)] * 2), min_size=1, max_size=60))
    )
)
def test_scores_are_scikit_learns(pairs):
    size, rows = pairs
    labels, predictions = np.array(rows).T
    result = classification_scores(labels, predictions, [str(i) for i in range(size)])
    indices = np.arange(size)
    expected = precision_recall_fscore_support(labels, predictions, labels=indices, zero_division=0)  # pyright: ignore[reportArgumentType]
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in result["per_class"]], np.asarray(values), atol=1e-12)
    assert result["confusion_matrix"] == confusion_matrix(labels, predictions, labels=indices).tolist()
    assert result["accuracy"] == np.mean(labels == predictions)
    assert result["macro_f1"] == pytest.approx(np.mean(np.asarray(expected[2])))
    assert result["n"] == len(rows)


@pytest.mark.parametrize(
    ("labels", "predictions"), [([], []), ([0, 1], [0]), ([0, 2], [0, 1]), ([0, 1], [0, -1]), ([[0]], [[0]])]
)
def test_what_cannot_be_compared_is_refused(labels, predictions):
    with pytest.raises(ValueError, match=r"shape|index"):
        classification_scores(labels, predictions, ["a", "b"])


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_numbers_are_scipys(seed):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 5, 30).astype(np.float32)  # with ties
    predictions = (targets + rng.normal(size=30)).astype(np.float32)
    result, errors = regression_scores(targets, predictions), predictions.astype(np.float64) - targets
    expected = {
        "n": 30,
        "rmse": np.sqrt((errors**2).mean()),
        "mae": abs(errors).mean(),
        "pearson": pearsonr(targets.astype(np.float64), predictions.astype(np.float64)).statistic,  # pyright: ignore
        "spearman": spearmanr(targets, predictions).statistic,  # pyright: ignore
    }
    assert result == pytest.approx(expected, abs=1e-12)


def test_a_correlation_with_a_constant_is_0():
    for pair in (([1.0, 2.0], [3.0, 3.0]), ([3.0, 3.0], [1.0, 2.0]), ([1.0], [1.0])):
        result = regression_scores(*map(np.array, pair))
        assert result["pearson"] == result["spearman"] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_sets_of_labels_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    targets, predictions = rng.integers(0, 2, (2, 20, 4))
    targets[:, 3], predictions[:, 2:] = 0, 0  # a class that never occurs, and one that is never predicted
    result = multilabel_scores(targets, predictions, ["a", "b", "c", "d"])
    for average in ("micro", "macro"):
        expected = f1_score(targets, predictions, average=average, zero_division=0)  # pyright: ignore[reportArgumentType]
        assert result[f"{average}_f1"] == pytest.approx(expected, abs=1e-12)
    per_class = precision_recall_fscore_support(targets, predictions, zero_division=0)  # pyright: ignore[reportArgumentType]
    for name, values in zip(("precision", "recall", "f1", "support"), per_class, strict=True):
        np.testing.assert_allclose([row[name] for row in result["per_class"]], np.asarray(values), atol=1e-12)
    assert result["accuracy"] == np.mean((targets == predictions).all(axis=1))
    assert result["n"] == 20
