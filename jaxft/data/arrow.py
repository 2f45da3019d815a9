"""Rows of Parquet and Arrow files, by pyarrow, which is installed with `pip install 'jaxft[arrow]'`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxft.base.files import require_file
from jaxft.data.files import most_bytes, too_large_error
from jaxft.errors import InputError

ARROW_SUFFIXES = (".parquet", ".arrow", ".feather")
ROWS_AT_ONCE = 1024


def arrow_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Streams the rows of a file as (where, fields), as `jaxft.data.table.rows` does.

    Raises:
        InputError: pyarrow is not installed, or the file cannot be read.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise InputError(f"{path} needs pyarrow: install it with pip install 'jaxft[arrow]'") from error
    require_file(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path")
    row = 0
    try:
        for batch in _batches(path):
            for fields in batch.to_pylist():
                row += 1
                yield f"{path}, row {row}", fields
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} is no {path.suffix} file, or a damaged one: write it again") from error


def class_names(path: Path) -> dict[str, list[str]]:
    """The names of the classes in each column of numbers, which `datasets` keeps in the schema of its files.

    A column of lists has the names of its items.
    """
    if path.suffix.lower() not in ARROW_SUFFIXES:
        return {}
    metadata = next((batch.schema.metadata for batch in _batches(path)), None) or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        found = {name: _class_names(feature) for name, feature in features.items()}
    except (KeyError, TypeError, ValueError):
        return {}
    return {name: names for name, names in found.items() if names}


def _class_names(feature: Any) -> list[str]:
    if isinstance(feature, list) and len(feature) == 1:
        return _class_names(feature[0])
    if not isinstance(feature, Mapping):
        return []
    return list(feature.get("names") or []) or _class_names(feature.get("feature"))


def _batches(path: Path) -> Iterator[Any]:
    """The record batches of a file, each checked: pyarrow reads the values of a damaged one from anywhere in memory.

    Raises:
        InputError: a batch is too large for the file.
        pyarrow.ArrowException: the file is damaged.
    """
    row, limit = 0, most_bytes(path)
    for batch in _unchecked_batches(path):
        batch.validate(full=True)
        if batch.nbytes > limit:
            raise too_large_error(f"{path}, from row {row + 1} on,", limit)
        row += batch.num_rows
        yield batch


def _unchecked_batches(path: Path) -> Iterator[Any]:
    """The record batches of a file; Arrow has one format for files and one for streams, with the same suffix."""
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    if path.suffix.lower() == ".parquet":
        try:
            file = pyarrow.parquet.ParquetFile(path)
        except UnicodeDecodeError as error:  # in the name of a column
            raise pyarrow.ArrowInvalid(str(error)) from error
        yield from file.iter_batches(batch_size=ROWS_AT_ONCE)
        return
    with pyarrow.memory_map(str(path)) as source:
        try:
            reader = pyarrow.ipc.open_file(source)
        except pyarrow.ArrowInvalid:
            yield from pyarrow.ipc.open_stream(source)
        else:
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
