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
        names_splits: whether the column `split` says from which part of a mapping each row comes.

    Examples:
        >>> table = Table({"text": ["fine", "dull"], "label": ["pos", float("nan")]})
        >>> list(table.rows())[1]
        ('data[1]', {'text': 'dull', 'label': None})
    """

    columns: Mapping[str, Sequence[Any]] = field(repr=False)
    name: str = "data"
    names_splits: bool = False

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row's place, for messages, and its values as JSON knows them."""
        for number, values in enumerate(zip(*self.columns.values(), strict=True)):
            yield f"{self.name}[{number}]", dict(zip(self.columns, map(plain, values), strict=True))

    def fingerprint(self, settings: str) -> str:
        """The hexadecimal sha256 of the rows and of the settings that they are read with."""
        digest = hashlib.sha256(settings.encode())
        for _, fields in self.rows():
            digest.update(json.dumps(fields, default=str).encode())
        return digest.hexdigest()


def as_table(data: Any, labels: Any = None, *, pairs: bool = False) -> Table | str:
    """Data in memory as a table; a name or path as a string.

    Args:
        data: a name or path; N texts, or sentences as lists of tokens; a mapping from columns to N values; a data frame
            of pandas, polars, pyarrow or another library that narwhals knows; a `Dataset` of Hugging Face; or a mapping
            from splits to any of the last three, such as a `DatasetDict`.
        labels: N labels, where `data` are texts.
        pairs: whether tuples are pairs of texts, for the columns `text` and `pair`.

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
        columns = _columns_of_texts(data, labels, pairs)
    else:
        _refuse_labels(labels, "a table")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"the columns differ in length ({_counts(lengths)}): give as many values in each")
    return Table(columns, names_splits=_is_mapping_of_splits(data))


def plain(value: Any) -> Any:
    """The value as JSON knows it: None where it is missing, a list for a tuple, a set or an array."""
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return None
    for convert in ("as_py", "tolist"):  # a scalar of Arrow; an array or scalar of NumPy
        method = getattr(value, convert, None)
        if callable(method):
            return plain(method())
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=str)
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _refuse_labels(labels: Any, kind: str) -> None:
    if labels is not None:
        raise InputError(f"labels are given beside {kind}: leave them out, because its column of labels is read")


def _columns(data: Any) -> dict[str, list[Any]] | None:
    """The columns of a table; None if the data are not one."""
    if isinstance(data, Mapping):
        if _is_mapping_of_splits(data):
            return _joined({name: part for name, values in data.items() if (part := _columns(values)) is not None})
        return {str(name): _values(name, values) for name, values in data.items()}
    if hasattr(data, "column_names") and hasattr(data, "features"):  # a Dataset of Hugging Face
        if not hasattr(data, "__getitem__"):
            raise InputError("the data set is a stream: load it without streaming=True")
        return {name: _named(list(data[name]), data.features[name]) for name in data.column_names}
    if isinstance(data, list | tuple) or type(data).__name__ == "ndarray":
        return None
    import narwhals

    try:
        frame = narwhals.from_native(data, pass_through=True)
        if isinstance(frame, narwhals.LazyFrame):
            frame = frame.collect()
        if not isinstance(frame, narwhals.DataFrame):
            return None
        return {str(column.name): column.to_list() for column in frame.iter_columns()}
    except narwhals.exceptions.DuplicateError as error:
        raise InputError("the table has two columns of the same name: rename one") from error


def _is_mapping_of_splits(data: Any) -> bool:
    if not isinstance(data, Mapping) or not data or not set(data) <= set(SPLIT_NAMES):
        return False
    return all(not isinstance(part, str) and _columns(part) is not None for part in data.values())


def _values(name: Any, values: Any) -> list[Any]:
    """The values of a column as a list.

    Raises:
        InputError: it is a single value.
    """
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise InputError(f"{name} is {values!r}: give a list with a value for each text")
    return list(values)


def _joined(parts: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """The rows of several splits one after the other, with a column that names the split.

    A part whose labels are all missing, as in the test split of many a benchmark, counts as unlabelled.
    """
    sizes = {split: len(next(iter(part.values()), [])) for split, part in parts.items()}
    columns = {}
    for name in dict.fromkeys(chain.from_iterable(parts.values())):
        columns[name] = list(chain.from_iterable(part.get(name) or [None] * sizes[s] for s, part in parts.items()))
    names = {split: "unlabelled" if _hides_labels(part) else split for split, part in parts.items()}
    return {**columns, SPLIT_COLUMN: [name for split, name in names.items() for _ in range(sizes[split])]}


def _hides_labels(part: Mapping[str, list[Any]]) -> bool:
    labels = part.get(LABEL_COLUMN)
    return bool(labels) and all(plain(label) is None for label in labels)


def _named(values: list[Any], feature: Any) -> list[Any]:
    """The values of a column of Hugging Face, with names in place of the numbers of classes."""
    inner = getattr(feature, "feature", None)  # of a list
    if inner is not None and hasattr(inner, "names"):
        return [_named(value, inner) for value in values]
    names = getattr(feature, "names", None)
    return values if names is None else [None if value is None or value < 0 else names[value] for value in values]


def _columns_of_texts(data: Any, labels: Any, pairs: bool) -> dict[str, list[Any]]:
    if isinstance(data, bytes) or not hasattr(data, "__iter__"):
        raise InputError(f"the data are of the type {type(data).__name__}: give a path, texts with labels, or a table")
    rows = list(data)
    given = {} if labels is None else {LABEL_COLUMN: _values("labels", labels)}
    if not pairs or not any(isinstance(row, tuple) for row in rows):
        return {TEXT_COLUMN: rows, **given}
    if not all(isinstance(row, tuple) and len(row) == 2 for row in rows):
        raise InputError("some data are pairs of texts and some are not: give all or none as a tuple of two")
    return {TEXT_COLUMN: [row[0] for row in rows], PAIR_COLUMN: [row[1] for row in rows], **given}


def _counts(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {length:,}" for name, length in lengths.items())
