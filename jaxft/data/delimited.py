"""Rows of CSV and TSV files, whose delimiter and quotation marks are found out where nothing says them.

`jaxft.data.table` reads its files with it.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from jaxft.data.columns import Columns, Quoting
from jaxft.data.files import decompressed, most_bytes, text_lines, too_large_error, within_limit
from jaxft.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
DELIMITER_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
LONGEST_FIELD = 2**31 - 1  # characters; the largest limit that a C long holds on every platform
SAMPLED_LINES = 50
"""lines at the start of a file by which its delimiter is found"""
LONGEST_NAME = 60
"""characters that the name of a column may have before the row is taken for one of texts"""
BACKSLASHED = re.compile(r'"(?:[^"\\]|\\.)*"')
SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
CSV_FORMATS: dict[Quoting, dict[str, Any]] = {
    # strict, because a stray quotation mark would otherwise swallow the rows that follow it
    "doubled": {"strict": True},
    "backslash": {"strict": True, "doublequote": False, "escapechar": "\\"},
    "none": {"quoting": csv.QUOTE_NONE},
}


@dataclass(frozen=True)
class Layout:
    """How a file is written: its delimiter, what quotation marks do, and whether a line sep= comes first."""

    delimiter: str
    quoting: Quoting
    separator_line: bool = False

    def rows(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """The fields of each row.

        Raises:
            csv.Error: a quotation mark in the wrong place.
        """
        if self.delimiter == "\t" and self.quoting == "backslash":
            return ([_unescaped(field) for field in line.rstrip("\r\n").split("\t")] for line in lines)
        return csv.reader(lines, delimiter=self.delimiter, **CSV_FORMATS[self.quoting])


def _unescaped(field: str) -> str:
    """A field with tabs around it; within quotation marks, only those and backslashes are escaped."""
    return re.sub(r'\\(["\\])', r"\1", field[1:-1]) if BACKSLASHED.fullmatch(field) else field


def read_layout(path: Path, suffix: str, columns: Columns) -> Layout:
    """The layout of a file with the suffix .csv or .tsv.

    The delimiter is that of a first line such as `sep=;`, or the one that the suffix stands for, or, where the first
    rows do not have the same number of columns with it, another with which they have. With tabs, quotation marks
    enclose fields where none of the rows is then made of lines that are rows by themselves.

    Raises:
        InputError: the file cannot be read.
    """
    stat = path.stat() if path.exists() else None  # what `decompressed` refuses
    _limit_fields(path)
    version = None if stat is None else (stat.st_mtime_ns, stat.st_size)
    return _found_layout(path, suffix, len(columns.names), columns.quoting, version)


def _limit_fields(path: Path) -> int:
    """Sets the length of the longest field for the whole process; the default is shorter than some reviews' pages."""
    limit = min(most_bytes(path), LONGEST_FIELD)
    csv.field_size_limit(limit)
    return limit


@lru_cache(maxsize=64)
def _found_layout(path: Path, suffix: str, width: int, quoting: Quoting, version: Any) -> Layout:
    """The layout of a version of a file; `width` is the number of its columns, 0 where the header says it."""
    del version  # a part of the key alone
    with decompressed(path) as stream:
        start = list(islice(filter(str.strip, within_limit(text_lines(stream, path), path)), SAMPLED_LINES))
    separator = SEPARATOR_LINE.fullmatch(start[0]) if start else None
    delimiter = separator[1] if separator else _delimiter(start, DELIMITERS[suffix], width)
    if quoting == "auto":
        quoting = _quoting_with_tabs(path, separator is not None) if delimiter == "\t" else "doubled"
    return Layout(delimiter, quoting, separator is not None)


def _delimiter(lines: Sequence[str], usual: str, width: int) -> str:
    """The delimiter of which the rows that begin a file all have the same number, the usual one before others."""

    def is_regular(delimiter: str) -> bool:
        try:
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:  # such as a carriage return within a field
            return False
        widths = {len(row) for row in (rows[:-1] if len(lines) == SAMPLED_LINES else rows)}  # the last may be cut
        return len(widths) == 1 and (widths == {width} if width else widths != {1})

    if width == 1 or not lines:
        return usual
    found = [delimiter for delimiter in (usual, *DELIMITER_NAMES) if is_regular(delimiter)]
    if found:
        return found[0]
    if usual in lines[0]:
        return usual
    return next((delimiter for delimiter in DELIMITER_NAMES if delimiter in lines[0]), usual)


def describe_layout(path: Path, suffix: str, columns: Columns) -> list[str]:
    """What is unusual in the layout of a file, in words; nothing for the usual one of its suffix.

    Raises:
        InputError: the file cannot be read.
    """
    layout = read_layout(path, suffix, columns)
    notes = []
    if layout.delimiter != DELIMITERS[suffix]:
        name = DELIMITER_NAMES.get(layout.delimiter, repr(layout.delimiter))
        notes.append(f"{name} between the columns")
    if columns.quoting == "auto" and layout.delimiter == "\t" and _has_quotation_marks(path):
        means = {
            "doubled": "enclose fields",
            "backslash": "enclose fields, inner ones after a backslash",
            "none": "are characters of the texts",
        }
        notes.append(f"quotation marks {means[layout.quoting]} (--quoting)")
    return notes


