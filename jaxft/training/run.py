"""An open run folder: metrics log, checkpoint of the current stage, finished stages, and requests to stop.

A folder holds the last checkpoints, and one parameter file per finished stage.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import jax

from jaxft.base.tensor_files import load_params, read_meta, save_params
from jaxft.errors import Stopped
from jaxft.training import checkpoint
from jaxft.training.metrics_log import MetricsLog, lines_after, truncate_metrics
from jaxft.training.processes import is_first, meet
from jaxft.training.trackers import Sink, tracked_numbers

CHECKPOINT = "checkpoint.safetensors"
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Windows has no SIGHUP, which a terminal that closes sends"""


@dataclass(frozen=True)
class StageResult:
    """What a finished stage hands on: parameters, what lives beside them, and what is reported of it."""

    params: Any
    carry: Any
    report: dict[str, Any]


def read_stage(folder: Path, stage: str) -> StageResult | None:
    """The result of a finished stage of the run in `folder`, None where it has not finished."""
    path = _stage_file(folder, stage)
    if not path.exists():
        return None
    tree = load_params(path)
    return StageResult(tree.get("params", {}), tree.get("carry", {}), read_meta(path)["report"])


def _stage_file(folder: Path, stage: str) -> Path:
    return folder / f"stage-{stage}.safetensors"


def _drop_damaged(path: Path) -> None:
    """Gives the newest whole checkpoint the name of the newest, where that one is damaged or missing, and says so.

    Raises:
        InputError: all checkpoints are damaged.
    """
    whole, damaged = checkpoint.newest_whole(path)
    if whole is None or whole == path:
        return
    names = ", ".join(file.name for file in damaged)
    if names:
        print(f"jaxft: {names} in {path.parent} is damaged, so the run goes on from {whole.name}", file=sys.stderr)
    whole.replace(path)


