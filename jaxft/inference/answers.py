"""Answers to texts, as the jobs print and write them, from a model's scores of classes, labels or a number.

Every model that scores texts uses these functions; `jaxft.predict` prints the result.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from jaxft.data.document import Task
from jaxft.errors import InputError


def as_scores(task: Task, outputs: np.ndarray) -> np.ndarray:
    """Turns a model's outputs (N, C) into probabilities of classes or labels; numbers stay as they are.

    Raises:
        InputError: an output is not finite.
    """
    refuse_not_finite(outputs)
    if task == "regression":
        return outputs
    return softmax(outputs, axis=1) if task == "classification" else expit(outputs)


def refuse_not_finite(outputs: np.ndarray) -> None:
    """Refuses outputs (N, ...) that are no answers.

    Raises:
        InputError: an output is not finite; the sentence counts the texts.

    Examples:
        >>> refuse_not_finite(np.array([[0.5], [np.nan]]))
        Traceback (most recent call last):
        jaxft.errors.InputError: the model has no finite answer to 1 of 2 texts: train it again with ...
    """
    bad = int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(axis=1).sum()) if len(outputs) else 0
    if bad:
        raise InputError(
            f"the model has no finite answer to {bad:,} of {len(outputs):,} texts: train it again with lower "
            "learning rates"
        )


def as_answers(
    task: Task, classes: Sequence[str], scores: np.ndarray, thresholds: Sequence[float] = ()
) -> list[dict[str, Any]]:
    """Turns scores (N, C) into N answers, ready for JSON; the first entry of an answer is the prediction.

    Args:
        task: what the scores are of.
        classes: names of the C classes or labels.
        scores: probabilities, or numbers (N, 1).
        thresholds: the least probability of each of the C labels that counts as yes; 0.5 by default.

    Examples:
        >>> as_answers("classification", ("neg", "pos"), np.array([[0.25, 0.75]]))
        [{'label': 'pos', 'probabilities': {'neg': 0.25, 'pos': 0.75}}]
        >>> as_answers("multilabel", ("a", "b"), np.array([[0.25, 0.75]]))
        [{'labels': ['b'], 'probabilities': {'a': 0.25, 'b': 0.75}}]
        >>> as_answers("regression", (), np.array([[0.25]]))
        [{'value': 0.25}]
    """
    if task == "regression":
        return [{"value": round(float(row[0]), 6)} for row in scores]
    answers, least = [], thresholds or [0.5] * len(classes)
    for row in scores:
        probabilities = {name: round(float(p), 6) for name, p in zip(classes, row, strict=True)}
        if task == "classification":
            answers.append({"label": classes[row.argmax()], "probabilities": probabilities})
        else:
            labels = [name for name, p, at_least in zip(classes, row, least, strict=True) if p >= at_least]
            answers.append({"labels": labels, "probabilities": probabilities})
    return answers


def predictions(answers: Iterable[Mapping[str, Any]]) -> list[Any]:
    """The prediction of each answer: a class, a list of labels or a number.

    Examples:
        >>> predictions([{"label": "pos", "probabilities": {"neg": 0.25, "pos": 0.75}}])
        ['pos']
    """
    return [next(iter(answer.values())) for answer in answers]


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


def describe_classes(task: str, classes: Sequence[str]) -> str:
    """What a model predicts, in a few words.

    Examples:
        >>> describe_classes("classification", ["neg", "pos"]), describe_classes("regression", [])
        ('2 classes: neg, pos', 'a number')
    """
    if not classes:
        return "a number"
    kind = {"classification": "classes", "multilabel": "labels"}.get(task, "types of entities")
    return f"{len(classes)} {kind}: {', '.join(classes[:5])}{', ...' * (len(classes) > 5)}"
