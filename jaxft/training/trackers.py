"""Trackers of experiments beside metrics.jsonl: TensorBoard, Weights & Biases, Trackio and MLflow.

A run hands each line of its metrics to every tracker, the texts that its stages write, and its result at the end. Each
needs a package of its own, which `pip install 'jaxft[tensorboard]'` and the like install.
"""

import hashlib
import html
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from jaxft.errors import DISK_ERRORS, InputError, reason_of
from jaxft.training.run_folder import without_folders
from jaxft.training.settings import Tracker, flatten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES: dict[Tracker, str] = {
    "tensorboard": "tensorboardX",
    "wandb": "wandb",
    "trackio": "trackio",
    "mlflow": "mlflow",
}
"""what each tracker imports"""
PROJECT = "jaxft"
"""name of the project or experiment that the runs are filed under"""


class Sink(Protocol):
    """What takes the metrics of a run."""

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Takes the numbers of a step, by names such as `classifier/loss`; steps are counted in their stage."""
        ...

    def write_texts(self, texts: Mapping[str, str], step: int) -> None:
        """Takes the texts of a step, by names such as `language_model/sample`."""
        ...

    def finish(self, scores: Mapping[str, float], texts: Mapping[str, str], figures: Mapping[str, "Figure"]) -> None:
        """Takes the result of the run: scores, texts in Markdown, and figures, by name."""
        ...

    def close(self, failed: bool) -> None:
        """Ends the run, which an error or a stop may have ended early."""
        ...


def require_trackers(names: Sequence[Tracker]) -> None:
    """Refuses a tracker whose package is not installed.

    Raises:
        InputError: naming the install.
    """
    for name in names:
        if find_spec(PACKAGES[name]) is None:
            raise InputError(
                f"--track {name} needs the package {PACKAGES[name]}: install it with pip install 'jaxft[{name}]'"
            )


def open_trackers(names: Sequence[Tracker], folder: Path, config: Mapping[str, Any]) -> list[Sink]:
    """Opens trackers for the run in a folder; a run that goes on does so in the same record.

    Args:
        names: of the trackers.
        folder: of the run, whose path identifies it.
        config: the settings, as in config.json.

    Raises:
        InputError: a tracker cannot be reached.
    """
    told = flatten(without_folders(config))
    settings = {name: value for name, value in told.items() if isinstance(value, str | int | float)}
    sinks: list[Sink] = []
    try:
        for name in sorted(names, key="tensorboard".__eq__):  # which leaves a folder behind
            sinks.append(_Guarded(name, _open(name, folder.resolve(), settings)))
    except InputError:
        for sink in sinks:
            sink.close(failed=True)
        raise
    return sinks


def tracked_numbers(stage: str, values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of the metrics as a tracker names them; those of evaluations say of which split.

    Examples:
        >>> tracked_numbers("classifier", {"loss": 0.5, "phase": "all", "split": "dev"})
        {'classifier/dev/loss': 0.5}
    """
    start = f"{stage}/{values['split']}/" if "split" in values else f"{stage}/"
    return {start + name: float(value) for name, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool)


def _open(name: Tracker, folder: Path, settings: Mapping[str, Any]) -> Sink:
    try:
        return SINKS[name](folder, settings)
    except Exception as error:  # of the tracker, of the network or of the disk
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            why, remedy = f" in {folder} ({reason_of(error)})", "free some space"
        else:
            why, remedy = f" ({reason_of(error)})", "log in to it"
        raise InputError(f"--track {name} cannot be opened{why}: {remedy}, or leave it out") from error


class _Guarded:
    """A tracker whose failure is told once and ends no training."""

    def __init__(self, name: Tracker, sink: Sink) -> None:
        self._name, self._sink = name, sink
        self._lost = False

    def _call(self, method: Callable[..., None], *arguments: Any) -> None:
        if self._lost:
            return
        try:
            method(*arguments)
        except Exception as error:  # of the tracker, of the network or of the disk
            self._lost = True
            told = f"--track {self._name} takes no more metrics ({reason_of(error)}); metrics.jsonl has them all"
            print(f"jaxft: {told}", file=sys.stderr)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """As `Sink.write`."""
        self._call(self._sink.write, numbers, step)

    def write_texts(self, texts: Mapping[str, str], step: int) -> None:
        """As `Sink.write_texts`."""
        self._call(self._sink.write_texts, texts, step)

    def finish(self, scores: Mapping[str, float], texts: Mapping[str, str], figures: Mapping[str, "Figure"]) -> None:
        """As `Sink.finish`."""
        self._call(self._sink.finish, scores, texts, figures)

    def close(self, failed: bool) -> None:
        """As `Sink.close`."""
        self._call(self._sink.close, failed)


