"""Tables of texts, labels and splits: CSV, TSV and JSON, plain or compressed, Parquet and Arrow, or in memory.

`open_corpus` and `read_examples` read training data with it, and `python -m jaxft.predict --input` reads texts with
`rows`. Rows are counted as a spreadsheet shows them: the header is row 1, and a quoted text with line breaks is one
row.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft.data.arrow import ARROW_SUFFIXES, arrow_rows
from jaxft.data.columns import Columns
from jaxft.data.delimited import DELIMITERS, delimited_rows, describe_layout, listed_names
from jaxft.data.document import SPLIT_NAMES, Document, Split
from jaxft.data.duplicates import text_key
from jaxft.data.files import COMPRESSION_SUFFIXES, file_hash, refuse_surrogates
from jaxft.data.folders import split_files
from jaxft.data.json_rows import json_rows
from jaxft.data.labels import class_label, is_missing, read_indicators
from jaxft.data.memory import Table
from jaxft.data.text import FLD
from jaxft.errors import InputError

TABLE_SUFFIXES = (*DELIMITERS, ".jsonl", ".json", *ARROW_SUFFIXES)
FORMATS = "a .csv, .tsv, .jsonl or .json file, plain or compressed (.gz, .xz, .bz2, .zst), or a .parquet or .arrow file"
TEST_EVERY = 5  # without a split column, one labelled row in five is test
IS_VALID = "is_valid"
IS_VALID_NAMES: dict[str, Split] = {
    **dict.fromkeys(("true", "1", "1.0"), "dev"),
    **dict.fromkeys(("false", "0", "0.0"), "train"),
}
ANY_COLUMNS = Columns(text=(), label=None)
"""no column has to be there"""


def table_suffix(path: Path) -> str:
    """The suffix of the format in lower case, without the suffix of the compression.

    Examples:
        >>> table_suffix(Path("reviews.CSV.gz"))
        '.csv'
    """
    name = path.name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    return Path(name).suffix


def is_table(path: Path) -> bool:
    """Whether `rows` reads a path: a file with the suffix of a table, or a folder with a table for each split."""
    return bool(split_files(path, is_table_file)) if path.is_dir() else is_table_file(path)


def is_table_file(path: Path) -> bool:
    """Whether the name of a file is that of a table."""
    return table_suffix(path) in TABLE_SUFFIXES


def table_hash(source: Path | Table, settings: str) -> str:
    """The hexadecimal sha256 of a table and of the settings that it is read with."""
    if isinstance(source, Table):
        return source.fingerprint(settings)
    if source.is_dir():
        files = split_files(source, is_table_file).items()
        return " ".join(file_hash(path, f"{split} {settings}") for split, path in files)
    return file_hash(source, settings)


def rows(source: Path | Table, columns: Columns = ANY_COLUMNS) -> Iterator[tuple[str, dict[str, Any]]]:
    """Streams the rows of a table as (where, fields); `where` names the file and the row, for error messages.

    Args:
        source: a file; a folder with a file for each split, such as train.csv and test.csv, whose rows name their split
            in the column "split"; or a table in memory.
        columns: how a file of CSV or TSV is written, and the columns that its header must have.

    Raises:
        InputError: an unknown suffix, a file that cannot be read or is not UTF-8, a ragged row, a repeated column name,
            or a line that is not a JSON object.
    """
    if isinstance(source, Table):
        yield from source.rows()
        return
    if source.is_dir():
        for split, path in split_files(source, is_table_file).items():
            needed = replace(columns, label=None) if split == "unlabelled" else columns
            yield from ((where, {**fields, "split": split}) for where, fields in rows(path, needed))
        return
    suffix = table_suffix(source)
    if suffix not in TABLE_SUFFIXES:
        raise InputError(f"{source} has an unknown suffix: give {FORMATS}")
    if suffix in ARROW_SUFFIXES:
        yield from arrow_rows(source)
        return
    if suffix in DELIMITERS:
        yield from delimited_rows(source, suffix, columns)
        return
    yield from json_rows(source)


def text_field(fields: dict[str, Any], column: str, flag: str, where: str, may_be_empty: bool = False) -> str:
    """The text in a column of a row; `flag` is the flag that names the column.

    Raises:
        InputError: there is no such column, the text is not a string, or it is empty and may not be.
    """
    text = _field(fields, column, flag, where)
    if text is None and may_be_empty:
        return ""
    if not isinstance(text, str):
        raise InputError(f"{where} has {text!r} in {column!r}, which needs a text: write it as a string")
    if not text.strip() and not may_be_empty:
        raise InputError(f"{where} has an empty text: remove the row or fill in {column!r}")
    refuse_surrogates(text, f"{where}, column {column!r}")
    return text


def labelled_rows(
    source: Path | Table,
    columns: Columns,
    read_label: Callable[[Any, str, str], Any],
    mark_fields: bool = False,
) -> Iterator[tuple[tuple[str, ...], Any, Split | None]]:
    """Streams the rows of a table as (texts, label, split).

    The table has a split column if its first row has one; fastai's column `is_valid` serves as well. The label of an
    unlabelled row is None and its cell is not read. Without a split column, a row without a label is unlabelled and the
    split of every other row is None.

    Args:
        source: the table.
        columns: which columns hold what; a split column may be absent if it is called "split".
        read_label: returns the label of a cell, given the cell, its column and its place in the file; None if the cell
            holds none.
        mark_fields: whether texts of several columns are joined with marks, as `join_fields` does.

    Raises:
        InputError: at the first bad row: as `rows` and `text_field`, an unknown split, a missing label, or a split
            column that starts after the first row; or no rows.
    """
    split_column, has_split = columns.split or "", None
    if columns.split is None and _names_splits(source):
        split_column = "split"
    for where, fields in rows(source, columns):
        if has_split is None:
            split_column = split_column_of(fields, split_column)
            has_split = split_column in fields or split_column not in ("", "split")
        elif not has_split and split_column in fields:
            raise InputError(f"{where} is the first row with {split_column!r}: give it in all rows or in none")
        texts = row_texts(fields, columns, where, mark_fields)
        split = split_of(fields, split_column, where) if has_split else None
        if split == "unlabelled":
            yield texts, None, split
            continue
        label = _label(fields, columns, read_label, where)
        if label is None and split is not None:
            spelled = fields.get(columns.label or "")
            missing = (
                f" ({spelled!r} counts as none: rename a class of this name)"
                if isinstance(spelled, str) and spelled
                else ""
            )
            raise InputError(
                f"{where} is a {split} row without a label{missing}: fill in {columns.label!r} or set the split to "
                "unlabelled"
            )
        yield texts, label, "unlabelled" if label is None else split
    if has_split is None:
        raise InputError(f"{source_name(source)} has no rows: give some texts")


def _names_splits(source: Path | Table) -> bool:
    """Whether the names of files, or of the parts of a mapping, say the split of each row."""
    return source.names_splits if isinstance(source, Table) else source.is_dir()


def _label(fields: dict[str, Any], columns: Columns, read_label: Callable[[Any, str, str], Any], where: str) -> Any:
    if not columns.labels:
        column = columns.label or ""
        return read_label(_field(fields, column, "--label-column", where), column, where)
    for column in columns.labels:
        _field(fields, column, "--label-columns", where)
    names = read_indicators(fields, columns.labels, where)
    return None if names is None else read_label(names, ", ".join(columns.labels), where)


def row_texts(
    fields: dict[str, Any], columns: Columns, where: str, mark_fields: bool, may_be_empty: bool = False
) -> tuple[str, ...]:
    """The text of a row, and the second text where rows are pairs; several columns of texts make one text.

    Raises:
        InputError: as `text_field`; of several columns of texts, some may be empty.
    """
    several = len(columns.text) > 1
    parts = [text_field(fields, name, "--text-column", where, may_be_empty or several) for name in columns.text]
    if several and not may_be_empty and not any(part.strip() for part in parts):
        raise InputError(f"{where} has no text in {listed_names(columns.text)}: remove the row or fill one in")
    text = join_fields(parts, mark_fields)
    if columns.pair is None:
        return (text,)
    return text, text_field(fields, columns.pair, "--pair-column", where, may_be_empty)


def join_fields(parts: Sequence[str], mark_fields: bool) -> str:
    """One text of those of several columns: with a space between them, or with fastai's token before each.

    Examples:
        >>> join_fields(["Title", "Story."], False), join_fields(["Title", "Story."], True)
        ('Title Story.', 'xxfld 1 Title xxfld 2 Story.')
    """
    if len(parts) == 1:
        return parts[0]
    if mark_fields:
        return " ".join(f"{FLD} {number} {part}" for number, part in enumerate(parts, 1))
    return " ".join(part for part in parts if part.strip())


def table_notes(source: Path | Table, columns: Columns) -> list[str]:
    """What the user should know of how a table is read: an unusual layout, files of a folder, and missing labels.

    Raises:
        InputError: as `rows`.
    """
    notes = []
    files = [source] if isinstance(source, Path) else []
    if isinstance(source, Path) and source.is_dir():
        files = list(split_files(source, is_table_file).values())
        ignored = sorted(path.name for path in source.iterdir() if path not in files)
        notes.append(f"{source}: reads {', '.join(path.name for path in files)}")
        if ignored:
            notes[-1] += f", and not {listed_names(ignored)}"
    for path in files:
        if table_suffix(path) in DELIMITERS and (layout := describe_layout(path, table_suffix(path), columns)):
            notes.append(f"{path.name}: {'; '.join(layout)}")
    if columns.label is None or columns.labels:
        return notes
    spelled = Counter(
        value.strip()
        for _, fields in rows(source, columns)
        if isinstance(value := fields.get(columns.label), str) and value.strip() and is_missing(value)
    )
    if spelled:
        counted = ", ".join(f"{count:,} {name}" for name, count in spelled.most_common())
        notes.append(f"{source_name(source)}: {columns.label!r} holds {counted}, which count as no label")
    return notes


def read_table(source: Path | Table, columns: Columns, seed: int = 0) -> Iterator[Document]:
    """Streams the documents of a table in the order of its rows.

    With a split column, each row says train, dev, test or unlabelled. Without one, rows with an empty label are
    unlabelled, and one of every five rows of a class is test, at a place drawn from `seed`: a stratified 20 % that
    needs no second pass. The first row of each class is always train.

    Raises:
        InputError: at the first bad row, as `labelled_rows`.
    """
    stream = labelled_rows(source, columns, class_label, mark_fields=True)
    yield from carved_documents(((texts[0], label, split) for texts, label, split in stream), seed)


def carved_documents(rows: Iterable[tuple[str, Any, Split | None]], seed: int = 0) -> Iterator[Document]:
    """Documents of texts, labels and splits; a split of None is drawn as `read_table` says.

    A text that has come before is in the split of the first, except the first row of a class, which is train. A hash
    of each text with a drawn split is kept in memory.
    """
    rows_of_class: dict[str, int] = {}
    split_of_text: dict[int, Split] = {}
    for text, label, split in rows:
        if split is None:
            key = text_key(text)
            if key in split_of_text and label in rows_of_class:
                split = split_of_text[key]
            else:
                split = _carved_split(label, rows_of_class, seed)
                split_of_text.setdefault(key, split)
        yield Document(text, label, split)


def _field(fields: Mapping[str, Any], column: str, flag: str, where: str) -> Any:
    if column not in fields:
        raise InputError(
            f"{where} has no column {column!r}, only {listed_names(fields)}: name the right one with {flag}"
        )
    return fields[column]


def split_column_of(fields: Mapping[str, Any], column: str = "split") -> str:
    """The column of splits, given a row: fastai's `is_valid` where there is no `split`."""
    return IS_VALID if column == "split" and column not in fields and IS_VALID in fields else column


