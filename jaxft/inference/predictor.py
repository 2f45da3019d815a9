"""What every finished model that predicts can do, whatever it predicts."""

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from traceback import walk_stack
from typing import Any, Protocol

import numpy as np

from jaxft.data.files import refuse_surrogates
from jaxft.data.memory import plain
from jaxft.errors import InputError
from jaxft.inference.answers import predictions

PACKAGE = __name__.partition(".")[0]


class Answering(Protocol):
    """What every finished model tells of itself, and its answers for JSON."""

    @property
    def task(self) -> str: ...  # noqa: D102

    @property
    def pairs(self) -> bool: ...  # noqa: D102

    @property
    def marks_fields(self) -> bool: ...  # noqa: D102

    @property
    def text_columns(self) -> tuple[str, ...]: ...  # noqa: D102

    def answers(self, texts: Sequence[Any]) -> list[dict[str, Any]]:
        """Each answer as a mapping for JSON: the prediction and what belongs to it."""
        ...


class Scorer(Answering, Protocol):
    """A model that scores classes, labels or a number."""

    def scores(self, texts: Sequence[Any]) -> np.ndarray:
        """Probabilities (N, C) of classes or labels, or numbers (N, 1), float32."""
        ...


class Predictor(Answering, Protocol):
    """A finished model, as `jaxft.load` and every `fit` return it.

    A text is a string, or a pair of strings where `pairs` is True. A single text in place of a sequence gives a single
    answer. A text without words, or None, is answered as any other; `warnings` tells how many there were.

    Attributes:
        task: "classification", "regression", "multilabel" or "entities".
        classes: names of the C classes, labels or types of entities; empty for numbers.
        pairs: whether the model reads pairs of texts.
        marks_fields: whether a text of several columns of a table has a mark before each, as
            `jaxft.data.table.join_fields` writes them.
        text_columns: the columns of a table that were read as one text in training, if they were several.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102

    def predict(self, texts: Any) -> Any:
        """The prediction for each of N texts, a list of N, or for one text.

        A class is a string and a number a float; a set of labels is a list of strings. Entities are a list of
        mappings with `type`, `start` and `end` (characters, the end excluded), `text` and `score`, a probability.
        """
        ...

    def predict_proba(self, texts: Any) -> np.ndarray:
        """The probabilities (N, C) float32 of classes or labels for N texts, or (C,) for one text.

        Raises:
            InputError: the model predicts numbers or entities.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes the model's folder, which `jaxft.load` loads."""
        ...


def predict(model: Scorer, texts: Any) -> Any:
    """As `Predictor.predict`, from the answers of a model."""
    rows, single = as_rows(texts, model.pairs)
    predicted = predictions(model.answers(rows))
    return predicted[0] if single else predicted


def predict_proba(model: Scorer, texts: Any) -> np.ndarray:
    """As `Predictor.predict_proba`, from the scores of a model."""
    if model.task == "regression":
        raise InputError("a model of numbers has no probabilities: use predict")
    rows, single = as_rows(texts, model.pairs)
    probabilities = model.scores(rows)
    return probabilities[0] if single else probabilities


def as_rows(texts: Any, pairs: bool = False) -> tuple[list[Any], bool]:
    """The texts as a list, and whether one text was given by itself.

    Raises:
        InputError: a table, or what is no text.

    Examples:
        >>> as_rows("lovely"), as_rows(["lovely", "dull"])
        ((['lovely'], True), (['lovely', 'dull'], False))
        >>> as_rows(("a man", "a woman"), pairs=True)
        ([('a man', 'a woman')], True)
    """
    is_pair = pairs and isinstance(texts, tuple) and all(isinstance(part, str) for part in texts)
    single = texts is None or isinstance(texts, str) or is_pair
    rows = [_as_text(plain(row), number) for number, row in enumerate([texts] if single else _listed(texts))]
    empty = count_empty(rows)
    if empty:
        _warn_caller(describe_empty(empty, len(rows)))
    return rows, single


def _warn_caller(message: str) -> None:
    """Warns at the line that called this package, however deep in it the warning arises."""
    names = (frame.f_globals.get("__name__", "") for frame, _ in walk_stack(sys._getframe()))
    level = next((level for level, name in enumerate(names, 1) if not name.startswith(f"{PACKAGE}.")), 1)
    warnings.warn(message, stacklevel=level)


def count_empty(rows: Iterable[Any]) -> int:
    """How many of the texts, or of the pairs, have nothing to read in a text."""
    return sum(not all(part.strip() for part in ([row] if isinstance(row, str) else row)) for row in rows)


def describe_empty(empty: int, count: int) -> str:
    """What becomes of empty texts, in words."""
    return f"{empty:,} of {count:,} texts are empty, and answered as texts without words"


def _listed(texts: Any) -> list[Any]:
    if isinstance(texts, Mapping) or hasattr(texts, "columns"):
        raise InputError("the texts are a table: give its column of texts, such as table['text']")
    try:
        return list(texts)
    except TypeError as error:
        raise InputError(f"the texts are of the type {type(texts).__name__}: give a string or a list") from error


def _as_text(row: Any, number: int) -> Any:
    if row is None:
        return ""
    parts = ["" if part is None else part for part in (row if isinstance(row, list) else [row])]
    if not all(isinstance(part, str) for part in parts):
        raise InputError(f"texts[{number}] is {row!r}: give a string")
    for part in parts:
        refuse_surrogates(part, f"texts[{number}]")
    return tuple(parts) if isinstance(row, list) else row
