"""Scores of predicted classes, numbers and sets of labels; the scores that choose weights; intervals of accuracies."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from jaxft.training.selection import Mode
from jaxft.training.settings import Metric

LEAST_POSITIVES = 5
"""the fewest texts with a label that can tell its threshold"""
UNBALANCED = 3.0
"""classes are unbalanced where the largest has more than so many times the texts of the smallest"""
MAIN_SCORES = ("accuracy", "accuracy_interval", "macro_f1")
"""scores that a summary gives of the baseline, and of each direction alone"""
PERCENT_SCORES = ("precision", "recall", "f1")
"""last words of the names of scores that are shown in per cent, as accuracy is"""


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of an accuracy of `correct` out of `n`, by Wilson's score (Wilson 1927, JASA 22).

    Unlike the normal approximation it stays in [0, 1] and keeps its width at 0 and at n right answers.

    Examples:
        >>> low, high = accuracy_interval(90, 100)
        >>> print(f"{low:.4f} {high:.4f}")
        0.8256 0.9448

    Raises:
        ValueError: n is not positive, or `correct` is not between 0 and n.
    """
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"correct is {correct} and n is {n}: give n of at least 1, and correct from 0 to n")
    z = 1.959963984540054
    share, z2_over_n = correct / n, z * z / n
    centre = (share + z2_over_n / 2) / (1 + z2_over_n)
    half_width = math.sqrt(z2_over_n * (share * (1 - share) + z2_over_n / 4)) / (1 + z2_over_n)
    # At 0 and n right answers one end is `share` itself, which rounding would miss.
    return min(share, max(0.0, centre - half_width)), max(share, min(1.0, centre + half_width))


