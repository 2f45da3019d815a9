"""Tables of texts, labels and splits: CSV, TSV and JSON lines, plain or compressed, Parquet and Arrow, or in memory.

`open_corpus` and `read_examples` read training data with it, and `python -m jaxft.predict --input` reads texts with
`rows`. Rows are counted as a spreadsheet shows them: the header is row 1, and a quoted text with line breaks is one
row.
"""

import csv
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from jaxft.data.arrow import ARROW_SUFFIXES, arrow_rows
from jaxft.data.document import SPLIT_NAMES, Document, Split
from jaxft.data.duplicates import text_key
from jaxft.data.files import COMPRESSION_SUFFIXES, decompressed, file_hash, text_lines
from jaxft.data.folders import split_files
from jaxft.data.memory import Table
from jaxft.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLE_SUFFIXES = (*DELIMITERS, ".jsonl", *ARROW_SUFFIXES)
FORMATS = "a .csv, .tsv or .jsonl file, plain or compressed (.gz, .xz, .bz2, .zst), or a .parquet or .arrow file"
TEST_EVERY = 5  # without a split column, one labelled row in five is test
IS_VALID = "is_valid"
IS_VALID_NAMES: dict[str, Split] = {
    **dict.fromkeys(("true", "1", "1.0"), "dev"),
    **dict.fromkeys(("false", "0", "0.0"), "train"),
}
SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell these, UTF-8 cannot
LONGEST_FIELD = 2**31 - 1  # characters; the largest limit that a C long holds on every platform


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


