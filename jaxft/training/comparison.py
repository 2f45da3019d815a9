"""Comparison of settings: each row is trained several times, and a table and a picture show mean and deviation.

`jaxft.finetune --ladder` compares techniques over folds, `jaxft.ner --compare` schedules over seeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxft.base.files import write_text
from jaxft.training import plots
from jaxft.training.run import Run, StageResult

Row = TypeVar("Row")


def stage_of(row: int, repeat: str) -> str:
    """The name of the stage that trains a row once.

    Examples:
        >>> stage_of(0, "fold_2")
        'row_1_fold_2'
    """
    return f"row_{row + 1}_{repeat}"


def train_rows(
    run: Run,
    rows: Mapping[str, Row],
    repeats: Sequence[str],
    train: Callable[[Row, str, str], StageResult],
    name_stage: Callable[[int, str], str] = stage_of,
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Trains every row as often as there are repeats; finished stages are read from the run.

    Args:
        run: where to store the results, whose parameters are empty where no model is to be kept.
        rows: what is compared, by name.
        repeats: names of the repeats, such as folds or seeds.
        train: makes the result of a row, a repeat and a stage.
        name_stage: the name of the stage of a row, by its number, and a repeat.

    Yields:
        The name of the row, the repeat, the name of the stage, and the report of its result.
    """
    for number, (name, row) in enumerate(rows.items()):
        for repeat in repeats:
            stage = name_stage(number, repeat)
            result = run.run_once(stage, lambda row=row, repeat=repeat, stage=stage: train(row, repeat, stage))
            yield name, repeat, stage, result.report


def comparison_row(name: str, score: str, scores: Sequence[float], seconds: Sequence[float]) -> dict[str, Any]:
    """A row of the comparison, for `summary.json`.

    Args:
        name: of the row.
        score: what was measured.
        scores: one for each repeat.
        seconds: training time of each repeat.

    Returns:
        `name`, `score`, `scores`, their `mean` and `sd` (sample standard deviation; None for one), and the mean of
        `seconds`.
    """
    return {
        "name": name,
        "score": score,
        "scores": list(scores),
        "mean": float(np.mean(scores)),
        "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        "seconds": float(np.mean(seconds)),
    }


def comparison_table(rows: Sequence[Mapping[str, Any]], repeat: str) -> str:
    """The comparison as a markdown table, a line for each row.

    Args:
        rows: from `comparison_row`.
        repeat: what a repeat is called.

    Examples:
        >>> print(comparison_table([comparison_row("plateau", "test micro_f1", [0.5, 0.7], [80, 100])], "run"))
        | test micro_f1 | run 1 | run 2 | mean | sd | time of a run |
        |---|---|---|---|---|---|
        | plateau | 0.5000 | 0.7000 | 0.6000 | 0.1414 | 1.5 min |
    """
    repeats = [f"{repeat} {number}" for number in range(1, len(rows[0]["scores"]) + 1)]
    header = [rows[0]["score"], *repeats, "mean", "sd", f"time of a {repeat}"]
    lines = [header]
    for row in rows:
        sd = "" if row["sd"] is None else f"{row['sd']:.4f}"
        scores = [f"{score:.4f}" for score in row["scores"]]
        lines.append([row["name"], *scores, f"{row['mean']:.4f}", sd, f"{row['seconds'] / 60:.1f} min"])
    head, *body = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([head, "|" + "---|" * len(header), *body])


def write_comparison(folder: Path | None, rows: Sequence[Mapping[str, Any]], repeat: str) -> None:
    """Writes `comparison.md` and, for two rows or more, `plots/comparison.png` into the folder of a run."""
    if folder is None:
        return
    write_text(folder / "comparison.md", comparison_table(rows, repeat) + "\n")
    if len(rows) > 1:
        plots.save(plots.plot_comparison(rows), folder / "plots/comparison.png")
