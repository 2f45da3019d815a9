"""Examples for fine-tuning: texts or pairs of texts with a class, a number or a set of labels each, and their splits.

Called by `jaxft.finetune`; everything is in memory, as fine-tuning needs few examples.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.corpus import open_corpus
from jaxft.data.document import Task
from jaxft.data.files import expanded, file_hash
from jaxft.data.table import TABLE_SUFFIXES, rows, table_suffix, text_field
from jaxft.errors import InputError

Text = tuple[str, ...]
"""one text, or two"""

TRAIN, DEV, TEST = range(3)
_SPLITS = {"train": TRAIN, "dev": DEV, "valid": DEV, "validation": DEV, "test": TEST}
LARGEST = 1e18
"""numbers from here on have squares that float32 cannot hold"""
SEPARATOR = "|"
"""stands between the labels of an example with several"""


@dataclass(frozen=True)
class Examples:
    """N examples.

    Attributes:
        name, fingerprint: of the file, as in `Corpus`.
        texts: N texts or pairs.
        targets: (N,) int32 classes, (N,) float64 numbers, or (N, C) float32 of 0 and 1.
        classes: names of the C classes or labels; none for numbers.
        splits: (N,) int8, which of TRAIN, DEV and TEST.
    """

    name: str
    fingerprint: str
    texts: tuple[Text, ...]
    targets: np.ndarray
    classes: tuple[str, ...]
    splits: np.ndarray

    def of(self, split: int) -> np.ndarray:
        """The numbers of the examples of a split."""
        return np.flatnonzero(self.splits == split)


def read_examples(
    data: str,
    task: Task,
    *,
    text_column: str = "text",
    pair_column: str | None = None,
    label_column: str = "label",
    split_column: str = "split",
) -> Examples:
    """Reads labelled examples.

    Args:
        data: a CSV, TSV or JSONL file, also compressed; for classification also what `open_corpus` takes.
        task: what a label is: one of some classes, a number, or labels with `|` between them (in JSONL also a list).
        text_column, pair_column, label_column: columns of a table; without a pair column examples are single texts.
        split_column: column that says train, dev (or valid) or test; rows that say unlabelled are left out. Without the
            column all rows are train, and those without a class or number are left out.

    Raises:
        InputError: naming file and row, of the first bad row; or too few examples or classes.
    """
    path = expanded(data)
    if table_suffix(path) in TABLE_SUFFIXES:
        if not path.is_file():
            raise InputError(f"{data} does not exist; --data takes the path of a CSV, TSV or JSONL file")
        stream = _table(path, task, text_column, pair_column, label_column, split_column)
        name, fingerprint = path.name, file_hash(path, repr((task, text_column, pair_column, label_column)))
    elif task == "classification" and pair_column is None:
        corpus = open_corpus(data)
        name, fingerprint = corpus.name, corpus.fingerprint
        stream = (((d.text,), d.label, _SPLITS[d.split]) for d in corpus.documents() if d.split != "unlabelled")
    else:
        raise InputError(f"--data {data} is no CSV, TSV or JSONL file, which --task {task} and pairs are read from")
    texts, labels, splits = [], [], []
    for text, label, split in stream:
        texts.append(text)
        labels.append(label)
        splits.append(split)
    places = np.array(splits, np.int8)
    if not (places == TRAIN).any():
        raise InputError(f"{data} holds no training rows with a label; fill in {label_column!r}")
    targets, classes = _targets(labels, places, task, data)
    return Examples(name, fingerprint, tuple(texts), targets, classes, places)


def _table(
    path: Path, task: Task, text_column: str, pair_column: str | None, label_column: str, split_column: str
) -> Iterator[tuple[Text, Any, int]]:
    columns = [(text_column, "--text-column")]
    if pair_column is not None:
        columns.append((pair_column, "--pair-column"))
    has_split = None
    for where, fields in rows(path):
        if has_split is None:
            has_split = split_column in fields or split_column != "split"
        if not has_split and split_column in fields:
            raise InputError(f"{where}: the first row with {split_column!r}; give it in all rows, or in none")
        text = tuple(text_field(fields, *column, where) for column in columns)
        for column, flag in ((label_column, "--label-column"), *([(split_column, "--split-column")] * has_split)):
            if column not in fields:
                raise InputError(f"{where}: no column {column!r}; name the right one with {flag}")
        said = str(fields[split_column]).strip().lower() if has_split else "train"
        if said in ("unlabelled", "unlabeled"):
            continue
        if said not in _SPLITS:
            raise InputError(f"{where}: unknown split {said!r}; use train, dev, test or unlabelled")
        label = _label(fields[label_column], task, where, label_column)
        if label is not None:
            yield text, label, _SPLITS[said]
        elif has_split:
            raise InputError(f"{where}: a {said} row without a label; fill in {label_column!r} or remove the row")


def _label(value: Any, task: Task, where: str, column: str) -> Any:
    """A class, a number or a list of labels, which may be empty; None where a class or number is missing."""
    if task == "multilabel":
        parts = value if isinstance(value, list) else str("" if value is None else value).split(SEPARATOR)
        return sorted({str(part).strip() for part in parts} - {""})
    if isinstance(value, dict | list):
        raise InputError(f"{where}: {column!r} holds {json.dumps(value)}; give one label, or --task multilabel")
    said = "" if value is None else str(value).strip()
    if not said or task == "classification":
        return said or None
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    if not abs(number) < LARGEST:
        raise InputError(f"{where}: {said!r} in {column!r} is no number; correct it, or give --task classification")
    return number


def _targets(labels: Sequence[Any], splits: np.ndarray, task: Task, data: str) -> tuple[np.ndarray, tuple[str, ...]]:
    train = np.flatnonzero(splits == TRAIN)
    if task == "regression":
        targets = np.array(labels, np.float64)
        if np.ptp(targets[train]) == 0:
            raise InputError(f"{data} has one and the same number in every training row; there is nothing to learn")
        return targets, ()
    sets = labels if task == "multilabel" else [[label] for label in labels]
    # numbers by value, before other strings in their order
    found: list[str] = sorted(
        {label for i in train.tolist() for label in sets[i]},
        key=lambda label: (not label.isdigit(), len(label) * label.isdigit(), label),
    )
    if len(found) < (1 if task == "multilabel" else 2):
        raise InputError(f"{data} has fewer than two classes in its training rows; give examples of others")
    index = {label: i for i, label in enumerate(found)}
    unknown = {label for own in sets for label in own if label not in index}
    if unknown:
        raise InputError(
            f"{data} has labels that no training row has ({', '.join(sorted(unknown)[:5])}); add some rows"
        )
    if task == "classification":
        return np.array([index[label] for label in labels], np.int32), tuple(found)
    targets = np.zeros((len(labels), len(found)), np.float32)
    for row, own in zip(targets, sets, strict=True):
        row[[index[label] for label in own]] = 1.0
    return targets, tuple(found)


def strata(targets: np.ndarray, bins: int = 10) -> np.ndarray:
    """What a split should hold equal shares of, (N,) int: classes, sets of labels, or bins of numbers.

    Examples:
        >>> strata(np.array([0.1, 5.0, 0.2, 4.0], np.float32), bins=2).tolist()
        [0, 1, 0, 1]
    """
    if targets.dtype == np.int32:
        return targets
    if targets.ndim == 2:
        return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    edges = np.quantile(targets, np.arange(1, bins) / bins)
    return np.searchsorted(edges, targets, side="right")


def stratified_folds(strata: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each example, (N,) int, with equal shares of every stratum, to one example.

    Examples:
        >>> folds = stratified_folds(np.array([0, 0, 0, 0, 1, 1]), 2, np.random.default_rng(0))
        >>> sorted(folds[:4].tolist()), sorted(folds[4:].tolist())
        ([0, 0, 1, 1], [0, 1])
    """
    folds = np.empty(len(strata), np.int64)
    folds[_by_stratum(strata, rng)] = np.arange(len(strata)) % count
    return folds


