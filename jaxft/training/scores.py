"""Scores of predicted classes, numbers and sets of labels, with the interval of an accuracy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

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
        `n`, `accuracy`, `accuracy_interval` (95 %), `macro_f1` (over all classes, absent ones with 0), `per_class`
        (`class`, `precision`, `recall`, `f1`, `support`) and `confusion_matrix` (C rows, true; C columns, predicted).

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
        "macro_f1": float(scores["f1"].mean()),
        "per_class": [
            {"class": name} | {score: values[i].item() for score, values in scores.items()}
            for i, name in enumerate(classes)
        ],
        "confusion_matrix": confusion.tolist(),
    }


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
