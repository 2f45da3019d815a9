"""Examples for fine-tuning: texts or pairs of texts, each with a class, a number or a set of labels, and their splits.

`jaxft.finetune` reads its data with it. All examples are in memory, because fine-tuning needs few.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.columns import Columns
from jaxft.data.corpus import open_corpus
from jaxft.data.document import DEV, SPLITS, TEST, TRAIN, Task
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


def strata(targets: np.ndarray, bins: int = 10) -> np.ndarray:
    """The stratum of each example, (N,) int: its class, its set of labels, or the bin of its number.

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
    """The fold of each example, (N,) int; the shares of a stratum in the folds differ by one example at most.

    Examples:
        >>> folds = stratified_folds(np.array([0, 0, 0, 0, 1, 1]), 2, np.random.default_rng(0))
        >>> sorted(folds[:4].tolist()), sorted(folds[4:].tolist())
        ([0, 0, 1, 1], [0, 1])
    """
    folds = np.empty(len(strata), np.int64)
    folds[_by_stratum(strata, rng)] = np.arange(len(strata)) % count
    return folds


def stratified_sample(
    strata: np.ndarray, count: int, rng: np.random.Generator, at_least_one: bool = True
) -> np.ndarray:
    """Draws `count` examples, (N,) bool, with an equal share of every stratum up to one example.

    Args:
        strata: (N,) int.
        count: how many to draw.
        rng: source of chance.
        at_least_one: draw one of every stratum, where `count` is large enough for all.

    Examples:
        >>> drawn = stratified_sample(np.array([0, 0, 0, 0, 0, 1]), 3, np.random.default_rng(0))
        >>> int(drawn[:5].sum()), int(drawn[5:].sum())
        (2, 1)
    """
    numbers, sizes = np.unique(strata, return_inverse=True, return_counts=True)[1:]
    counts, order = np.empty_like(sizes), rng.permutation(len(sizes))
    counts[order] = np.diff(np.cumsum(sizes[order]) * count // len(strata), prepend=0)
    while at_least_one and count >= len(sizes) and not counts.all():
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    rank = np.empty(len(strata), np.int64)  # of each example in its stratum, at random
    rank[_by_stratum(strata, rng)] = np.concatenate([np.arange(size) for size in sizes])
    return rank < counts[numbers]


def sample_with_folds(targets: np.ndarray, most: int, folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws at most `most` examples, and divides them for a cross-validation; both stratified.

    Returns:
        The indices of the S examples, ascending, and the fold of each, (S,) int.

    Examples:
        >>> chosen, held_out = sample_with_folds(np.array([0, 0, 1, 1], np.int32), most=9, folds=2, seed=0)
        >>> chosen.tolist(), sorted(held_out.tolist())
        ([0, 1, 2, 3], [0, 0, 1, 1])
    """
    rng = np.random.default_rng(seed)
    chosen = np.flatnonzero(stratified_sample(strata(targets), min(most, len(targets)), rng))
    return chosen, stratified_folds(strata(targets[chosen]), min(folds, len(chosen)), rng)


def _by_stratum(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The indices of the examples, stratum by stratum, in random order within each."""
    return np.lexsort((rng.random(len(strata)), strata))


def _one_of_each(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first of the rows with each class or label; no rows if the targets are numbers."""
    if targets.ndim == 2:
        has_label = targets[rows] > 0
        return np.unique(rows[has_label.argmax(axis=0)[has_label.any(axis=0)]])
    return rows[np.unique(targets[rows], return_index=True)[1]] if targets.dtype == np.int32 else rows[:0]


def missing_from_test(targets: np.ndarray, classes: Sequence[str]) -> list[str]:
    """At most one line, which names the classes or labels that no test text has.

    Args:
        targets: those of the test texts, as in `Examples`.
        classes: names of the C classes or labels.

    Examples:
        >>> missing_from_test(np.array([0, 2, 2], np.int32), ["a", "b", "c"])
        ['no test text has the class b: its scores are unknown']
    """
    if not len(classes) or not len(targets):
        return []
    counts = (targets > 0).sum(axis=0) if targets.ndim == 2 else np.bincount(targets, minlength=len(classes))
    names = [name for name, count in zip(classes, counts, strict=True) if not count]
    if not names:
        return []
    subject = "the class " + names[0] if len(names) == 1 else "the classes " + ", ".join(names)
    return [f"no test text has {subject}: {'its' if len(names) == 1 else 'their'} scores are unknown"]


def carve(examples: Examples, *, dev: float, test: float, limit: int | None, seed: int) -> Examples:
    """Carves the splits that are missing from train, stratified by label.

    One row of every class or label stays in train, and the others are shared out so that every class has some in the
    test split, then in the dev split, where these are large enough.

    Args:
        examples: the examples, with at least a train split.
        dev: share of train that becomes the dev split if there is none; 0 carves none.
        test: share of train that becomes the test split if there is none; 0 carves none.
        limit: how many of the training rows to use once the test split is carved, dev rows included; None uses all.
        seed: decides which rows are drawn.

    Raises:
        InputError: too few training rows.
    """
    splits, rng = examples.splits.copy(), np.random.default_rng(seed)
    groups, unused = strata(examples.targets), -1
    always_train = _one_of_each(examples.targets, rng.permutation(examples.of(TRAIN)))

    def take(split: int, count: int) -> None:
        free = np.setdiff1d(np.flatnonzero(splits == TRAIN), always_train)
        if not 0 < count < len(free) + bool(len(always_train)):
            raise InputError(f"{(splits == TRAIN).sum()} training rows are too few to hold {count} out: give more rows")
        splits[free[stratified_sample(groups[free], count, rng, at_least_one=split != unused)]] = split

    def share_of_train(share: float) -> int:
        return max(1, round(share * (splits == TRAIN).sum()))

    if test and not len(examples.of(TEST)):
        take(TEST, share_of_train(test))
    if limit is not None and (splits == TRAIN).sum() > limit:
        take(unused, int((splits == TRAIN).sum()) - limit)
    if dev and not len(examples.of(DEV)):
        take(DEV, share_of_train(dev))
    used = splits != unused
    return replace(
        examples,
        texts=tuple(compress(examples.texts, used)),
        targets=examples.targets[used],
        splits=splits[used],
    )
