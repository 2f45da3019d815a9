"""What every training job does: reads, records what the run is, trains in its folder, writes the result."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft.base.files import to_json, write_json
from jaxft.base.sharding import current_mesh, mesh_size
from jaxft.errors import InputError
from jaxft.training import plots, summary
from jaxft.training.comparison import comparison_table
from jaxft.training.devices import check_batch_sizes, sharing_devices
from jaxft.training.metrics_log import read_metrics
from jaxft.training.model_card import write_cards
from jaxft.training.precision import choose_precision
from jaxft.training.predictions import Row, errors_page, write_predictions
from jaxft.training.preview import Plans, preview
from jaxft.training.process import set_up
from jaxft.training.processes import (
    connect,
    ending_together,
    first_then_others,
    is_first,
    own_folder,
    require_same,
    share_files,
)
from jaxft.training.run import Run
from jaxft.training.run_folder import locked, new_run_folder, record_config, run_config
from jaxft.training.stage import Stage, check_stage, describe_shares
from jaxft.training.trackers import Sink, open_trackers, require_trackers

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Prepared:
    """What a job knows before it trains.

    Attributes:
        settings: those that training uses.
        inputs: texts, models and whatever else the job trains with.
        plans: the phases of each stage, and its steps per epoch.
        fingerprints: hashes of what was read: `corpus`, and `checkpoint` and `pseudo_labels` where there are any.
        data: what the summary says of the data: `name`, `sizes`, `classes` and more.
        tokens: number of tokens read.
        lines: what the run prints about the data before training.
        files: functions that write the files a run keeps from its start, by file name.
        estimate: returns the estimated seconds of each stage, for `--dry-run`; None without an estimate.
        stages: makes the stages, which `--dry-run` checks; those that differ in nothing but data may be left out.
    """

    settings: Any
    inputs: Any
    plans: Plans
    fingerprints: Mapping[str, str]
    data: Mapping[str, Any]
    tokens: int
    lines: Sequence[str]
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    estimate: Callable[[], Mapping[str, float]] | None = None
    stages: Callable[[], Iterable[Stage]] = tuple


SHARED_FILES = ("*.safetensors", "*.json", "metrics.jsonl", "vocab*", "merges*", "*.model", "*.txt")
"""what the processes of a resumed run need of its folder"""


def say_lines(prepared: Prepared) -> None:
    """Prints what a run says before training, in the first process."""
    if is_first():
        print("\n".join(prepared.lines), flush=True)


def predict_hint(settings: Any) -> str:
    """What the folder of a run holds, and how to use its model."""
    return (
        f"{settings.out}: summary.json, metrics.jsonl, plots/ and model/; use the model on a text of your own with\n"
        f"python -m jaxft.predict {settings.out} --text '...'"
    )


@dataclass(frozen=True)
class Job:
    """A training job.

    Attributes:
        name: as in `python -m jaxft.<name>`.
        prepare: reads what the settings name, or data in memory in its place, and checks that it can be trained with.
        train: trains, saves the model in the run's folder, and returns entries of the summary, among them `stages`,
            rows as `summary.stage_row` makes them, `comparison` where rows were compared, and `predictions`, which go
            to a file of their own.
        hint: says, given the settings, what the folder of the run holds and how to go on.
        repeat: what the repeats of a comparison are called.
        batch_sizes: the rows of each batch by the name of its setting, and the number of microbatches that it is split
            into, given the settings.
    """

    name: str
    prepare: Callable[[Any, Any], Prepared]
    train: Callable[[Prepared, Run], dict[str, Any]]
    hint: Callable[[Any], str] = predict_hint
    repeat: str = "run"
    batch_sizes: Callable[[Any], Mapping[str, tuple[int, int]]] = lambda settings: {}

    def run(
        self,
        settings: Any,
        on_prepared: Callable[[Prepared], None] = lambda prepared: None,
        data: Any = None,
        on_predictions: Callable[[Sequence[Row]], None] = lambda rows: None,
    ) -> dict[str, Any]:
        """Runs the whole job in the folder `settings.out` and returns the content of its summary.json.

        Args:
            settings: of the job.
            on_prepared: called before training, with what was read.
            data: data in memory, in place of those that the settings name.
            on_predictions: called with what the model answered on the test texts, if there are any.

        Raises:
            InputError: bad data, flags or folder; nothing is left behind.
            Stopped: the run was asked to stop; `settings.resume` goes on with it.
        """
        require_trackers(settings.track)
        with (
            self._sharing_devices(settings),
            new_run_folder(settings.out, settings.resume) as folder,
            locked(folder),
        ):
            share_files(folder, SHARED_FILES)
            settings, precision_lines = choose_precision(settings, has_begun=(folder / "config.json").exists())
            started = time.monotonic()
            prepared = first_then_others(lambda: self.prepare(settings, data))
            prepared = replace(prepared, lines=[*prepared.lines, *precision_lines])
            text_row = summary.stage_row("text", time.monotonic() - started, prepared.tokens)
            config = run_config(prepared.settings, prepared.fingerprints)
            require_same(to_json(config))
            record_config(folder, settings.resume, config)
            try:
                trackers = open_trackers(settings.track, folder, config) if is_first() else ()
            except InputError:
                if not settings.resume:
                    (folder / "config.json").unlink()  # the run has not begun
                raise
            with Run(
                folder,
                log_every=settings.log_every,
                checkpoint_seconds=60 * settings.checkpoint_minutes,
                keep_checkpoints=settings.keep_checkpoints,
                trackers=trackers,
            ) as run:
                for name, write in prepared.files.items():  # also on resume, where one may be damaged
                    write(folder / name)
                on_prepared(prepared)
                trained = self.train(prepared, run)
                predictions = trained.pop("predictions", [])
                devices = max((stage.get("devices", 1) for stage in trained["stages"]), default=1)
                devices = min(devices, mesh_size(current_mesh()))  # without the cores of a CPU
                result = {
                    "data": prepared.data,
                    **trained,
                    "stages": [text_row, *trained["stages"]],
                    "peak_memory_mb": summary.peak_memory_mb(),
                    "environment": {**summary.environment(devices), "precision": settings.precision},
                    "config": config,
                }
                on_predictions(predictions)
                if is_first():
                    self._write_results(folder, prepared, result, predictions, trackers)
        return result

    @contextmanager
    def _sharing_devices(self, settings: Any) -> Iterator[None]:
        """Divides batches among the devices that the settings ask for, which have to share them evenly."""
        with sharing_devices(settings.devices) as count:
            check_batch_sizes(self.batch_sizes(settings), count)
            yield

    def _write_results(
        self,
        folder: Path,
        prepared: Prepared,
        result: dict[str, Any],
        predictions: Sequence[Row],
        trackers: Sequence[Sink],
    ) -> None:
        """Writes what a finished run leaves in its folder, and hands it to the trackers."""
        write_json(folder / "summary.json", result)
        if predictions:
            write_predictions(folder, predictions)
        write_cards(folder, self.name, result)
        figures = _draw(folder, prepared.plans, result)
        texts = {"data": "\n\n".join(prepared.lines)}
        texts |= {"errors": errors_page(predictions)} if predictions else {}
        for tracker in trackers:
            tracker.finish(_numbers(result.get("test", {})), texts, figures)

    def run_command(self, settings: Any) -> None:
        """Trains and prints the summary, or with `--dry-run` prints what the job would do."""
        set_up()
        require_trackers(settings.track)
        connect(settings)
        with ending_together(), own_folder(settings.out) as folder:
            require_same({name: getattr(settings, name) for name in ("devices", "dry_run", "resume")})
            self._run_command(replace(settings, out=folder, resume=settings.resume and is_first()))

    def _run_command(self, settings: Any) -> None:
        if settings.dry_run:
            with self._sharing_devices(settings):
                text = first_then_others(lambda: self._preview(settings))
            if is_first():
                print(text)
            return
        result = self.run(settings, on_prepared=say_lines)
        if not is_first():
            return
        if "comparison" in result:
            print(comparison_table(result["comparison"], self.repeat) + "\n")
        print(summary.summary_table(result))
        print(f"\n{self.hint(settings)}")

    def _preview(self, settings: Any) -> str:
        """What `--dry-run` prints, of stages that have been checked."""
        has_begun = settings.resume and (settings.out / "config.json").exists()
        settings, lines = choose_precision(settings, has_begun)
        prepared = self.prepare(settings, None)
        for stage in prepared.stages():
            check_stage(stage)
            lines += describe_shares(stage)
        seconds = None if prepared.estimate is None else prepared.estimate()
        return preview(prepared.settings, [*prepared.lines, *lines], prepared.plans, seconds)


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}


def _draw(folder: Path, plans: Plans, result: Mapping[str, Any]) -> dict[str, "Figure"]:
    """Draws the curves of one training, the learning rates of each stage and the confusion matrix.

    Returns:
        The figures that a tracker cannot draw from the metrics.
    """
    if "comparison" not in result:  # whose stages are too many for one picture
        plots.save(plots.plot_training(read_metrics(folder / "metrics.jsonl")), folder / "plots/training.png")
    for stage, (plan, steps_per_epoch) in plans.items():
        plots.save(plots.plot_plan(plan, steps_per_epoch), folder / f"plots/learning_rates_{stage}.png")
    if "confusion_matrix" in (test := result.get("test", {})):
        figure = plots.plot_confusion(test["confusion_matrix"], result["data"]["classes"])
        plots.save(figure, folder / "plots/confusion.png")
        return {"confusion": figure}
    return {}