def split_of(fields: Mapping[str, Any], column: str, where: str) -> Split:
    """The split that a row names in a column.

    Raises:
        InputError: there is no such column, or no such split.
    """
    value = _field(fields, column, "--split-column", where)
    name = str(value).strip().lower()
    split = IS_VALID_NAMES.get(name) if column == IS_VALID else SPLIT_NAMES.get(name)
    if split is None:
        choices = (
            "True or False" if column == IS_VALID else "train, dev, test or unlabelled, or give --split-column none"
        )
        raise InputError(f"{where} has the unknown split {value!r} in {column!r}: use {choices}")
    return split


def source_name(source: Path | Table) -> str:
    """The name of a table, for messages."""
    return source.name if isinstance(source, Table) else str(source)


def _carved_split(label: str, rows_of_class: dict[str, int], seed: int) -> Split:
    """The split of the next row of a class; counts the rows of each class."""
    count = rows_of_class.get(label, 0)
    rows_of_class[label] = count + 1
    block, place = divmod(count, TEST_EVERY)
    draw = hashlib.sha256(f"{seed} {block} {label}".encode()).digest()[0]
    # never the first row of a class, so that no class is in test alone
    test_place = 1 + draw % (TEST_EVERY - 1) if block == 0 else draw % TEST_EVERY
    return "test" if place == test_place else "train"
