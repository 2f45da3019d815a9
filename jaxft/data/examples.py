"""Examples for fine-tuning: texts or pairs of texts, each with a class, a number or a set of labels, and their splits.

`jaxft.finetune` reads its data with it. All examples are in memory, because fine-tuning needs few.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.corpus import open_corpus
from jaxft.data.document import SPLITS, TRAIN, Task
from jaxft.data.duplicates import text_key
from jaxft.data.files import expanded
from jaxft.data.memory import Table
from jaxft.data.table import FORMATS, class_label, is_table, labelled_rows, table_hash
from jaxft.errors import InputError

Text = tuple[str, ...]
"""one text, or two"""

MAX_NUMBER = 1e18
"""the square of a larger number does not fit into float32"""
SEPARATOR = "|"
"""separates the labels of an example of a multi-label task"""


@dataclass(frozen=True)
class Examples:
    """N examples.

    Attributes:
        name: name of the data, as in `Corpus`.
        fingerprint: hash of the data and of how they are read, as in `Corpus`.
        texts: N texts or pairs.
        targets: (N,) int32 classes, (N,) float64 numbers, or (N, C) float32 of 0 and 1.
        classes: names of the C classes or labels; empty for numbers.
        splits: (N,) int8, each TRAIN, DEV or TEST.
    """

    name: str
    fingerprint: str
    texts: tuple[Text, ...]
    targets: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray

    def of(self, split: int) -> np.ndarray:
        """The indices of the examples of a split."""
        return np.flatnonzero(self.splits == split)

    @cached_property
    def keys(self) -> np.ndarray:
        """The `text_key` of each example, (N,) int64: equal for equal texts or pairs."""
        return np.array([text_key(*text) for text in self.texts], np.int64)


def read_examples(
    data: str | Table,
    task: Task,
    *,
    text_column: str = "text",
    pair_column: str | None = None,
    label_column: str = "label",
    split_column: str = "split",
) -> Examples:
    """Reads labelled examples.

    Args:
        data: a table, in a file or in memory; for classification also what `open_corpus` takes.
        task: what a label is: a class, a number, or a set of labels separated by `|` (in JSONL also a list).
        text_column: the column of texts in a table.
        pair_column: the column of the second texts; None if the examples are single texts.
        label_column: the column of labels.
        split_column: the column that says train, dev, test or unlabelled, or one of their other names in
            `document.SPLIT_NAMES`; unlabelled rows are left out. Without the column all rows are train, and those
            without a class or number are left out.

    Raises:
        InputError: at the first bad row, with file and row; or too few examples or classes.
    """
    source = data if isinstance(data, Table) else expanded(data)
    name = source.name
    if isinstance(source, Table) or is_table(source):
        if isinstance(source, Path) and not source.exists():
            raise InputError(f"{data} does not exist: give the path of {FORMATS}")
        columns = [(text_column, "--text-column")]
        if pair_column is not None:
            columns.append((pair_column, "--pair-column"))
        stream = labelled_rows(source, columns, label_column, split_column, LABEL_READERS[task])
        fingerprint = table_hash(source, repr((task, text_column, pair_column, label_column)))
    elif task == "classification" and pair_column is None:
        corpus = open_corpus(data)
        name, fingerprint = corpus.name, corpus.fingerprint
        stream = (((document.text,), document.label, document.split) for document in corpus.documents())
    else:
        needy = f"--task {task}" if pair_column is None else "--pair-column"
        raise InputError(f"{needy} needs a table, and --data {data} is not one: give {FORMATS}")
    texts, labels, splits = [], [], []
    for text, label, split in stream:
        if split != "unlabelled":
            texts.append(text)
            labels.append(label)
            splits.append(SPLITS.index(split or "train"))
    split_numbers = np.array(splits, np.int8)
    if not (split_numbers == TRAIN).any():
        raise InputError(f"{name} holds no training rows with a label: fill in {label_column!r}")
    targets, classes = _targets(labels, split_numbers, task, name)
    return Examples(name, fingerprint, tuple(texts), targets, classes, split_numbers)


def _class(value: Any, column: str, where: str) -> str | None:
    return class_label(value, column, where, "give one label, or --task multilabel")


def _number(value: Any, column: str, where: str) -> float | None:
    cell = _class(value, column, where)
    if cell is None:
        return None
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not abs(number) < MAX_NUMBER:
        raise InputError(
            f"{where} has {cell!r} in {column!r}, which is not a number: correct it, or give --task classification"
        )
    return number


def _label_set(value: Any, column: str, where: str) -> list[str]:
    if not isinstance(value, list):
        return sorted({label.strip() for label in str("" if value is None else value).split(SEPARATOR)} - {""})
    names = [class_label(label, column, where) for label in value]
    if len(set(names)) < len(names) and set(names) <= {"0", "1"}:
        raise InputError(f"{where} has {value} in {column!r}: give the names of the labels, not a row of 0 and 1")
    return sorted({name for name in names if name is not None})


LABEL_READERS: dict[Task, Callable[[Any, str, str], Any]] = {
    "classification": _class,
    "regression": _number,
    "multilabel": _label_set,
}


def _targets(labels: Sequence[Any], splits: np.ndarray, task: Task, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    train = np.flatnonzero(splits == TRAIN)
    if task == "regression":
        targets = np.array(labels, np.float64)
        if np.ptp(targets[train]) == 0:
            raise InputError(f"{name} has the same number in every training row: give rows with different numbers")
        return targets, ()
    sets = labels if task == "multilabel" else [[label] for label in labels]
    # numbers by value, before other strings in their order
    classes: list[str] = sorted(
        {label for i in train.tolist() for label in sets[i]},
        key=lambda label: (not label.isdigit(), len(label) * label.isdigit(), label),
    )
    if len(classes) < (1 if task == "multilabel" else 2):
        raise InputError(f"{name} has fewer than two classes in its training rows: give examples of others")
    index = {label: i for i, label in enumerate(classes)}
    unknown = {label for label_set in sets for label in label_set if label not in index}
    if unknown:
        raise InputError(
            f"{name} has labels that no training row has ({', '.join(sorted(unknown)[:5])}): add some rows"
        )
    if task == "classification":
        return np.array([index[label] for label in labels], np.int32), tuple(classes)
    targets = np.zeros((len(labels), len(classes)), np.float32)
    for row, label_set in zip(targets, sets, strict=True):
        row[[index[label] for label in label_set]] = 1.0
    return targets, tuple(classes)
