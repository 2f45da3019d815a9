"""The scores of each task of fine-tuning, and the one that chooses among models."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.data.document import TRAIN, Task
from jaxft.data.examples import Examples
from jaxft.training.scores import (
    classification_scores,
    default_metric,
    metric_mode,
    metric_score,
    multilabel_scores,
    regression_scores,
    score_name,
)
from jaxft.training.selection import Mode
from jaxft.training.settings import Metric


def selection_score(task: Task, metric: Metric | None, examples: Examples) -> tuple[str, Mode]:
    """The name of the score that chooses among weights, and whether higher or lower is better.

    Args:
        task: what is predicted.
        metric: of classes; None takes what suits those of the training examples.
        examples: the examples.
    """
    if task != "classification":
        return ("rmse", "min") if task == "regression" else ("micro_f1", "max")
    metric = metric or default_metric(examples.targets[examples.of(TRAIN)], len(examples.classes))
    return score_name(metric), metric_mode(metric)


def task_scores(
    task: Task,
    targets: np.ndarray,
    outputs: np.ndarray,
    classes: Sequence[str],
    metric: Metric | None = None,
    thresholds: Sequence[float] | np.ndarray = (),
) -> dict[str, Any]:
    """The scores of predictions, for `summary.json`.

    Args:
        task: what was predicted.
        targets: (N,) classes or numbers, or (N, C) of 0 and 1.
        outputs: (N, C) probabilities, or (N, 1) numbers.
        classes: names of the C classes or labels.
        metric: a score of predicted classes to add.
        thresholds: the least probability of each label that counts as yes, (C,) or of each text (N, C); 0.5 by default.

    Examples:
        >>> scores = task_scores("regression", np.array([1.0, 2.0]), np.array([[1.0], [2.5]]), ())
        >>> round(scores["rmse"], 4)
        0.3536
    """
    if task == "regression":
        return regression_scores(targets, outputs[:, 0])
    if task == "multilabel":
        return multilabel_scores(targets, outputs >= np.asarray(thresholds if len(thresholds) else 0.5), classes)
    scores = classification_scores(targets.tolist(), outputs.argmax(axis=1).tolist(), classes)
    return scores if metric is None else {**scores, score_name(metric): metric_score(metric, targets, outputs)}
