"""Trains a tagger of entities: `python -m jaxft.ner --data PREFIX --encoder none`.

The job runs the stages of `jaxft.ner.stages` in a run folder, as often as `--repeats` says, and with `--compare` for
one schedule after another.

References:
    Huang, Xu & Yu, Bidirectional LSTM-CRF Models for Sequence Tagging, 2015, and the sources that the techniques name.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from jaxft.data.hub import checkpoint_fingerprint
from jaxft.inference.load import MODEL
from jaxft.ner.inputs import Inputs, describe_data, read_inputs
from jaxft.ner.settings import Settings, parse, rows
from jaxft.ner.stages import (
    SCORE,
    as_model,
    ner_plan,
    scores_on,
    train_tagger,
)
from jaxft.optim.phases import Phase, format_plan
from jaxft.training import plots, report, summary
from jaxft.training.job import begin, draw_rates, draw_training, identity, new_run_folder, pick, stage_row
from jaxft.training.process import set_up
from jaxft.training.stage import Run, StageResult

__all__ = ["comparison", "markdown", "ner_plan", "read_inputs", "train", "train_tagger"]


def train(settings: Settings) -> dict[str, Any]:
    """Runs the whole job in the folder `settings.out` and returns its summary.

    Raises:
        InputError: bad data, checkpoint, flags or folder; nothing is left behind.
        Stopped: the run was asked to stop; `settings.resume` goes on with it.
    """
    with new_run_folder(settings.out, settings.resume) as folder:
        started = time.monotonic()
        inputs = read_inputs(settings)
        seconds = time.monotonic() - started
        planned = plans(inputs, settings)
        config = identity(settings, inputs.fingerprint)
        if inputs.folder is not None:
            config["checkpoint"] = checkpoint_fingerprint(inputs.folder)
        begin(folder, settings.resume, config)
    tokens = sum(int((pieces.tags >= 0).sum()) for pieces in inputs.pieces.values())
    stages = [stage_row("text", seconds, tokens)]
    with Run(folder, log_every=settings.log_every, checkpoint_seconds=60 * settings.checkpoint_minutes) as run:
        runs = list(_runs(inputs, settings, run))
    stages += [stage_row(one["stage"], one["seconds"], one["tokens"]) for one in runs]
    best = max(runs, key=lambda one: one["dev"][SCORE])
    result: dict[str, Any] = {"data": describe_data(inputs), "runs": runs, "kept": best["stage"], "dev": best["dev"]}
    if "test" in best:
        result["test"] = best["test"]
    if len(runs) > 1:
        table = comparison(runs)
        result["comparison"] = table
        report.write_text(folder / "comparison.md", markdown(table) + "\n")
        if len(table) > 1:
            plots.plot_ladder(table, folder / "plots/comparison.png")
    result |= {
        "stages": stages,
        "peak_memory_mb": summary.peak_memory_mb(),
        "environment": summary.environment(),
        "config": config,
    }
    report.write_json(folder / "summary.json", result)
    (draw_training if len(runs) == 1 else draw_rates)(folder, planned)
    return result


def stage_of(row: int, repeat: int) -> str:
    """The name of the stage that trains a row of the comparison once."""
    return f"row_{row + 1}_run_{repeat + 1}"


def plans(inputs: Inputs, settings: Settings) -> dict[str, tuple[tuple[Phase, ...], int]]:
    """The phases of the first run of every row, and its steps per epoch."""
    steps = max(1, len(inputs.pieces["train"].lengths) // settings.train.batch_size)
    encoder = inputs.fns.encoder is not None
    own = rows(settings).values()
    return {stage_of(number, 0): (ner_plan(one, encoder, steps), steps) for number, one in enumerate(own)}


def _runs(inputs: Inputs, settings: Settings, run: Run) -> Iterator[dict[str, Any]]:
    """Trains every row as often as it is repeated, and keeps the model of the run that is best on dev so far."""
    best = -1.0
    for number, (name, own) in enumerate(rows(settings).items()):
        for repeat in range(settings.repeats):
            stage = stage_of(number, repeat)
            done = run.finished(stage)
            if done is None:
                done = _train_once(inputs, own, run, stage, settings.seed + repeat, best)
            best = max(best, done.report["dev"][SCORE])
            yield {"name": name, "stage": stage, "seed": settings.seed + repeat, **done.report}


def _train_once(inputs: Inputs, settings: Settings, run: Run, stage: str, seed: int, best: float) -> StageResult:
    """Trains and scores one model; saves it where it is better than `best`, and keeps no other weights."""
    result = train_tagger(inputs, settings, run, stage, seed)
    decode, size = jax.jit(inputs.fns.decode), settings.train.eval_batch_size
    scores = {part: scores_on(inputs, part, decode, result.params, size) for part in inputs.scored}
    if scores["dev"][SCORE] > best:
        as_model(inputs, settings, result.params).save(settings.out / MODEL)
    done = StageResult({}, {}, {**pick(result.report, "seconds", "tokens", "steps"), **scores})
    run.finish({stage: done})
    return done


def comparison(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each row of the comparison the F1 of its runs, their mean and standard deviation, and the time of a run.

    The F1 is that of the test sentences, or of dev where there are none.
    """
    part = "test" if "test" in runs[0] else "dev"
    table = []
    for name in dict.fromkeys(run["name"] for run in runs):
        own = [run for run in runs if run["name"] == name]
        scores = [run[part][SCORE] for run in own]
        table.append(
            {
                "name": name,
                "score": f"{part} {SCORE}",
                "scores": scores,
                "mean": float(np.mean(scores)),
                "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
                "seconds": float(np.mean([run["seconds"] for run in own])),
            }
        )
    return table


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """Every run and the mean, a line for each row.

    Examples:
        >>> row = {"name": "plateau", "score": "test micro_f1", "scores": [0.5, 0.7], "mean": 0.6, "sd": 0.1414,
        ...        "seconds": 90}
        >>> print(markdown([row]))
        | test micro_f1 | run 1 | run 2 | mean | sd | time of a run |
        |---|---|---|---|---|---|
        | plateau | 0.5000 | 0.7000 | 0.6000 | 0.1414 | 1.5 min |
    """
    count = len(table[0]["scores"])
    names = [f"run {number}" for number in range(1, count + 1)]
    lines = [f"| {table[0]['score']} | {' | '.join(names)} | mean | sd | time of a run |", "|---" * (count + 4) + "|"]
    for row in table:
        sd = "" if row["sd"] is None else f"{row['sd']:.4f}"
        scores = " | ".join(f"{score:.4f}" for score in row["scores"])
        lines.append(f"| {row['name']} | {scores} | {row['mean']:.4f} | {sd} | {row['seconds'] / 60:.1f} min |")
    return "\n".join(lines)


