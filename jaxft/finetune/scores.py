"""How well numbers, classes or sets of labels were predicted, and which score chooses among models.

The fine-tuning job scores its dev texts, its folds and its test texts by these functions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from jaxft.data.examples import Task
from jaxft.training.summary import classification_summary

_CHOOSING: dict[Task, str] = {"classification": "accuracy", "regression": "rmse", "multilabel": "micro_f1"}


def score_of(task: Task) -> str:
    """The name of the score that chooses.

    Examples:
        >>> score_of("regression")
        'rmse'
    """
    return _CHOOSING[task]


def is_better(task: Task, score: float, other: float) -> bool:
    """Whether the first of two scores is better.

    Examples:
        >>> is_better("regression", 0.5, 0.6), is_better("classification", 0.5, 0.6)
        (True, False)
    """
    return score < other if task == "regression" else score > other


def scores_of(task: Task, targets: np.ndarray, scores: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The scores of predictions, for `summary.json`.

    Args:
        task: what was predicted.
        targets: (N,) classes or numbers, or (N, C) of 0 and 1.
        scores: (N, C) probabilities, or (N, 1) numbers.
        classes: names of the C classes or labels.
    """
    if task == "regression":
        return regression_scores(targets, scores[:, 0])
    if task == "multilabel":
        return multilabel_scores(targets, scores >= 0.5, classes)
    return classification_summary(targets.tolist(), scores.argmax(axis=1).tolist(), classes)


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
    """F1 over all labels (micro) and in the mean of labels (macro), and the share of sets that are right as a whole.

    Examples:
        >>> scores = multilabel_scores(np.array([[1, 0], [1, 1]]), np.array([[1, 0], [0, 1]]), ["a", "b"])
        >>> {name: round(scores[name], 4) for name in ("micro_f1", "macro_f1", "accuracy")}
        {'micro_f1': 0.8, 'macro_f1': 0.8333, 'accuracy': 0.5}
    """
    true, claimed = np.asarray(targets) > 0, np.asarray(predictions) > 0
    hits, support, claims = ((a & b).sum(axis=0) for a, b in ((true, claimed), (true, true), (claimed, claimed)))
    f1 = 2 * hits / np.maximum(claims + support, 1)
    per_class = zip(classes, hits / np.maximum(claims, 1), hits / np.maximum(support, 1), f1, support, strict=True)
    return {
        "n": len(true),
        "micro_f1": float(2 * hits.sum() / max(claims.sum() + support.sum(), 1)),
        "macro_f1": float(f1.mean()),
        "accuracy": float((true == claimed).all(axis=1).mean()),
        "per_class": [
            {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for name, p, r, f, n in per_class
        ],
    }
