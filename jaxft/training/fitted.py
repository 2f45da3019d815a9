"""`fit` of every job: trains from Python, and hands back the model together with the record of its training."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxft.errors import InputError
from jaxft.training import plots
from jaxft.training.arguments import settings_from, speaking_of_arguments
from jaxft.training.command_line import Command
from jaxft.training.job import Job, Prepared, say_lines
from jaxft.training.metrics_log import read_metrics
from jaxft.training.predictions import Row, top_losses
from jaxft.training.preview import Plans
from jaxft.training.process import set_up
from jaxft.training.processes import connect, ending_together, is_first, own_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Fitted:
    """A finished model and the record of its training.

    It answers as its model does: `predict`, `predict_proba`, `answers`, `classes`, `save` and whatever else the model
    has, such as `generate` of a language model.

    Attributes:
        model: the finished model, as `jaxft.load` loads it.
        summary: the content of summary.json.
        run: the folder of the run; None where nothing was written.
        metrics: the lines of metrics.jsonl.
        plans: the phases of each stage, and its steps per epoch.
        test_rows: what the model answered on each test text; see `jaxft.training.predictions`.
    """

    model: Any
    summary: Mapping[str, Any]
    run: Path | None
    metrics: Sequence[Mapping[str, Any]] = field(repr=False)
    plans: Plans = field(repr=False)
    test_rows: Sequence[Row] = field(repr=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by copy and pickle, before there is a model
            raise AttributeError(name)
        return getattr(self.model, name)

    def __repr__(self) -> str:
        place = "not saved" if self.run is None else str(self.run)
        return f"{self.model!r}, trained on {self.summary['data']['name']}, {place}"

    def predict(self, texts: Any) -> Any:
        """The model's prediction for each text, or for one text."""
        return self.model.predict(texts)

    def predict_proba(self, texts: Any) -> Any:
        """The model's probabilities (N, C) for N texts, or (C,) for one text."""
        return self.model.predict_proba(texts)

    def top_losses(self, n: int = 10) -> list[Row]:
        """The n test texts with the largest losses, largest first; none where there were no test texts.

        Each is a mapping with `text`, `label`, `prediction`, `loss`, and the probability of each class or, of a tagger,
        the `scores` of the predicted entities.
        """
        rows = top_losses(self.test_rows, n)
        return [{name: value for name, value in row.items() if name != "mistakes"} for row in rows]

    def plot_training(self) -> "Figure":
        """Losses and scores over the steps of every stage; a notebook shows the figure."""
        return plots.plot_training(self.metrics)

    def plot_learning_rates(self, stage: str | None = None) -> "Figure":
        """The learning rates of a stage of the plan, by default the last.

        Raises:
            InputError: there is no such stage.
        """
        name = stage or list(self.plans)[-1]
        if name not in self.plans:
            raise InputError(f"there is no stage {name!r}: give {' or '.join(map(repr, self.plans))}")
        return plots.plot_plan(*self.plans[name])

    def plot_confusion(self) -> "Figure":
        """The confusion matrix of the test texts.

        Raises:
            InputError: there is none, because the task has no classes or the data no test texts.
        """
        test = self.summary.get("test", {})
        if "confusion_matrix" not in test:
            raise InputError("there is no confusion matrix: only a classifier that was tested has one")
        return plots.plot_confusion(test["confusion_matrix"], self.summary["data"]["classes"])


def fit_job(
    job: Job,
    command: Command[Any],
    load: Callable[[Path], Any],
    source: Any,
    *,
    out: Any,
    resume: bool,
    settings: Mapping[str, Any],
) -> Fitted:
    """Runs a job with settings from Python, in the folder `out` or in a temporary one.

    Args:
        job: the job.
        command: its settings.
        load: loads the finished model of the run.
        source: name or path of the data, as a string; or data in memory, with a `name`.
        out: the folder of the run; None keeps nothing.
        resume: whether to go on with the run in `out`.
        settings: by name; see `jaxft.training.arguments.settings_from`.

    Raises:
        TypeError: a name that is no setting.
        InputError: bad data or settings.
        Stopped: the run was asked to stop.
    """
    prepared: list[Prepared] = []

    def report(ready: Prepared) -> None:
        prepared.append(ready)
        say_lines(ready)

    with speaking_of_arguments(), _folder(out) as folder:
        if resume and out is None:
            raise InputError("resume=True needs the folder of the run: give out")
        named = {"data": source} if isinstance(source, str) else {"data": source.name}
        chosen = settings_from(command, {**named, **settings, "out": folder, "resume": resume})
        if chosen.dry_run:
            raise InputError("--dry-run trains no model to return: leave it out, or use the command line")
        if getattr(chosen, "ladder", False):
            raise InputError("--ladder compares and keeps no model to return: leave it out, or use the command line")
        set_up()
        connect(chosen)
        rows: list[Row] = []
        with ending_together(), own_folder(folder) as own:
            chosen = replace(chosen, out=own, resume=chosen.resume and is_first())
            summary = job.run(chosen, report, None if isinstance(source, str) else source, rows.extend)
            metrics = read_metrics(own / "metrics.jsonl")
            return Fitted(load(own), summary, None if out is None else folder, metrics, prepared[0].plans, rows)


@contextmanager
def _folder(out: Any) -> Iterator[Path]:
    """The folder `out`, or a temporary one that is removed at the end."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="jaxft-") as folder:
        yield Path(folder) / "run"
