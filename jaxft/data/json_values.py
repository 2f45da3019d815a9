"""The values of a JSON file: one value per line, one list, or an object that holds a list."""

import json
from pathlib import Path
from typing import Any

from jaxft.data.document import SPLIT_NAMES
from jaxft.data.files import decompressed, first_line, text_lines, within_limit
from jaxft.errors import InputError

LIST_KEYS = ("data", "annotations", "examples", "rows")
"""names under which an object holds the list of its examples"""

Values = list[tuple[str, Any]]
"""the place of each value, for messages, and the value"""


def first_value(path: Path) -> Any:
    """The first value of a file; None if it is not JSON.

    Raises:
        InputError: the file cannot be read.
    """
    first = first_line(path).strip()
    if first[:1] not in (b"[", b"{"):
        return None
    try:
        values = (
            json_values(path) if first[:1] == b"[" or not first.endswith(b"}") else _expanded("", json.loads(first))
        )
    except (InputError, ValueError, RecursionError):
        return None
    return values[0][1] if values else None


def is_one_per_line(path: Path) -> bool:
    """Whether the first line of a file is an object of its own.

    Raises:
        InputError: the file cannot be read.
    """
    first = first_line(path).strip()
    return first.startswith(b"{") and first.endswith(b"}")


def json_values(path: Path) -> Values:
    """The values of a file; an object that names splits, as in {"train": [...]}, gives each of its rows a `split`.

    Raises:
        InputError: the file cannot be read, or is neither JSON nor JSON lines.
    """
    with decompressed(path) as stream:
        lines = list(within_limit(text_lines(stream, path), path))
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    try:
        first = json.loads(numbered[0][1]) if numbered else None
    except (ValueError, RecursionError):
        return _whole(path, "".join(lines))
    if len(numbered) == 1:
        return _expanded(f"{path}, line {numbered[0][0]}", first, f"{path}, item")
    values = []
    for number, line in numbered:
        where = f"{path}, line {number}"
        try:
            values.append((where, json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where} is not valid JSON{_reason(error)}: write one value per line, or one list"
            ) from error
    return values


def _whole(path: Path, text: str) -> Values:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise InputError(
            f"{path}, line {line} is not valid JSON{_reason(error)}: write one value per line, or one list"
        ) from error
    return _expanded(str(path), value, f"{path}, item")


def _expanded(where: str, value: Any, item: str = "") -> Values:
    """The examples of a list or of an object that holds one; else the value itself."""
    if isinstance(value, dict) and value:
        if all(str(name).lower() in SPLIT_NAMES and isinstance(rows, list) for name, rows in value.items()):
            return [
                (f"{item} {number} of {split}", {"split": split, **row} if isinstance(row, dict) else row)
                for split, rows in value.items()
                for number, row in enumerate(rows, 1)
            ]
        name = next((name for name in LIST_KEYS if _is_list_of_examples(value.get(name))), None)
        if name is not None and not isinstance(value.get("text"), str) and not isinstance(value.get("data"), dict):
            value = value[name]
    if isinstance(value, dict) and _is_columns(value):
        return [
            (f"{item} {number}", dict(zip(value, row, strict=True)))
            for number, row in enumerate(zip(*value.values(), strict=True), 1)
        ]
    if isinstance(value, list) and not _is_pair(value):
        return [(f"{item} {number}", one) for number, one in enumerate(value, 1) if one is not None]
    return [(where, value)]


def _is_list_of_examples(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict | list) for one in value)


def _is_columns(value: dict[str, Any]) -> bool:
    """Whether an object holds columns of lists, as in {"tokens": [["Ada"], ["Ivo"]], "tags": ...}."""
    columns = list(value.values())
    if not all(isinstance(column, list) and column for column in columns) or len(set(map(len, columns))) != 1:
        return False
    return any(isinstance(item, list) for column in columns for item in column)


def _is_pair(value: list[Any]) -> bool:
    """Whether a list is a text with its annotations, as in spaCy's training data."""
    return len(value) >= 2 and isinstance(value[0], str) and isinstance(value[1], dict | list)


def _reason(error: Exception) -> str:
    """Where or why a line is not valid JSON, as the end of a clause."""
    if isinstance(error, json.JSONDecodeError):
        return f" from character {error.colno} on"
    return ", as it is nested too deeply" if isinstance(error, RecursionError) else ", as a number is too long"
