"""What the training jobs share: a run's identity, and the tables and pictures that it leaves behind."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.optim import phases
from jaxft.optim.phases import Phase
from jaxft.training import plots, report
from jaxft.ulmfit.settings import flag, flatten

NOT_RESULT = {"out", "resume", "dry_run", "checkpoint_minutes"}
"""settings that do not decide the result"""


def identity(settings: Any, fingerprint: str) -> dict[str, Any]:
    """What decides the result, to record, and to compare on resume: a job's settings, and its corpus."""
    fields = {name: value for name, value in asdict(settings).items() if name not in NOT_RESULT}
    return report.to_json({**fields, "corpus": fingerprint})


@contextmanager
def new_run_folder(folder: Path, resume: bool) -> Iterator[Path]:
    """Makes the folder of a run, and takes it away again where bad input ends the `with` block and nothing is in it.

    Raises:
        InputError: as `jaxft.training.report.create_run_folder`.
    """
    folder = report.create_run_folder(folder, resume)
    try:
        yield folder
    except Exception:
        with suppress(OSError):  # goes only if it is empty
            folder.rmdir()
        raise


def begin(folder: Path, resume: bool, identity: Mapping[str, Any], vocabulary: Vocabulary | None = None) -> None:
    """Writes down what the run in `folder` is, or compares it on `resume`.

    Raises:
        InputError: the run that is resumed has other settings or texts.
    """
    if resume and (folder / "config.json").exists():
        _refuse_difference(folder, identity)
    else:
        report.write_json(folder / "config.json", identity)
    if vocabulary is not None and not (folder / "vocabulary.json").exists():
        vocabulary.save(folder / "vocabulary.json")


def _refuse_difference(folder: Path, identity: Mapping[str, Any]) -> None:
    stored = report.read_json(folder / "config.json")
    if not isinstance(stored, dict):
        raise InputError(f"{folder / 'config.json'} holds no settings: put back an intact copy, or start the run again")
    old, new = flatten(stored), flatten(identity)
    if old.get("corpus") != new["corpus"]:
        raise InputError(f"the texts have changed since the run in {folder} began: put them back, or start a new run")
    if old.get("checkpoint") != new.get("checkpoint"):
        raise InputError(f"the checkpoint has changed since the run in {folder} began: put it back, or start a new run")
    differences = [
        f"{flag(name)} was {old.get(name)} and is now {new.get(name)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise InputError(
            f"the run in {folder} has other settings ({', '.join(differences)}): resume it with its own flags"
        )


def stage_row(name: str, seconds: float, tokens: int) -> dict[str, Any]:
    """A row of the summary's table of stages."""
    return {"name": name, "seconds": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds if seconds else None}


def pick(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Some entries of a mapping."""
    return {name: mapping[name] for name in names}


def draw_training(folder: Path, plans: Mapping[str, tuple[tuple[Phase, ...], int]]) -> None:
    """Draws what was measured over the steps, and the learning rates of each stage, given its phases and steps."""
    plots.plot_training(report.read_metrics(folder / "metrics.jsonl"), folder / "plots/training.png")
    draw_rates(folder, plans)


def draw_rates(folder: Path, plans: Mapping[str, tuple[tuple[Phase, ...], int]]) -> None:
    """Draws the learning rates of each stage, given its phases and steps in an epoch."""
    for stage, (plan, steps) in plans.items():
        starts = np.cumsum([0, *(phase.epochs * steps for phase in plan[:-1])])
        boundaries = [(int(start), phase.name) for start, phase in zip(starts, plan, strict=True)]
        curves = phases.learning_rates(plan, steps)
        plots.plot_learning_rates(curves, boundaries, folder / f"plots/learning_rates_{stage}.png")