class Run:
    """A run folder in use: its metrics log, its checkpoint and its finished stages.

    Args:
        folder: an existing folder; None keeps nothing and logs nothing, for use from a notebook.
        log_every: steps between two lines of the log.
        checkpoint_seconds: seconds between two checkpoints.
        keep_checkpoints: how many checkpoints to keep.
        trackers: what also takes the metrics.

    Examples:
        >>> with Run(None) as run:
        ...     run.write("stage", 0, loss=1.0)
        ...     run.position("stage"), run.finished("stage")
        ({}, None)
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        log_every: int = 20,
        checkpoint_seconds: float = 120.0,
        keep_checkpoints: int = 2,
        trackers: Sequence[Sink] = (),
    ):
        self.folder, self.log_every, self.checkpoint_seconds = folder, log_every, checkpoint_seconds
        self._keep = keep_checkpoints
        self._trackers, self._tracked = trackers, 0
        self._stop: str | None = None
        self._agreed = (False, False)
        self._saved_at, self._saves = time.monotonic(), 0
        self._log: MetricsLog | None = None
        if folder is not None:
            _drop_damaged(folder / CHECKPOINT)
            path = folder / "metrics.jsonl"
            kept = max(self._position().get("log_bytes", 0), self._finished_bytes())
            self._tracked = lines_after(path, kept)  # these come again, and the trackers have them
            truncate_metrics(path, kept)
            self._log = MetricsLog(path)

    @property
    def _checkpoint(self) -> Path | None:
        return None if self.folder is None else self.folder / CHECKPOINT

    def _position(self) -> dict[str, Any]:
        path = self._checkpoint
        return read_meta(path) if path is not None and path.exists() else {}

    def _finished_bytes(self) -> int:
        """Size of the log when the last stage finished, 0 before the first did."""
        assert self.folder is not None
        files = self.folder.glob(_stage_file(self.folder, "*").name)
        return max((read_meta(file)["log_bytes"] for file in files), default=0)

    def finished(self, stage: str) -> StageResult | None:
        """The result of a stage that an earlier part of this run completed, else None."""
        if self.folder is None:
            return None
        result = read_stage(self.folder, stage)
        if result is not None and self.position(stage):  # the run was killed before it had dropped them
            self._drop_checkpoints()
        return result

    def run_once(self, stage: str, train: Callable[[], StageResult]) -> StageResult:
        """The result of a stage: the stored one, or what `train` makes now, which is then stored."""
        result = self.finished(stage)
        if result is None:
            result = train()
            self.finish({stage: result})
        return result

    def finish(self, results: Mapping[str, StageResult]) -> None:
        """Stores the results of stages by their names, then drops the checkpoints that they came from."""
        if self.folder is None or self._checkpoint is None:
            return
        for stage, result in results.items() if is_first() else ():
            meta = {"report": result.report, "log_bytes": self._log_bytes()}
            tree = {"params": result.params, "carry": result.carry} if result.carry else {"params": result.params}
            save_params(_stage_file(self.folder, stage), tree, meta)
        self._drop_checkpoints()

    def _drop_checkpoints(self) -> None:
        assert self._checkpoint is not None
        for path in reversed(checkpoint.stored_checkpoints(self._checkpoint)):  # a kill in between leaves the newest
            path.unlink()

    def position(self, stage: str) -> dict[str, Any]:
        """What the checkpoint says of how far `stage` has got; empty where there is no checkpoint of it."""
        position = self._position()
        return position if position.get("stage") == stage else {}

    def restore(self, template: Any) -> Any:
        """The tree in the checkpoint."""
        assert self._checkpoint is not None
        return checkpoint.restore(self._checkpoint, template)[0]

    def save(self, tree: Any, position: Mapping[str, Any]) -> None:
        """Writes the checkpoint; of several processes the first does."""
        if self._checkpoint is not None and is_first():
            checkpoint.rotate(self._checkpoint, self._keep)
            checkpoint.save(self._checkpoint, tree, {**position, "log_bytes": self._log_bytes()})
        meet()
        self._saved_at, self._saves = time.monotonic(), self._saves + 1
        self._agreed = (self._agreed[0], False)

    def write(self, stage: str, step: int, **values: Any) -> None:
        """Adds a line to the metrics log."""
        if self._log is not None:
            self._log.write(stage, step, **values)
        if self._tracked:
            self._tracked -= 1
            return
        for tracker in self._trackers:
            tracker.write(tracked_numbers(stage, values), step)

    @property
    def is_tracked(self) -> bool:
        """Whether trackers take what the run writes."""
        return bool(self._trackers)

    def write_text(self, stage: str, step: int, name: str, text: str) -> None:
        """Hands a text to the trackers; the metrics log has no place for it."""
        for tracker in self._trackers:
            tracker.write_texts({f"{stage}/{name}": text}, step)

    def _log_bytes(self) -> int:
        return 0 if self._log is None else self._log.size()

    def wishes(self) -> tuple[bool, int]:
        """Whether this process is asked to stop, and the number of the checkpoint that it is time for, else 0."""
        is_time = time.monotonic() - self._saved_at > self.checkpoint_seconds
        return self._stop is not None, (self._saves + 1) * is_time

    def agree(self, stop: bool, save: int) -> None:
        """Takes the wishes of all processes, where there are several, in place of its own.

        They may have been asked before the last checkpoint was written, which is then not written again.
        """
        self._agreed = (stop, save > self._saves)
        if stop and self._stop is None:
            self._stop = "a signal to another process"

    def pausing(self) -> bool:
        """Whether it is time for a checkpoint, because time has passed or the run is asked to stop."""
        return any(self._decided())

    def _decided(self) -> tuple[bool, bool]:
        stop, save = self.wishes()
        return (stop, bool(save)) if jax.process_count() == 1 else self._agreed

    def stop_if_asked(self) -> None:
        """Raises `Stopped` once Ctrl-C or SIGTERM has come; the checkpoint has just been written."""
        if self._decided()[0]:
            keeps = self.folder is not None and is_first()
            kept = f": run the same command with --resume to continue in {self.folder}" if keeps else ""
            raise Stopped(f"stopped by {self._stop}{kept}")

    @contextmanager
    def deferring_signals(self) -> Iterator[None]:
        """Turns a first Ctrl-C, SIGTERM or SIGHUP into a request to stop after the step; a second ends the process."""

        def ask(number: int, frame: FrameType | None) -> None:
            self._stop = signal.Signals(number).name
            signal.signal(number, previous[signal.Signals(number)])

        previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        try:
            for number in previous:
                signal.signal(number, ask)
        except ValueError:  # signals reach the main thread only
            yield
            return
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if self._log is not None:
            self._log.close()
        for tracker in self._trackers:
            tracker.close(failed=error is not None)
