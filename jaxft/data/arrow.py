"""Rows of Parquet and Arrow files, by pyarrow, which is installed with `pip install 'jaxft[arrow]'`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    if not path.is_file():
        raise InputError(f"{path} does not exist: check the path")
    row = 0
    try:
        for batch in _batches(path):
            for fields in batch.to_pylist():
                row += 1
                yield f"{path}, row {row}", fields
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} is no {path.suffix} file, or a damaged one: write it again") from error


def _batches(path: Path) -> Iterator[Any]:
    """The record batches of a file; Arrow has one format for files and one for streams, with the same suffix."""
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    if path.suffix.lower() == ".parquet":
        yield from pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=ROWS_AT_ONCE)
        return
    with pyarrow.memory_map(str(path)) as source:
        try:
            reader = pyarrow.ipc.open_file(source)
        except pyarrow.ArrowInvalid:
            yield from pyarrow.ipc.open_stream(source)
        else:
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
