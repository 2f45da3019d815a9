"""A linear probe: the best head on the features of a frozen encoder, from which fine-tuning starts.

A head that is already solved does not distort the encoder's features in the first steps, as a random one does.

Axes: N texts, H features, C outputs.

References:
    Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

STRENGTHS = tuple(float(strength) for strength in 10.0 ** np.arange(-5.0, 1.0, 0.5))
"""inverse strengths of the L2 penalty, from which cross-validation chooses"""
PROBE_TEXTS = 2_000
"""the most texts to solve a head on: with more, their features take longer than they save"""
FOLDS = 5
"""folds of the cross-validation"""

Head = tuple[np.ndarray, np.ndarray]
"""kernel (H, C) and bias (C,) float32"""


def solve_head(
    task: Literal["classification", "regression", "multilabel"],
    features: np.ndarray,
    targets: np.ndarray,
    outputs: int,
    folds: np.ndarray,
    class_weights: np.ndarray | None = None,
) -> Head:
    """The regularized linear head on fixed features; cross-validation chooses the strength of the penalty.

    It is a logistic regression for classes, one per label for sets of labels, and a ridge regression for numbers.

    Args:
        task: what a target is.
        features: (N, H) float32.
        targets: (N,) int32 classes, (N, C) float32 labels or (N,) numbers.
        outputs: C, the number of classes or labels; 1 for numbers.
        folds: (N,) int, the part of the cross-validation that each row is held out in; with a single part, the penalty
            is the strongest.
        class_weights: (C,) float32, the weight of a row of each class; None weights all alike.

    Examples:
        >>> features = np.array([[-2.0], [-1.0], [1.0], [2.0]], np.float32)
        >>> classes, folds = np.array([0, 0, 1, 1], np.int32), np.array([0, 1, 0, 1])
        >>> kernel, bias = solve_head("classification", features, classes, 2, folds)
        >>> (features @ kernel + bias).argmax(axis=1).tolist()
        [0, 0, 1, 1]
    """
    # One scale for all features: those that hardly vary would get weights, and then gradients, without bound.
    mean = features.mean(axis=0)
    scale = float(np.sqrt(features.var(axis=0).mean())) or 1.0
    weights = np.ones(len(features)) if class_weights is None else class_weights[targets]
    best = partial(_best, features=(features - mean) / scale, weights=weights, folds=folds)
    if task == "multilabel":
        heads = [best(_fit_label, _log_losses, column) for column in targets.T.astype(np.int32)]
        kernel = np.concatenate([head[0] for head in heads], axis=1)
        bias = np.concatenate([head[1] for head in heads])
    elif task == "regression":
        kernel, bias = best(_fit_numbers, _squared_errors, targets)
    else:
        kernel, bias = best(partial(_fit_classes, outputs=outputs), _log_losses, targets)
    kernel = kernel / scale
    return kernel.astype(np.float32), (bias - mean @ kernel).astype(np.float32)


def _best(
    fit: Callable[..., Head],
    losses: Callable[[np.ndarray, np.ndarray], np.ndarray],
    targets: np.ndarray,
    *,
    features: np.ndarray,
    weights: np.ndarray,
    folds: np.ndarray,
) -> Head:
    """The head on all rows, with the strength that has the lowest loss on rows that it was not fitted to."""

    parts = np.unique(folds)
    if len(parts) == 1:
        return fit(features, targets, weights, min(STRENGTHS))

    def held_out_loss(strength: float) -> float:
        total = 0.0
        for fold in parts:
            train, rest = folds != fold, folds == fold
            kernel, bias = fit(features[train], targets[train], weights[train], strength)
            total += float((weights[rest] * losses(features[rest] @ kernel + bias, targets[rest])).sum())
        return total

    return fit(features, targets, weights, min(STRENGTHS, key=held_out_loss))


def _fit_classes(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, strength: float, outputs: int) -> Head:
    """A head with an output per class; a class without rows is as likely as one row in twice as many would make it."""
    kernel, bias = np.zeros((features.shape[1], outputs)), np.full(outputs, -np.log(2.0 * len(targets)))
    present = np.unique(targets)
    bias[present] = 0.0
    if len(present) > 1:
        model = fit_logistic_regression(features, targets, strength, weights=weights)
        two = len(present) == 2  # which one column of weights tells apart
        coefficients = np.concatenate([-model.coef_, model.coef_]) / 2 if two else model.coef_
        intercepts = np.concatenate([-model.intercept_, model.intercept_]) / 2 if two else model.intercept_
        kernel[:, present], bias[present] = coefficients.T, intercepts
    return kernel, bias


def fit_logistic_regression(
    features: Any,
    targets: np.ndarray,
    strength: float,
    *,
    weights: np.ndarray | None = None,
    class_weight: Literal["balanced"] | None = None,
) -> Any:
    """A fitted `LogisticRegression` of scikit-learn.

    Args:
        features: (N, H), dense or sparse.
        targets: (N,) int, at least two classes.
        strength: inverse strength of the L2 penalty.
        weights: (N,), of the rows; None weights all alike.
        class_weight: "balanced" gives every class the same sum of weights.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():  # a search that rounding ends is at its optimum
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, class_weight=class_weight, max_iter=1000)
        return model.fit(features, targets, weights)


def _fit_label(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, strength: float) -> Head:
    """A head with one output, the logit of a label."""
    kernel, bias = _fit_classes(features, targets, weights, strength, outputs=2)
    return kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]


def _fit_numbers(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, strength: float) -> Head:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1.0 / strength).fit(features, targets, weights)
    return model.coef_[:, None], np.array([model.intercept_])


def _log_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The cross-entropy of each row; with one column it is the logit of class 1."""
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    return np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(logits)), targets]


def _squared_errors(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (outputs[:, 0] - targets) ** 2