class TensorBoard:
    """Event files in `RUN/tensorboard`, by tensorboardX, whose summaries are written here.

    Its own writer writes in a thread, where an error ends that thread alone, and the job waits for it without end.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder / "tensorboard", settings
        is_new = not self._folder.exists()
        try:
            self._events = _Events(self._folder)
        except Exception:
            if is_new:  # the folder of a run that has not begun stays empty
                shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """As `Sink.write`; the numbers are on the disk when this returns."""
        from tensorboardX import summary

        self._events.write([summary.scalar(name, value) for name, value in numbers.items()], step)

    def write_texts(self, texts: Mapping[str, str], step: int) -> None:
        """As `Sink.write_texts`."""
        from tensorboardX import summary

        self._events.write([summary.text(name, text) for name, text in texts.items()], step)

    def finish(self, scores: Mapping[str, float], texts: Mapping[str, str], figures: Mapping[str, "Figure"]) -> None:
        """As `Sink.finish`; the settings become hyper-parameters beside the scores."""
        from tensorboardX import summary
        from tensorboardX.utils import figure_to_image

        self.write_texts(texts, 0)
        images = [summary.image(name, figure_to_image(figure, close=False)) for name, figure in figures.items()]
        self._events.write(images, 0)
        settings = _Events(self._folder / "settings")
        numbers = [summary.scalar(name, value) for name, value in scores.items()]
        settings.write([*summary.hparams(dict(self._settings), dict(scores)), *numbers], 0)
        settings.close()

    def close(self, failed: bool) -> None:
        """Closes the file."""
        self._events.close()


class _Events:
    """An event file in a folder, which is closed where it cannot be written."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX.event_file_writer import EventsWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        self.write([], 0)

    def write(self, summaries: Sequence[Any], step: int) -> None:
        """Adds events and flushes the file."""
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] - made on import

        try:
            for summary in summaries:
                self._file.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self._file.flush()
        except OSError:
            records = self._file._py_recordio_writer
            with suppress(OSError):  # `EventsWriter.close` flushes first, and leaves the file open where that fails
                records.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class _Logged:
    """A run of Weights & Biases, or of Trackio, which has the same functions."""

    def __init__(self, library: ModuleType, run: Any, define_steps: Callable[[str], None] = lambda stage: None) -> None:
        self._library, self._run, self._define_steps = library, run, define_steps
        self._stages: set[str] = set()

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """As `Sink.write`; the step is logged as a number of its stage."""
        stage = next(iter(numbers), "run/").partition("/")[0]
        if stage not in self._stages:
            self._stages.add(stage)
            self._define_steps(stage)
        self._run.log({**numbers, f"{stage}/step": step})

    def write_texts(self, texts: Mapping[str, str], step: int) -> None:
        """As `Sink.write_texts`."""
        self.write(self._pages(texts), step)

    def _pages(self, texts: Mapping[str, str]) -> dict[str, Any]:
        if hasattr(self._library, "Html"):
            return {name: self._library.Html(f"<pre>{html.escape(text)}</pre>") for name, text in texts.items()}
        return {name: self._library.Markdown(text) for name, text in texts.items()}  # Trackio

    def finish(self, scores: Mapping[str, float], texts: Mapping[str, str], figures: Mapping[str, "Figure"]) -> None:
        """As `Sink.finish`."""
        images = {name: self._library.Image(_pixels(figure)) for name, figure in figures.items()}
        self._run.log({**{f"test/{name}": value for name, value in scores.items()}, **images, **self._pages(texts)})

    def close(self, failed: bool) -> None:
        """Ends the run."""
        self._run.finish()


def _wandb(folder: Path, settings: Mapping[str, Any]) -> Sink:
    import wandb  # pyright: ignore[reportMissingImports]

    run = wandb.init(
        project=PROJECT, id=_identity(folder), name=folder.name, dir=folder, config=dict(settings), resume="allow"
    )
    return _Logged(wandb, run, lambda stage: run.define_metric(f"{stage}/*", step_metric=f"{stage}/step"))


def _trackio(folder: Path, settings: Mapping[str, Any]) -> Sink:
    import trackio  # pyright: ignore[reportMissingImports]

    name = f"{folder.name}-{_identity(folder)[:6]}"
    return _Logged(trackio, trackio.init(project=PROJECT, name=name, config=dict(settings), resume="allow"))


class MLflow:
    """A run of MLflow; `$MLFLOW_TRACKING_URI` says where it is kept."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        self._client = mlflow.MlflowClient()
        experiment = self._client.get_experiment_by_name(PROJECT)
        number = self._client.create_experiment(PROJECT) if experiment is None else experiment.experiment_id
        tag = {"jaxft.run": _identity(folder)}
        earlier = self._client.search_runs([number], f"tags.`jaxft.run` = '{tag['jaxft.run']}'")
        run = earlier[0] if earlier else self._client.create_run(number, run_name=folder.name, tags=tag)
        self._id = run.info.run_id
        if not earlier:
            for name, value in settings.items():
                self._client.log_param(self._id, name, value)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """As `Sink.write`."""
        for name, value in numbers.items():
            self._client.log_metric(self._id, name, value, step=step)

    def write_texts(self, texts: Mapping[str, str], step: int) -> None:
        """As `Sink.write_texts`; a later text of the same name replaces the earlier one."""
        for name, text in texts.items():
            self._client.log_text(self._id, text, f"{name}.md")

    def finish(self, scores: Mapping[str, float], texts: Mapping[str, str], figures: Mapping[str, "Figure"]) -> None:
        """As `Sink.finish`."""
        for name, value in scores.items():
            self._client.log_metric(self._id, f"test/{name}", value)
        self.write_texts(texts, 0)
        for name, figure in figures.items():
            self._client.log_figure(self._id, figure, f"{name}.png")

    def close(self, failed: bool) -> None:
        """Marks the run as finished or failed."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


SINKS: dict[Tracker, Callable[[Path, Mapping[str, Any]], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": _wandb,
    "trackio": _trackio,
    "mlflow": MLflow,
}


def _identity(folder: Path) -> str:
    """A name for the run in a folder that stays the same when it goes on."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _pixels(figure: "Figure") -> Any:
    """The figure as (height, width, 3) uint8."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]
