"""Rows of JSON files: an object on each line, or one list of objects."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, cast

from jaxft.data.files import decompressed, text_lines, within_limit
from jaxft.errors import InputError


def json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Streams the objects of a file as (where, fields); `where` names the file and the line, or the place in the list.

    Raises:
        InputError: the file cannot be read, is not JSON, or holds something else than objects.
    """
    with decompressed(path) as stream:
        lines = text_lines(stream, path)
        start, first = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), (1, ""))
        if first.lstrip().startswith("["):
            yield from _listed(path, start, "".join(within_limit(chain([first], lines), path)))
            return
        for number, line in enumerate(chain([first], lines), start):
            where = f"{path}, line {number}"
            if line.strip():
                yield where, _object(_parsed(line, where, "write one object per line"), where)


def _listed(path: Path, line: int, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    remedy = "write one object per line, or one list of objects"
    for number, item in enumerate(_parsed(content, f"{path}, line {line}", remedy), 1):
        where = f"{path}, item {number}"
        yield where, _object(item, where)


def _parsed(content: str, where: str, remedy: str) -> Any:
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        later = f" from line {error.lineno} of it, character {error.colno} on" if "\n" in content.rstrip() else ""
        place = later or f" from character {error.pos + 1} on"
        raise InputError(f"{where} is not valid JSON{place}: {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON: {remedy}") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is not a JSON object: write one object with a text and a label per line")
    return cast(dict[str, Any], value)
