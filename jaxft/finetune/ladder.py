"""One technique of fine-tuning after another, each added to those before it, compared over the same folds.

`python -m jaxft.finetune --ladder` runs it. The first row has one rate for all layers and nothing else; what the others
add are the settings of the run, so that a technique that is switched off has no row.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.finetune.scores import score_of, scores_of
from jaxft.finetune.settings import Settings, Training
from jaxft.finetune.stages import WITHOUT_WARMUP, Inputs, Split, as_model, scores_on, train_encoder
from jaxft.training import plots, report
from jaxft.training.stage import Run, StageResult

_OFF = Training()
RUNGS: dict[str, dict[str, Any]] = {
    "layer-wise rates": {"layer_rates": _OFF.layer_rates, "head_rate": None},
    "warm-up": {"warmup": 0.0},
    "re-initialised layers": {"reinit_layers": 0},
    "weight averaging": {"swa_start": None, "ema_decay": None},
    "frequent evaluation": {"evaluate_every": None},
}
"""what each rung switches on, and its values while it is off"""
GROUPED = "grouped rates"
"""stands beside the rung of layer-wise rates, in its place; the rungs above go on from the latter"""


def rungs(train: Training, first_rate: float | None) -> dict[str, Training]:
    """The settings of every row, in order.

    Args:
        train: with every technique that is to be compared switched on.
        first_rate: the learning rate of the first row; None takes that of `train`.

    Raises:
        InputError: no technique is switched on, or `first_rate` would be mistaken for one.

    Examples:
        >>> list(rungs(Training(layer_rates="decay", warmup=50, evaluate_every=10), 1e-6))
        ['basic', '+ layer-wise rates', 'grouped rates', '+ warm-up', '+ frequent evaluation']
    """
    off = {name: values for name, values in RUNGS.items() if any(getattr(train, n) != v for n, v in values.items())}
    if train.schedule in WITHOUT_WARMUP:
        off.pop("warm-up", None)
    if train.keep == "last" and train.patience is None:
        off.pop("frequent evaluation", None)
    if not off:
        raise InputError(
            "--ladder finds no technique that is switched on: give --preset commonlit, or flags of --train"
        )
    if first_rate not in (None, train.peak_rate) and "layer-wise rates" not in off:
        raise InputError("--ladder-rate belongs to layer-wise rates, whose row has --train.peak-rate: leave it out")
    current = replace(train, **{name: value for values in off.values() for name, value in values.items()})
    rows = {"basic": replace(current, peak_rate=first_rate or train.peak_rate)}
    current = replace(current, peak_rate=train.peak_rate)
    for rung, values in off.items():
        current = replace(current, **{name: getattr(train, name) for name in values})
        rows[f"+ {rung}"] = current
        if rung == "layer-wise rates" and train.layer_rates == "decay":
            rows[GROUPED] = replace(current, layer_rates="grouped")
    return rows


def stage_of(row: int, fold: str) -> str:
    """The name of the stage that trains a row of the ladder on a fold."""
    return f"row_{row + 1}_{fold}"


def climb(
    inputs: Inputs, parts: Mapping[str, Split], settings: Settings, trainings: Mapping[str, Training], run: Run
) -> dict[str, Any]:
    """Trains every row, as `rungs` made them, on every fold; writes the run's `ladder.md` and `plots/ladder.png`.

    A fold is scored on its own examples, by the model that its dev texts chose. What is finished is kept on resume,
    without its weights.

    Returns:
        `rows`, each with `name`, `score` (which one), `scores` of the folds, `mean`, `sd` and `seconds` of a fold; and
        the same as a markdown `table`.
    """
    rows = []
    for number, (name, training) in enumerate(trainings.items()):
        own = replace(settings, train=training)
        folds = [_fold(inputs, part, own, run, stage_of(number, fold)) for fold, part in parts.items()]
        values = [fold["score"] for fold in folds]
        rows.append(
            {
                "name": name,
                "score": score_of(settings.task),
                "scores": values,
                "mean": float(np.mean(values)),
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "seconds": float(np.mean([fold["seconds"] for fold in folds])),
            }
        )
        if run.folder is not None:
            report.write_text(run.folder / "ladder.md", markdown(rows) + "\n")
            plots.plot_ladder(rows, run.folder / "plots/ladder.png")
    return {"rows": rows, "table": markdown(rows)}


def _fold(inputs: Inputs, part: Split, settings: Settings, run: Run, stage: str) -> dict[str, float]:
    done = run.finished(stage)
    if done is None:
        result = train_encoder(inputs, part, settings, run, stage)
        scores = scores_on(as_model(inputs, settings, result.params), inputs, part.test)
        targets = inputs.examples.targets[part.test]
        score = scores_of(settings.task, targets, scores, inputs.examples.classes)[score_of(settings.task)]
        done = StageResult({}, {}, {**result.report, "score": score})
        run.finish({stage: done})
    return {"score": done.report["score"], "seconds": done.report["seconds"]}


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table with a line for each row.

    Examples:
        >>> row = {"name": "basic", "score": "rmse", "scores": [0.5, 0.7], "mean": 0.6, "sd": 0.1414, "seconds": 90}
        >>> print(markdown([row]))
        | | rmse, mean of 2 folds | sd | time of a fold |
        |---|---|---|---|
        | basic | 0.6000 | 0.1414 | 1.5 min |
    """
    score, folds = rows[0]["score"], len(rows[0]["scores"])
    lines = [f"| | {score}, mean of {folds} fold{'s' * (folds > 1)} | sd | time of a fold |", "|---|---|---|---|"]
    for row in rows:
        sd = "" if row["sd"] is None else f"{row['sd']:.4f}"
        lines.append(f"| {row['name']} | {row['mean']:.4f} | {sd} | {row['seconds'] / 60:.1f} min |")
    return "\n".join(lines)
