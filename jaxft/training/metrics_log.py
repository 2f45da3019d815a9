"""The metrics of a run: `RUN/metrics.jsonl`, a JSON object per line, appended during the run."""

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jaxft.base.files import require_file, to_json, writing
from jaxft.errors import InputError


class MetricsLog:
    """The metrics of a run, appended to a file as one JSON object per line, each with `stage` and `step`.

    Every line is handed to the operating system at once, so that another program can follow the file and a killed run
    loses nothing that it reported. A checkpoint remembers `size()`; on resume `truncate_metrics` cuts off what was
    written after it, half a line included, and except for times and devices the log of a resumed run is that of an
    uninterrupted one.

    Args:
        path: the file, `RUN/metrics.jsonl`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as run:
        ...     path = f"{run}/metrics.jsonl"
        ...     with MetricsLog(path) as log:
        ...         log.write("lm", 100, loss=4.5)
        ...         kept = log.size()
        ...         log.write("lm", 200, loss=4.25)
        ...     truncate_metrics(path, kept)
        ...     with MetricsLog(path) as log:
        ...         log.write("lm", 200, loss=4.0)
        ...     read_metrics(path)
        [{'stage': 'lm', 'step': 100, 'loss': 4.5}, {'stage': 'lm', 'step': 200, 'loss': 4.0}]
    """

    def __init__(self, path: str | os.PathLike[str]):
        require_file(path)
        self._path = path
        with writing(path):
            self._file = open(path, "a", encoding="utf-8", newline="\n")  # noqa: SIM115 (closed by __exit__)

    def write(self, stage: str, step: int, **values: Any) -> None:
        """Appends one line; the values are scalars, strings, or small dictionaries of them.

        Raises:
            InputError: the disk is full.
        """
        line = to_json({"stage": stage, "step": int(step), **values})
        with writing(self._path):
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()

    def size(self) -> int:
        """The length of the log in bytes, on the disk when this returns: what a checkpoint has to remember."""
        with writing(self._path):
            os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):  # of a line that `write` could not write either
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def truncate_metrics(path: str | os.PathLike[str], keep_bytes: int) -> None:
    """Cuts the log at `path` back to its first `keep_bytes` bytes; a missing log counts as empty.

    Raises:
        InputError: the log is shorter than that.
    """
    path = Path(path)
    size = path.stat().st_size if path.exists() else 0
    if size < keep_bytes:
        raise InputError(
            f"{path} has {size} bytes where its checkpoint has seen {keep_bytes}: put back the whole folder of the run"
        )
    if size > keep_bytes:
        os.truncate(path, keep_bytes)


def lines_after(path: str | os.PathLike[str], size: int) -> int:
    """The number of whole lines of a log after its first `size` bytes; 0 where there is no log."""
    path = Path(path)
    require_file(path)
    return path.read_bytes()[size:].count(b"\n") if path.exists() else 0


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every line of a metrics log; a half-written last line, as a killed run may leave it, is passed over.

    Raises:
        InputError: the file is missing, or a line before the last is not JSON.
    """
    path = Path(path)
    require_file(path)
    if not path.exists():
        raise InputError(f"there is no metrics log {path}: name the folder of a run")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    metrics = []
    for number, line in enumerate(lines[:-1], start=1):  # every whole line ends with a newline
        try:
            metrics.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} line {number} is not JSON: remove that line") from error
    return metrics