def delimited_rows(path: Path, suffix: str, columns: Columns) -> Iterator[tuple[str, dict[str, str]]]:
    """Streams the rows of a file as (where, fields); columns without a name are left out.

    Args:
        path: the file, plain or compressed.
        suffix: .csv or .tsv.
        columns: the names of the columns where the file has no header row, the columns that it must have, and what
            quotation marks do.

    Raises:
        InputError: naming the row: no such column, a repeated column name, a quotation mark in the wrong place, or more
            or fewer fields than the header has.
    """
    layout = read_layout(path, suffix, columns)
    header: Sequence[str] = columns.names
    with decompressed(path) as stream:
        lines = text_lines(stream, path)
        if layout.separator_line:
            next(filter(str.strip, lines))
        for where, values in _numbered(layout, lines, path):
            if not header and not any(map(str.strip, values)):
                continue  # blank lines above the header
            if not header:
                header = _checked_header([name.strip() for name in values], columns, path)
                continue
            if tuple(name.strip() for name in values) == columns.names:
                raise InputError(f"{where} holds the names that --columns gives: leave --columns out")
            if not _fits(values, header):
                raise _ragged(where, values, header, layout, columns)
            yield where, {name: value for name, value in zip(header, values, strict=False) if name}


def _numbered(layout: Layout, lines: Iterator[str], path: Path) -> Iterator[tuple[str, list[str]]]:
    """The rows that are not blank, each with its place."""
    reader, number, limit = layout.rows(lines), 0, _limit_fields(path)
    while True:
        number += 1
        where = f"{path}, row {number}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            if "field limit" in str(error):
                raise too_large_error(where, limit) from error
            if "new-line" in str(error):
                raise InputError(
                    f"{where} has a carriage return within a field: remove it, or quote the whole field"
                ) from error
            raise InputError(
                f"{where} has a quotation mark in the wrong place: enclose whole texts in quotation marks and double "
                "those in them, as csv.writer does, or give --quoting backslash or --quoting none"
            ) from error
        if values is None:
            return
        if values:
            yield where, values


def _checked_header(header: list[str], columns: Columns, path: Path) -> list[str]:
    named = [name for name in header if name]
    needed = columns.texts
    if columns.label is not None and columns.split not in header and not columns.labels:
        needed = [*needed, (columns.label, "--label-column")]
    for column, flag in needed:
        if column in header:
            continue
        listed = f"{path} has no column {column!r} in its first row, only {listed_names(named)}"
        if any(len(name) > LONGEST_NAME or _is_number(name) for name in named):
            raise InputError(
                f"{listed}, which looks like no header: name all columns with --columns, such as --columns "
                f"label,title,text, or the right one with {flag}"
            )
        raise InputError(
            f"{listed}: name the right one with {flag}, or all columns with --columns where that row is no header"
        )
    if len(set(named)) < len(named):
        raise InputError(f"{path}, row 1 repeats a column name ({listed_names(named)}): rename one")
    return header


def _fits(values: Sequence[str], header: Sequence[str]) -> bool:
    """Whether a row has a value for each column; values and columns without a name or content may be left out."""
    return not any(header[len(values) :]) and not any(values[len(header) :])


def _ragged(where: str, values: Sequence[str], header: Sequence[str], layout: Layout, columns: Columns) -> InputError:
    counted = f"{len(values)} field{'s' * (len(values) != 1)}"
    if columns.names:
        return InputError(f"{where} has {counted} and --columns names {len(header)}: name every column")
    remedy = "fill in the rest" if len(values) < len(header) else "quote texts that hold the delimiter"
    if layout.delimiter == "\t" and layout.quoting == "none":
        remedy = "replace tabs and line ends in texts by spaces, or quote all such texts and give --quoting doubled"
    return InputError(f"{where} has {counted} and the header has {len(header)}: {remedy}")


def listed_names(names: Iterable[str], most: int = 8) -> str:
    """Names of columns for a message: the first ones, each cut where it is long.

    Examples:
        >>> listed_names(["v1", "v2"]), listed_names("abc", most=2)
        ("'v1', 'v2'", "'a', 'b' and 1 more")
    """
    names = list(names)
    shown = ", ".join(repr(name if len(name) <= 40 else f"{name[:37]}...") for name in names[:most])
    return shown + f" and {len(names) - most} more" * (len(names) > most)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _lines(path: Path, skip_first: bool) -> Iterator[str]:
    with decompressed(path) as stream:
        lines = text_lines(stream, path)
        if skip_first:
            next(lines)
        yield from lines


def _starts_with_mark(line: str) -> bool:
    return line.startswith('"') or '\t"' in line


def _has_quotation_marks(path: Path) -> bool:
    return any(map(_starts_with_mark, _lines(path, False)))


def _quoting_with_tabs(path: Path, skip_first: bool) -> Quoting:
    """What quotation marks do in a file with tabs: they enclose fields only where all of them do."""
    if not _has_quotation_marks(path):
        return "none"
    if _enclose_fields(_lines(path, skip_first)):
        return "doubled"
    width = None
    for line in filter(str.strip, _lines(path, skip_first)):
        fields = line.rstrip("\r\n").split("\t")
        width = width or len(fields)
        if len(fields) != width or not all(map(_is_backslashed, fields)):
            return "none"
    return "backslash"


def _is_backslashed(field: str) -> bool:
    return not field.startswith('"') or BACKSLASHED.fullmatch(field) is not None


def _enclose_fields(lines: Iterator[str]) -> bool:
    """Whether quotation marks enclose the fields of lines with tabs, and so whether none of them merges rows.

    The first and the last line of merged rows have the tabs of a row, and in a file of one column every line is one.
    """
    record: list[str] = []
    width = None
    try:
        for values in Layout("\t", "doubled").rows(_recorded(lines, record)):
            width = width or len(values)
            tabs = {record[0].count("\t"), record[-1].count("\t")}
            if len(record) > 1 and (width == 1 or tabs == {width - 1}):
                return False
            record.clear()
    except csv.Error:
        return False
    return True


def _recorded(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """The lines, each of which is also appended to `record`."""
    for line in lines:
        record.append(line)
        yield line