def stratified_sample(strata: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Which examples are drawn, (N,) bool: `count` of them, with equal shares of every stratum, to one example.

    Examples:
        >>> drawn = stratified_sample(np.array([0, 0, 0, 0, 1, 1]), 3, np.random.default_rng(0))
        >>> int(drawn[:4].sum()), int(drawn[4:].sum())
        (2, 1)
    """
    numbers = np.arange(len(strata) + 1) * count // len(strata)
    drawn = np.empty(len(strata), bool)
    drawn[_by_stratum(strata, rng)] = np.diff(numbers) > 0
    return drawn


def _by_stratum(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.lexsort((rng.random(len(strata)), strata))


def _one_of_each(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first of the rows with each class or label; none of numbers."""
    if targets.ndim == 2:
        held = targets[rows] > 0
        return np.unique(rows[held.argmax(axis=0)[held.any(axis=0)]])
    return rows[np.unique(targets[rows], return_index=True)[1]] if targets.dtype == np.int32 else rows[:0]


def carve(examples: Examples, *, dev: float, test: float, limit: int | None, seed: int) -> Examples:
    """The examples with the splits that are missing taken from train, each a share of it.

    One row of every class or label stays in train. Of what is left of train after the test split was taken, `limit`
    rows are used, dev rows included.

    Raises:
        InputError: too few training rows.
    """
    splits, rng = examples.splits.copy(), np.random.default_rng(seed)
    groups, unused = strata(examples.targets), -1
    kept = _one_of_each(examples.targets, rng.permutation(examples.of(TRAIN)))

    def take(split: int, count: int) -> None:
        free = np.setdiff1d(np.flatnonzero(splits == TRAIN), kept)
        if not 0 < count < len(free) + bool(len(kept)):
            raise InputError(f"{(splits == TRAIN).sum()} training rows are too few to hold {count} out; give more rows")
        splits[free[stratified_sample(groups[free], count, rng)]] = split

    def share_of_train(share: float) -> int:
        return max(1, round(share * (splits == TRAIN).sum()))

    if test and not len(examples.of(TEST)):
        take(TEST, share_of_train(test))
    if limit is not None and (splits == TRAIN).sum() > limit:
        take(unused, int((splits == TRAIN).sum()) - limit)
    if dev and not len(examples.of(DEV)):
        take(DEV, share_of_train(dev))
    chosen = splits != unused
    return replace(
        examples,
        texts=tuple(text for text, wanted in zip(examples.texts, chosen, strict=True) if wanted),
        targets=examples.targets[chosen],
        splits=splits[chosen],
    )
