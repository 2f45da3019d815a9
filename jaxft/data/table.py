"""Documents from a table: CSV, TSV or JSON lines, plain or compressed, with a text, a label and perhaps a split per
row. Called by `open_corpus` for training data and by `python -m jaxft.predict --input`, which needs `rows` alone.

Rows are counted as a spreadsheet shows them: the header is row 1, and a quoted text with line breaks is one row.
"""

import csv
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from jaxft.data.document import Document, Split
from jaxft.data.files import COMPRESSION_SUFFIXES, decompressed, text_lines
from jaxft.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLE_SUFFIXES = (*DELIMITERS, ".jsonl")
TEST_EVERY = 5  # without a split column, one labelled row in five is test
SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell these, UTF-8 cannot
LONGEST_FIELD = 2**31 - 1  # characters; the largest limit that a C long holds on every platform


def table_suffix(path: Path) -> str:
    """The suffix that tells the format, without that of the compression.

    Examples:
        >>> table_suffix(Path("reviews.CSV.gz"))
        '.csv'
    """
    name = path.name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        name = name.removesuffix(suffix)
    return Path(name).suffix


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Streams the rows of a table as (where, fields): `where` names file and row, for error messages.

    Raises:
        InputError: another suffix, an unreadable file, not UTF-8, a ragged row, a repeated column name, a line that is
            no JSON object.
    """
    if table_suffix(path) not in TABLE_SUFFIXES:
        raise InputError(
            f"{path} has an unknown suffix; tables are .csv, .tsv and .jsonl, plain or as .gz, .xz or .bz2"
        )
    with decompressed(path) as stream:
        yield from _json_rows(path, stream) if table_suffix(path) == ".jsonl" else _csv_rows(path, stream)


def text_field(fields: dict[str, Any], column: str, flag: str, where: str) -> str:
    """The text of one row; `flag` is what names its column.

    Raises:
        InputError: no such column, or a text that is empty or no string.
    """
    text = _field(fields, column, flag, where)
    if not isinstance(text, str):
        raise InputError(f"{where}: {column!r} holds {json.dumps(text)} where a text is needed; write it as a string")
    if not text.strip():
        raise InputError(f"{where}: the text is empty; remove the row or fill in {column!r}")
    if SURROGATE.search(text):
        raise InputError(f"{where}: half a surrogate pair in {column!r}; write the character whole")
    return text


def read_table(path: Path, text_column: str, label_column: str, split_column: str, seed: int = 0) -> Iterator[Document]:
    """Streams a table's documents in the order of its rows.

    With a split column each row says train, test or unlabelled, and labels of unlabelled rows are ignored. Without one,
    rows with an empty label are unlabelled, and of every five rows of a class one, at a place drawn from `seed`, is
    test: a stratified 20 % that needs no second pass. The first row of each class is always train.

    Raises:
        InputError: at the first bad row; see `rows` and `text_field`, and also an unknown split or a missing label.
    """
    has_split = None
    seen: dict[str, int] = {}  # rows so far of each class
    for where, fields in rows(path):
        if has_split is None:
            # the default name may be absent; a name that was asked for may not
            has_split = split_column in fields or split_column != "split"
        text = text_field(fields, text_column, "--text-column", where)
        if has_split:
            split = _split(_field(fields, split_column, "--split-column", where), where)
            if split == "unlabelled":
                yield Document(text, None, split)
                continue
        else:
            split = None
        label = _label(_field(fields, label_column, "--label-column", where), label_column, where)
        if split is None:
            split = "unlabelled" if label is None else _carved_split(label, seen, seed)
        elif label is None:
            raise InputError(
                f"{where}: a {split} row without a label; fill in {label_column!r} or set the split to unlabelled"
            )
        yield Document(text, label, split)
    if has_split is None:
        raise InputError(f"{path} holds no rows; name a file with documents in it")


def _csv_rows(path: Path, stream: BinaryIO) -> Iterator[tuple[str, dict[str, Any]]]:
    # one limit for the whole process, and the default of 131,072 characters is shorter than some reviews' pages
    csv.field_size_limit(LONGEST_FIELD)
    # strict, since a stray quote would otherwise swallow the rows that follow it
    delimiter = DELIMITERS[table_suffix(path)]
    reader = csv.reader(text_lines(stream, path), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    for number in itertools.count(1):
        where = f"{path}, row {number}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{where}: {error}; quote texts as csv.writer does, with inner quotes doubled") from error
        if values is None:
            break
        if not values:  # a blank line
            continue
        if header is None:
            header = [name.strip() for name in values]
            if len(set(header)) < len(header):
                raise InputError(f"{where}: a column name comes twice ({_listed(header)}); rename one")
            continue
        if len(values) != len(header):
            remedy = "quote texts that hold the delimiter" if len(values) > len(header) else "fill in the rest"
            if len(header) == 1:
                remedy = f"separate the columns by {delimiter!r}, which the header {header[0]!r} does not hold"
            counted = f"{len(values)} field{'s' * (len(values) != 1)}"
            raise InputError(f"{where}: {counted} where the header has {len(header)}; {remedy}")
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
            raise InputError(f"{where}: not valid JSON ({reason}); write one object per line") from error
        if not isinstance(fields, dict):
            raise InputError(f"{where}: no JSON object; write one object with a text and a label per line")
        yield where, cast(dict[str, Any], fields)


def _field(fields: dict[str, Any], column: str, flag: str, where: str) -> Any:
    if column not in fields:
        raise InputError(f"{where}: no column {column!r}, only {_listed(fields)}; name the right one with {flag}")
    return fields[column]


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)


def _split(value: Any, where: str) -> Split:
    name = str(value).strip().lower().replace("unlabeled", "unlabelled")
    if name not in ("train", "test", "unlabelled"):
        raise InputError(f"{where}: unknown split {value!r}; use train, test or unlabelled")
    return cast(Split, name)


def _label(value: Any, column: str, where: str) -> str | None:
    if isinstance(value, dict | list):
        raise InputError(f"{where}: {column!r} holds {json.dumps(value)}; give one label per row")
    label = "" if value is None else str(value).strip()
    return label or None


def _carved_split(label: str, seen: dict[str, int], seed: int) -> Split:
    block, place = divmod(seen.get(label, 0), TEST_EVERY)
    seen[label] = seen.get(label, 0) + 1
    draw = hashlib.sha256(f"{seed} {block} {label}".encode()).digest()[0]
    # never the first row of a class, so that no class is in test alone
    test_place = 1 + draw % (TEST_EVERY - 1) if block == 0 else draw % TEST_EVERY
    return "test" if place == test_place else "train"