def classification_scores(labels: Sequence[int], predictions: Sequence[int], classes: Sequence[str]) -> dict[str, Any]:
    """How well predictions match labels, for `summary.json`.

    Args:
        labels: (N,) true classes, as indices into `classes`.
        predictions: (N,) predicted classes, likewise.
        classes: (C,) names.

    Returns:
        `n`, `accuracy`, `accuracy_interval` (95 %), `macro_f1` (over the classes that are true or predicted somewhere,
        as scikit-learn has it), `per_class` (`class`, `precision`, `recall`, `f1`, `support`) and `confusion_matrix` (C
        rows, true; C columns, predicted).

    Examples:
        >>> result = classification_scores([0, 0, 1, 1], [0, 1, 1, 1], ["neg", "pos"])
        >>> print(result["accuracy"], round(result["macro_f1"], 4), result["confusion_matrix"])
        0.75 0.7333 [[1, 1], [0, 2]]

    Raises:
        ValueError: nothing to compare, different lengths, or an index outside `classes`.
    """
    true, predicted = np.asarray(labels), np.asarray(predictions)
    if true.shape != predicted.shape or true.ndim != 1 or not true.size:
        raise ValueError(
            f"labels have the shape {true.shape} and predictions {predicted.shape}: give two vectors of one length, "
            "at least 1"
        )
    if min(true.min(), predicted.min()) < 0 or max(true.max(), predicted.max()) >= len(classes):
        raise ValueError(
            f"a label or a prediction is not the index of a class: give numbers from 0 to {len(classes) - 1}"
        )
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    hits, support, claims = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    scores = {
        "precision": hits / np.maximum(claims, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(claims + support, 1),
        "support": support,
    }
    return {
        "n": true.size,
        "accuracy": float(hits.sum() / true.size),
        "accuracy_interval": list(accuracy_interval(int(hits.sum()), true.size)),
        "macro_f1": float(scores["f1"][claims + support > 0].mean()),
        "per_class": [
            {"class": name} | {score: values[i].item() for score, values in scores.items()}
            for i, name in enumerate(classes)
        ],
        "confusion_matrix": confusion.tolist(),
    }


def default_metric(labels: np.ndarray, classes: int) -> Metric:
    """The metric that suits the classes of the training texts: accuracy, or macro-F1 where they are unbalanced.

    Examples:
        >>> default_metric(np.array([0, 1, 1]), 2), default_metric(np.array([0, 1, 1, 1, 1]), 2)
        ('accuracy', 'macro-f1')
    """
    counts = np.bincount(labels, minlength=classes)
    return "macro-f1" if counts.max() > UNBALANCED * counts.min() else "accuracy"


def metric_mode(metric: Metric) -> Mode:
    """Whether higher or lower scores are better."""
    return "min" if metric == "log-loss" else "max"


def score_name(metric: Metric) -> str:
    """The name of a metric among the scores of a summary.

    Examples:
        >>> score_name("macro-f1")
        'macro_f1'
    """
    return metric.replace("-", "_")


def score_words(name: str) -> str:
    """The name of a score in a summary, as it is printed.

    Examples:
        >>> score_words("macro_f1"), score_words("log_loss"), score_words("f1")
        ('macro-F1', 'log loss', 'F1')
    """
    return re.sub("(^|_)f1$", lambda found: "-F1" if found[1] else "F1", name).replace("_", " ")


def metric_score(metric: Metric, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """One score of predicted classes, as scikit-learn computes it.

    Args:
        metric: which; `roc-auc` is the mean over classes of each against the rest, without classes of no text or all.
        labels: (N,) int, true classes.
        probabilities: (N, C) float.

    Examples:
        >>> metric_score("mcc", np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
        1.0
    """
    from sklearn import metrics

    if not np.isfinite(probabilities).all():
        return math.nan
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted, classes = probabilities.argmax(axis=1), np.arange(probabilities.shape[1])
    match metric:
        case "accuracy":
            return float(metrics.accuracy_score(labels, predicted))
        case "macro-f1" | "weighted-f1":
            return float(metrics.f1_score(labels, predicted, average="macro" if metric == "macro-f1" else "weighted"))
        case "mcc":
            return float(metrics.matthews_corrcoef(labels, predicted))
        case "log-loss":
            return float(metrics.log_loss(labels, probabilities, labels=classes))
        case "roc-auc":
            present = [label for label in classes if 0 < (labels == label).sum() < len(labels)]
            areas = [metrics.roc_auc_score(labels == label, probabilities[:, label]) for label in present]
            return float(np.mean(areas)) if areas else 0.5


def best_thresholds(targets: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """The threshold of each label's probability with the highest F1; 0.5 for labels that fewer than 5 texts have.

    Args:
        targets: (N, C) of 0 and 1.
        probabilities: (N, C) float.

    Examples:
        >>> true, p = np.arange(20) >= 10, np.linspace(0, 0.4, 20)
        >>> [round(threshold, 3) for threshold in best_thresholds(true[:, None], p[:, None])]
        [0.2]
    """
    return [_best_threshold(column > 0, p) for column, p in zip(targets.T, probabilities.T, strict=True)]


def _best_threshold(true: np.ndarray, probabilities: np.ndarray) -> float:
    if true.sum() < LEAST_POSITIVES:
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    sorted_p = probabilities[order].astype(np.float64)
    f1 = 2 * np.cumsum(true[order]) / (np.arange(1, len(true) + 1) + true.sum())  # of the first 1, 2, ... N texts
    can_end = np.append(sorted_p[:-1] > sorted_p[1:], True)
    last = int(np.where(can_end, f1, -1).argmax())
    below = sorted_p[last + 1] if last + 1 < len(true) else 0.0
    return float((sorted_p[last] + below) / 2)


def regression_scores(targets: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
    """Errors in the unit of the numbers, and correlations; a correlation with a constant is 0.

    Examples:
        >>> scores = regression_scores(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0]))
        >>> {name: round(value, 4) for name, value in scores.items()}
        {'n': 3, 'rmse': 1.1547, 'mae': 0.6667, 'pearson': 0.9608, 'spearman': 1.0}
    """
    targets, predictions = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    errors = predictions - targets
    varies = np.ptp(targets) > 0 and np.ptp(predictions) > 0
    return {
        "n": len(targets),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(np.abs(errors))),
        "pearson": float(np.corrcoef(targets, predictions)[0, 1]) if varies else 0.0,
        "spearman": float(np.corrcoef(rankdata(targets), rankdata(predictions))[0, 1]) if varies else 0.0,
    }


def multilabel_scores(targets: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Micro- and macro-averaged F1 of the labels, and the share of texts whose whole set of labels is right.

    Examples:
        >>> scores = multilabel_scores(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]), ["a", "b"])
        >>> {name: round(scores[name], 4) for name in ("micro_f1", "macro_f1", "accuracy")}
        {'micro_f1': 0.8, 'macro_f1': 0.8333, 'accuracy': 0.5}
    """
    true, predicted = np.asarray(targets) > 0, np.asarray(predictions) > 0
    hits, support, claims = ((a & b).sum(axis=0) for a, b in ((true, predicted), (true, true), (predicted, predicted)))
    f1 = 2 * hits / np.maximum(claims + support, 1)
    per_class = zip(classes, hits / np.maximum(claims, 1), hits / np.maximum(support, 1), f1, support, strict=True)
    return {
        "n": len(true),
        "micro_f1": float(2 * hits.sum() / max(claims.sum() + support.sum(), 1)),
        "macro_f1": float(f1.mean()),
        "accuracy": float((true == predicted).all(axis=1).mean()),
        "per_class": [
            {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for name, p, r, f, n in per_class
        ],
    }