def _preview(settings: Settings) -> str:
    inputs = read_inputs(settings)
    data = describe_data(inputs)
    lines = [
        json.dumps(report.to_json(asdict(settings)), indent=2),
        f"{data['name']}: {', '.join(f'{count:,} {part}' for part, count in data['sizes'].items())} sentences with "
        f"{', '.join(f'{count:,}' for count in data['entities'].values())} entities of {len(data['classes'])} types",
        *_orphans(data),
    ]
    for (plan, steps), name in zip(plans(inputs, settings).values(), rows(settings), strict=True):
        lines += ["", name, format_plan(plan, steps)]
    return "\n".join([*lines, "", "nothing was trained"])


def _orphans(data: Mapping[str, Any]) -> list[str]:
    """A line about entities that begin with I or E, as all do in IOB1, and none should in BIO or BIOES."""
    found = {part: count for part, count in data["orphans"].items() if count}
    listed = ", ".join(f"{count:,} of {data['entities'][part]:,} in {part}" for part, count in found.items())
    return [f"entities that begin with I or E, which were taken as they are: {listed}"] if found else []


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    settings = parse(arguments)
    set_up()
    if settings.dry_run:
        print(_preview(settings))
        return
    result = train(settings)
    if "comparison" in result:
        print(markdown(result["comparison"]) + "\n")
    print("\n".join([summary.summary_table(result), *_orphans(result["data"])]))
    print(f"\n{settings.out}: summary.json, metrics.jsonl, plots/ and model/; use it on a text of your own with")
    print(f"python -m jaxft.predict {settings.out} --text '...'")
