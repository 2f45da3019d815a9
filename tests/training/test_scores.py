"""Scores against scikit-learn's and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest, pearsonr, spearmanr
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from jaxft.training.scores import (
    accuracy_interval,
    best_thresholds,
    classification_scores,
    default_metric,
    metric_score,
    multilabel_scores,
    regression_scores,
)


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
    assert result["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
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


def test_macro_f1_is_that_of_scikit_learn_where_a_class_is_absent():
    labels, predictions = [0, 0, 1, 1, 3], [0, 1, 1, 1, 0]
    scores = classification_scores(labels, predictions, ["a", "b", "never", "d"])
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_metrics_choose_by_what_they_measure():
    labels = np.array([0] * 8 + [1] * 2)
    never = np.tile([[0.9, 0.1]], (10, 1))
    ranked = np.where(labels[:, None] == [[0, 1]], 0.6, 0.4) * [[1.4, 0.6]]
    assert metric_score("accuracy", labels, never) == 0.8
    assert metric_score("mcc", labels, never) == 0
    assert metric_score("roc-auc", labels, never) == 0.5
    assert metric_score("roc-auc", labels, ranked) == 1.0
    assert metric_score("macro-f1", labels, never) == pytest.approx(4 / 9)
    assert np.isnan(metric_score("log-loss", labels, np.full((10, 2), np.nan)))
    assert metric_score("log-loss", labels, softmax(ranked.astype(np.float32), axis=1)) > 0  # sums that are nearly 1
    assert metric_score("log-loss", labels, never) == pytest.approx(-0.8 * np.log(0.9) - 0.2 * np.log(0.1))
    assert metric_score("roc-auc", np.zeros(3, int), never[:3]) == 0.5
    assert default_metric(labels, 2) == "macro-f1"
    assert default_metric(labels[4:], 2) == "accuracy"


def test_thresholds_raise_the_f1_of_rare_labels():
    rng = np.random.default_rng(0)
    targets = (rng.random((400, 3)) < [0.5, 0.1, 0.0]).astype(np.float32)
    probabilities = np.clip(0.15 + 0.25 * targets + 0.05 * rng.normal(size=targets.shape), 0, 1)
    thresholds = best_thresholds(targets, probabilities)
    tuned = multilabel_scores(targets, probabilities >= np.array(thresholds), ["a", "b", "c"])["micro_f1"]
    assert tuned > 0.95 > multilabel_scores(targets, probabilities >= 0.5, ["a", "b", "c"])["micro_f1"]
    assert thresholds[2] == 0.5
    levels = np.unique(probabilities[:, 1])
    predicted = probabilities[:, 1] >= levels[:, None]
    f1 = 2 * (predicted & (targets[:, 1] > 0)).sum(axis=1) / (predicted.sum(axis=1) + targets[:, 1].sum())
    chosen = multilabel_scores(targets[:, 1:2], probabilities[:, 1:2] >= thresholds[1], ["b"])["micro_f1"]
    assert chosen == pytest.approx(f1.max())