def rows(source: Path | Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """Streams the rows of a table as (where, fields); `where` names the file and the row, for error messages.

    Args:
        source: a file; a folder with a file for each split, such as train.csv and test.csv, whose rows name their split
            in the column "split"; or a table in memory.

    Raises:
        InputError: an unknown suffix, a file that cannot be read or is not UTF-8, a ragged row, a repeated column name,
            or a line that is not a JSON object.
    """
    if isinstance(source, Table):
        yield from source.rows()
        return
    if source.is_dir():
        for split, path in split_files(source, is_table_file).items():
            yield from ((where, {**fields, "split": split}) for where, fields in rows(path))
        return
    suffix = table_suffix(source)
    if suffix not in TABLE_SUFFIXES:
        raise InputError(f"{source} has an unknown suffix: give {FORMATS}")
    if suffix in ARROW_SUFFIXES:
        yield from arrow_rows(source)
        return
    with decompressed(source) as stream:
        yield from _json_rows(source, stream) if suffix == ".jsonl" else _csv_rows(source, stream)


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


def refuse_surrogates(text: str, where: str) -> None:
    """Refuses a text with half a surrogate pair, which JSON can spell and UTF-8 cannot.

    Raises:
        InputError: naming the place.
    """
    if SURROGATE.search(text):
        raise InputError(f"{where} has half a surrogate pair: write the whole character")


def labelled_rows(
    source: Path | Table,
    text_columns: Sequence[tuple[str, str]],
    label_column: str,
    split_column: str,
    read_label: Callable[[Any, str, str], Any],
) -> Iterator[tuple[tuple[str, ...], Any, Split | None]]:
    """Streams the rows of a table as (texts, label, split).

    The table has a split column if its first row has one; fastai's column `is_valid` serves as well. The label of an
    unlabelled row is None and its cell is not read. Without a split column, a row without a label is unlabelled and the
    split of every other row is None.

    Args:
        source: the table.
        text_columns: each column of texts, and the flag that names it.
        label_column: the column of labels.
        split_column: the column of splits; only one that is called "split" may be absent.
        read_label: returns the label of a cell, given the cell, its column and its place in the file; None if the cell
            holds none.

    Raises:
        InputError: at the first bad row: as `rows` and `text_field`, an unknown split, a missing label, or a split
            column that starts after the first row; or no rows.
    """
    has_split = None
    for where, fields in rows(source):
        if has_split is None:
            split_column = split_column_of(fields, split_column)
            has_split = split_column in fields or split_column != "split"
        elif not has_split and split_column in fields:
            raise InputError(f"{where} is the first row with {split_column!r}: give it in all rows or in none")
        texts = tuple(text_field(fields, column, flag, where) for column, flag in text_columns)
        split = split_of(fields, split_column, where) if has_split else None
        if split == "unlabelled":
            yield texts, None, split
            continue
        label = read_label(_field(fields, label_column, "--label-column", where), label_column, where)
        if label is None and split is not None:
            raise InputError(
                f"{where} is a {split} row without a label: fill in {label_column!r} or set the split to unlabelled"
            )
        yield texts, label, "unlabelled" if label is None else split
    if has_split is None:
        raise InputError(f"{source_name(source)} has no rows: give some texts")


def class_label(value: Any, column: str, where: str, remedy: str = "give one label per row") -> str | None:
    """The class in a cell; None if the cell is empty.

    Raises:
        InputError: the cell holds a list or an object; the sentence ends with `remedy`.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps holds floats
    if isinstance(value, dict | list):
        raise InputError(f"{where} has {value!r} in {column!r}: {remedy}")
    label = "" if value is None else str(value).strip()
    return label or None


def read_table(
    source: Path | Table, text_column: str, label_column: str, split_column: str, seed: int = 0
) -> Iterator[Document]:
    """Streams the documents of a table in the order of its rows.

    With a split column, each row says train, dev, test or unlabelled. Without one, rows with an empty label are
    unlabelled, and one of every five rows of a class is test, at a place drawn from `seed`: a stratified 20 % that
    needs no second pass. The first row of each class is always train.

    Raises:
        InputError: at the first bad row, as `labelled_rows`.
    """
    columns: list[tuple[str, str]] = [(text_column, "--text-column")]
    stream = labelled_rows(source, columns, label_column, split_column, class_label)
    yield from carved_documents(((text, label, split) for (text,), label, split in stream), seed)


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


def _csv_rows(path: Path, stream: BinaryIO) -> Iterator[tuple[str, dict[str, Any]]]:
    # one limit for the whole process, and the default of 131,072 characters is shorter than some reviews' pages
    csv.field_size_limit(LONGEST_FIELD)
    # strict, because a stray quote would otherwise swallow the rows that follow it
    delimiter = DELIMITERS[table_suffix(path)]
    reader = csv.reader(text_lines(stream, path), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    for number in itertools.count(1):
        where = f"{path}, row {number}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{where} is not valid CSV ({error}): quote texts as csv.writer does, with inner quotes doubled"
            ) from error
        if values is None:
            break
        if not values:  # a blank line
            continue
        if header is None:
            header = [name.strip() for name in values]
            if len(set(header)) < len(header):
                raise InputError(f"{where} repeats a column name ({_listed(header)}): rename one")
            continue
        if len(values) != len(header):
            remedy = "quote texts that hold the delimiter" if len(values) > len(header) else "fill in the rest"
            if len(header) == 1:
                remedy = f"separate the columns by {delimiter!r}, which the header {header[0]!r} does not hold"
            counted = f"{len(values)} field{'s' * (len(values) != 1)}"
            raise InputError(f"{where} has {counted} and the header has {len(header)}: {remedy}")
        yield where, dict(zip(header, values, strict=True))


def _json_rows(path: Path, stream: BinaryIO) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text_lines(stream, path), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise InputError(f"{where} is not valid JSON ({reason}): write one object per line") from error
        if not isinstance(fields, dict):
            raise InputError(f"{where} is not a JSON object: write one object with a text and a label per line")
        yield where, cast(dict[str, Any], fields)


def _field(fields: Mapping[str, Any], column: str, flag: str, where: str) -> Any:
    if column not in fields:
        raise InputError(f"{where} has no column {column!r}, only {_listed(fields)}: name the right one with {flag}")
    return fields[column]


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)


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
        choices = "True or False" if column == IS_VALID else "train, dev, test or unlabelled"
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
