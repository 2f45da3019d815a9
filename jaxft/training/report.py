"""What a run writes while it runs: its folder, metrics log and progress bars.

Every job calls this module, and nothing here knows a model, a data set or an optimizer: metrics are plain dictionaries,
so that classification, regression and tagging share one log and one folder. A run folder holds `config.json` (every
resolved setting), `metrics.jsonl` (a line per report), `summary.json` (the result, see `jaxft.training.summary`) and `plots/`
(see `jaxft.training.plots`).
"""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from tqdm import tqdm

from jaxft.errors import InputError

SHARES = ("precision", "recall", "f1")
"""last words of the names of scores that are told in per cent, as accuracy is"""


def create_run_folder(path: str | os.PathLike[str], resume: bool = False) -> Path:
    """Makes the folder of a run, refusing to mix a new run with what is already there.

    Args:
        path: the folder; parents are made as needed.
        resume: True where the folder must already hold a run, with its `config.json`, or one that had only begun.

    Raises:
        InputError: the folder cannot be written, is not empty (unless resuming), or holds no run (when resuming).

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     run = create_run_folder(f"{parent}/run")
        ...     write_json(run / "config.json", {"seed": 0})
        ...     create_run_folder(run)
        Traceback (most recent call last):
        jaxft.errors.InputError: ... holds a run: continue it with --resume, or name another folder with --out
    """
    path = Path(path)
    try:
        holds_run = (path / "config.json").is_file()
        # A run that was stopped while it read its texts has left an empty folder.
        begun = path.is_dir() and is_empty(path)
        if resume and not holds_run and not begun:
            raise InputError(f"{path} holds no run to continue: leave out --resume, or name its folder with --out")
        path.mkdir(parents=True, exist_ok=True)
        if not resume and holds_run:
            raise InputError(f"{path} holds a run: continue it with --resume, or name another folder with --out")
        if not resume and not is_empty(path):
            raise InputError(f"{path} is not empty and holds no run to --resume: name another folder with --out")
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {path} ({error.strerror}): name a writable folder with --out") from error
    return path


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but hidden files: a file manager's, or those of a run killed as it began."""
    return all(entry.name.startswith(".") for entry in folder.iterdir())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as readable JSON, so that a crash leaves the old file or the new one, never half of one.

    Besides what JSON knows it takes NumPy and JAX scalars and arrays, paths, dataclasses and tuples; a number that is
    not finite becomes null, which is all that JSON has for it.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    write_text(path, json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text, so that a crash leaves the old file or the new one, never half of one.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        remedy = "free some space or name a writable folder"
        raise InputError(f"cannot write {path} ({error.strerror}): {remedy}") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file of a run.

    Raises:
        InputError: there is no such file, or it does not parse.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): check the path of the run") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): put back an intact copy, or start the run again") from error


def to_json(value: Any) -> Any:
    """The same value in what JSON knows; see `write_json`.

    Examples:
        >>> to_json({"loss": np.float32(0.5), "best": float("inf"), "out": Path("runs/a")})
        {'loss': 0.5, 'best': None, 'out': 'runs/a'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


class MetricsLog:
    """The metrics of a run, appended to a file as one JSON object per line, each with `stage` and `step`.

    Every line is handed to the operating system at once, so that another program can follow the file and a killed run
    loses nothing that it reported. A checkpoint remembers `size()`; on resume `truncate_metrics` cuts off what was
    written after it, half a line included, and the log of a resumed run is that of an uninterrupted one, times apart.

    Args:
        path: the file, `RUN/metrics.jsonl`.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as run:
        ...     path = f"{run}/metrics.jsonl"
        ...     with MetricsLog(path) as log:
        ...         log.write("lm", 100, loss=np.float32(4.5))
        ...         kept = log.size()
        ...         log.write("lm", 200, loss=4.25)
        ...     truncate_metrics(path, kept)
        ...     with MetricsLog(path) as log:
        ...         log.write("lm", 200, loss=4.0)
        ...     read_metrics(path)
        [{'stage': 'lm', 'step': 100, 'loss': 4.5}, {'stage': 'lm', 'step': 200, 'loss': 4.0}]
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._file = open(path, "a", encoding="utf-8", newline="\n")  # noqa: SIM115 (closed by __exit__)

    def write(self, stage: str, step: int, **values: Any) -> None:
        """Appends one line; the values are scalars, strings, or small dictionaries of them."""
        line = to_json({"stage": stage, "step": int(step), **values})
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def size(self) -> int:
        """The length of the log in bytes, on the disk when this returns: what a checkpoint has to remember."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Closes the file."""
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


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every line of a metrics log; a half-written last line, as a killed run may leave it, is passed over.

    Raises:
        InputError: the file is missing, or a line before the last is not JSON.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"there is no metrics log {path}: name the folder of a run")
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    metrics = []
    for number, line in enumerate(lines[:-1], start=1):  # every whole line ends with a newline
        try:
            metrics.append(json.loads(line))
        except ValueError as error:
            raise InputError(f"{path} line {number} is not JSON: remove that line") from error
    return metrics


def progress_bar(stage: str, total: int, initial: int = 0, unit: str = "step") -> tqdm:
    """A progress bar on standard error: redrawn in a terminal, a plain line now and then in a file or a CI log.

    Call `bar.update()` per step and `show` for the numbers beside it; use it as a context manager.

    Args:
        stage: the name at its left.
        total: steps in the whole stage, those before a resume included.
        initial: steps already done, on resume.
        unit: what is counted.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=stage,
        unit=unit,
        file=sys.stderr if terminal else _Lines(),
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 15.0,
        maxinterval=10.0 if terminal else 60.0,
        bar_format=None if terminal else "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed}<{remaining}{postfix}",
    )


def show(bar: tqdm, **values: float | str) -> None:
    """Puts numbers beside a bar, to be drawn at its next turn.

    Examples:
        >>> with progress_bar("classifier", total=10) as bar:
        ...     show(bar, loss=0.123456, lr=0.00004, tokens_per_s=51234.6)
        ...     bar.postfix
        'loss=0.1235, lr=4e-05, tokens_per_s=51,235'
    """
    texts = (f"{name}={value if isinstance(value, str) else format_number(value)}" for name, value in values.items())
    bar.set_postfix_str(", ".join(texts), refresh=False)


def format_number(value: float) -> str:
    """Four significant digits, and grouped thousands for whole numbers and from 10,000.

    Examples:
        >>> print(format_number(0.123456), format_number(51234.6), format_number(2500))
        0.1235 51,235 2,500
    """
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1e4 else f"{value:.4g}"


class _Lines:
    """Standard error for a bar outside a terminal: each drawing is a line of its own, and none is repeated."""

    def __init__(self) -> None:
        self.last = ""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line and line != self.last:
            self.last = line
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()
