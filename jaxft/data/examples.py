"""Examples for fine-tuning: texts or pairs of texts, each with a class, a number or a set of labels, and their splits.

`jaxft.finetune` reads its data with it. All examples are in memory, because fine-tuning needs few.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.columns import Columns
from jaxft.data.corpus import open_corpus
from jaxft.data.document import SPLITS, TRAIN, Task
from jaxft.data.duplicates import text_key
from jaxft.data.files import expanded
from jaxft.data.labels import LABEL_READERS, SEPARATOR, SET_FORMS
from jaxft.data.memory import Table
from jaxft.data.table import FORMATS, is_table, labelled_rows, table_hash, table_notes
from jaxft.errors import InputError

Text = tuple[str, ...]
"""one text, or two"""


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
        notes: lines that say what the user should know of how the data are read.
    """

    name: str
    fingerprint: str
    texts: tuple[Text, ...]
    targets: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray
    notes: tuple[str, ...] = ()

    def label(self, example: int) -> str:
        """The class, the number or the labels of an example, as it is written in data."""
        target = self.targets[example]
        if target.ndim:
            return SEPARATOR.join(name for name, value in zip(self.classes, target, strict=True) if value)
        return self.classes[target] if self.classes else f"{target:g}"

    def of(self, split: int) -> np.ndarray:
        """The indices of the examples of a split."""
        return np.flatnonzero(self.splits == split)

    @cached_property
    def keys(self) -> np.ndarray:
        """The `text_key` of each example, (N,) int64: equal for equal texts or pairs."""
        return np.array([text_key(*text) for text in self.texts], np.int64)


def read_examples(data: str | Table, task: Task, columns: Columns | None = None) -> Examples:
    """Reads labelled examples.

    Args:
        data: a table, in a file or in memory; for classification also what `open_corpus` takes.
        task: what a label is: a class, a number, or a set of labels separated by `|` (in JSONL also a list).
        columns: which columns of a table hold what; by default `text`, `label` and `split`. Unlabelled rows are left
            out; without a column of splits all rows are train, and those without a class or number are left out.

    Raises:
        InputError: at the first bad row, with file and row; or too few examples or classes.
    """
    source = data if isinstance(data, Table) else expanded(data)
    columns = columns or Columns()
    if isinstance(source, Table) or is_table(source):
        if isinstance(source, Path) and not source.exists():
            raise InputError(f"{data} does not exist: give the path of {FORMATS}")
        stream = labelled_rows(source, columns, LABEL_READERS[task])
        key = (task, ",".join(columns.text), columns.pair, columns.label, *columns.file_layout)
        name, fingerprint, notes = source.name, table_hash(source, repr(key)), table_notes(source, columns)
    elif task == "classification" and columns.pair is None:
        corpus = open_corpus(data)
        name, fingerprint, notes = corpus.name, corpus.fingerprint, corpus.notes()
        stream = (((document.text,), document.label, document.split) for document in corpus.documents())
    else:
        needy = f"--task {task}" if columns.pair is None else "--pair-column"
        raise InputError(f"{needy} needs a table, and --data {data} is not one: give {FORMATS}")
    texts, labels, splits = [], [], []
    for text, label, split in stream:
        if split != "unlabelled":
            texts.append(text)
            labels.append(label)
            splits.append(SPLITS.index(split or "train"))
    split_numbers = np.array(splits, np.int8)
    if not (split_numbers == TRAIN).any():
        raise InputError(f"{name} holds no training rows with a label: fill in {columns.label!r}")
    targets, classes = _targets(labels, split_numbers, task, name)
    return Examples(name, fingerprint, tuple(texts), targets, classes, split_numbers, tuple(notes))


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
    if len(classes) > 1 and all(len(labels[i]) == len(classes) for i in train.tolist()):
        raise InputError(f"{name} has all labels in every training row, which teaches nothing: give {SET_FORMS}")
    targets = np.zeros((len(labels), len(classes)), np.float32)
    for row, label_set in zip(targets, sets, strict=True):
        row[[index[label] for label in label_set]] = 1.0
    return targets, tuple(classes)
