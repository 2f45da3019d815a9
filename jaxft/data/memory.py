"""Data that are already in memory: texts and labels, columns, data frames, and data sets of Hugging Face.

The `fit` function of every job turns what it is given into a `Table` here, which the readers of `jaxft.data` take in
place of a file.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from jaxft.data.document import SPLIT_NAMES
from jaxft.errors import InputError

SPLIT_COLUMN = "split"
TEXT_COLUMN, PAIR_COLUMN, LABEL_COLUMN = "text", "pair", "label"


@dataclass(frozen=True)
class Table:
    """Columns of N values in memory.

    Attributes:
        columns: N values each, by name.
        name: name of the data, for reports.

    Examples:
        >>> table = Table({"text": ["fine", "dull"], "label": ["pos", float("nan")]})
        >>> list(table.rows())[1]
        ('data[1]', {'text': 'dull', 'label': None})
    """

    columns: Mapping[str, Sequence[Any]] = field(repr=False)
    name: str = "data"

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row's place, for messages, and its values as JSON knows them."""
        for number, values in enumerate(zip(*self.columns.values(), strict=True)):
            yield f"{self.name}[{number}]", dict(zip(self.columns, map(_plain, values), strict=True))

    def fingerprint(self, settings: str) -> str:
        """The hexadecimal sha256 of the rows and of the settings that they are read with."""
        digest = hashlib.sha256(settings.encode())
        for _, fields in self.rows():
            digest.update(json.dumps(fields, default=str).encode())
        return digest.hexdigest()


def as_table(data: Any, labels: Any = None) -> Table | str:
    """Data in memory as a table; a name or path as a string.

    Args:
        data: a name or path; N texts, or pairs of texts, or sentences as lists of tokens; a mapping from columns to N
            values; a data frame of pandas, polars, pyarrow or another library that narwhals knows; a `Dataset` of
            Hugging Face; or a mapping from splits to any of the last three, such as a `DatasetDict`.
        labels: N labels, where `data` are texts.

    Raises:
        InputError: columns of different lengths, or data of another kind.

    Examples:
        >>> as_table(["fine", "dull"], ["pos", "neg"]).columns
        {'text': ['fine', 'dull'], 'label': ['pos', 'neg']}
        >>> as_table({"train": {"text": ["fine"]}, "test": {"text": ["dull"]}}).columns
        {'text': ['fine', 'dull'], 'split': ['train', 'test']}
    """
    if isinstance(data, str | os.PathLike):
        _refuse_labels(labels, "a path")
        return os.fspath(data)
    columns = _columns(data)
    if columns is None:
        columns = _columns_of_texts(data, labels)
    else:
        _refuse_labels(labels, "a table")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"the columns differ in length ({_counts(lengths)}): give as many values in each")
    return Table(columns)


def _refuse_labels(labels: Any, kind: str) -> None:
    if labels is not None:
        raise InputError(f"labels are given beside {kind}: name their column with label_column instead")


def _columns(data: Any) -> dict[str, list[Any]] | None:
    """The columns of a table; None if the data are not one."""
    if isinstance(data, Mapping):
        parts = {name: _columns(part) for name, part in data.items()}
        if parts and set(parts) <= set(SPLIT_NAMES) and all(part is not None for part in parts.values()):
            return _joined({name: part for name, part in parts.items() if part is not None})
        return {str(name): list(values) for name, values in data.items()}
    if hasattr(data, "column_names") and hasattr(data, "features"):  # a Dataset of Hugging Face
        return {name: _named(list(data[name]), data.features[name]) for name in data.column_names}
    import narwhals

    frame = narwhals.from_native(data, pass_through=True)
    if isinstance(frame, narwhals.LazyFrame):
        frame = frame.collect()
    return {name: frame[name].to_list() for name in frame.columns} if isinstance(frame, narwhals.DataFrame) else None


def _joined(parts: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """The rows of several splits one after the other, with a column that names the split."""
    names = dict.fromkeys(chain.from_iterable(parts.values()))
    columns = {}
    for name in names:
        rows = [part.get(name) or [None] * len(next(iter(part.values()))) for part in parts.values()]
        columns[name] = list(chain.from_iterable(rows))
    splits = [[split] * len(next(iter(part.values()))) for split, part in parts.items()]
    return {**columns, SPLIT_COLUMN: list(chain.from_iterable(splits))}


def _named(values: list[Any], feature: Any) -> list[Any]:
    """The values of a column of Hugging Face, with names in place of the numbers of classes."""
    inner = getattr(feature, "feature", None)  # of a list
    if inner is not None and hasattr(inner, "names"):
        return [_named(value, inner) for value in values]
    names = getattr(feature, "names", None)
    return values if names is None else [None if value is None or value < 0 else names[value] for value in values]


def _columns_of_texts(data: Any, labels: Any) -> dict[str, list[Any]]:
    try:
        rows = list(data)
    except TypeError as error:
        raise InputError(
            f"the data are of the type {type(data).__name__}: give a path, texts with labels, or a table"
        ) from error
    first = rows[0] if rows else None
    given = {} if labels is None else {LABEL_COLUMN: list(labels)}
    if isinstance(first, tuple):
        if not all(isinstance(row, tuple) and len(row) == 2 for row in rows):
            raise InputError("some data are pairs of texts and some are not: give all or none as a tuple of two")
        return {TEXT_COLUMN: [row[0] for row in rows], PAIR_COLUMN: [row[1] for row in rows], **given}
    return {TEXT_COLUMN: rows, **given}


def _plain(value: Any) -> Any:
    """The value as JSON knows it; None where it is missing."""
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return None
    to_list = getattr(value, "tolist", None)  # an array or scalar of NumPy
    return _plain(to_list()) if callable(to_list) else value


def _counts(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {length:,}" for name, length in lengths.items())
