"""The scores of each task of fine-tuning, and the one that chooses among models."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxft.data.document import Task
from jaxft.training.scores import classification_scores, multilabel_scores, regression_scores
from jaxft.training.selection import Mode

SELECTION_SCORES: dict[Task, tuple[str, Mode]] = {
    "classification": ("accuracy", "max"),
    "regression": ("rmse", "min"),
    "multilabel": ("micro_f1", "max"),
}
"""the score of each task that chooses an evaluation, and whether higher or lower is better"""


def task_scores(task: Task, targets: np.ndarray, outputs: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """The scores of predictions, for `summary.json`.

    Args:
        task: what was predicted.
        targets: (N,) classes or numbers, or (N, C) of 0 and 1.
        outputs: (N, C) probabilities, or (N, 1) numbers.
        classes: names of the C classes or labels.

    Examples:
        >>> scores = task_scores("regression", np.array([1.0, 2.0]), np.array([[1.0], [2.5]]), ())
        >>> round(scores["rmse"], 4)
        0.3536
    """
    if task == "regression":
        return regression_scores(targets, outputs[:, 0])
    if task == "multilabel":
        return multilabel_scores(targets, outputs >= 0.5, classes)
    return classification_scores(targets.tolist(), outputs.argmax(axis=1).tolist(), classes)
