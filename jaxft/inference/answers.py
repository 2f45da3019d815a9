"""What a model says of a text, as the jobs print and write it: for classes, for labels and for numbers.

The finished models use it, and `jaxft.predict` prints what it makes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from jaxft.data.examples import Task


def as_scores(task: Task, outputs: np.ndarray) -> np.ndarray:
    """A model's outputs (N, C) as probabilities of classes or labels; numbers are as they are."""
    if task == "regression":
        return outputs
    return softmax(outputs, axis=1) if task == "classification" else expit(outputs)


def answers(task: Task, classes: Sequence[str], scores: np.ndarray) -> list[dict[str, Any]]:
    """One answer for each row of scores, ready for JSON; its first entry is what was predicted.

    Examples:
        >>> answers("classification", ("neg", "pos"), np.array([[0.25, 0.75]]))
        [{'label': 'pos', 'probabilities': {'neg': 0.25, 'pos': 0.75}}]
        >>> answers("multilabel", ("a", "b"), np.array([[0.25, 0.75]]))
        [{'labels': ['b'], 'probabilities': {'a': 0.25, 'b': 0.75}}]
        >>> answers("regression", (), np.array([[0.25]]))
        [{'value': 0.25}]
    """
    if task == "regression":
        return [{"value": round(float(row[0]), 6)} for row in scores]
    found = []
    for row in scores:
        probabilities = {name: round(float(p), 6) for name, p in zip(classes, row, strict=True)}
        if task == "classification":
            found.append({"label": classes[row.argmax()], "probabilities": probabilities})
        else:
            chosen = [name for name, p in zip(classes, row, strict=True) if p >= 0.5]
            found.append({"labels": chosen, "probabilities": probabilities})
    return found


def table_row(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as the fields of a table.

    Examples:
        >>> table_row({"labels": ["a", "b"], "probabilities": {"a": 0.9, "b": 0.6}})
        {'labels': 'a|b', 'p(a)': '0.900000', 'p(b)': '0.600000'}
    """
    row: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, Mapping):
            row |= {f"p({label})": f"{p:.6f}" for label, p in value.items()}
        else:
            row[name] = "|".join(value) if isinstance(value, list) else value
    return row
