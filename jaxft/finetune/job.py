"""Fine-tunes a transformer encoder: `python -m jaxft.finetune --model PATH_OR_NAME --data FILE --task regression`.

The job runs the stages of `jaxft.finetune.stages` in a run folder, for one split or for the folds of a
cross-validation, and with `--ladder` those of `jaxft.finetune.ladder`.

References:
    Zhang et al., Revisiting Few-sample BERT Fine-tuning, ICLR 2021, and the sources that the techniques name
    themselves.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from jaxft.data.examples import DEV, TEST, TRAIN
from jaxft.data.hub import checkpoint_fingerprint
from jaxft.finetune.ladder import climb, rungs, stage_of
from jaxft.finetune.scores import score_of, scores_of
from jaxft.finetune.settings import Settings, Training, parse
from jaxft.finetune.stages import (
    Inputs,
    Split,
    as_model,
    finetune_plan,
    read_inputs,
    scores_on,
    splits,
    train_encoder,
)
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.load import MODEL
from jaxft.optim.phases import Phase, format_plan
from jaxft.training import plots, report, summary
from jaxft.training.job import begin, draw_rates, draw_training, identity, new_run_folder, stage_row
from jaxft.training.process import set_up
from jaxft.training.stage import Run, StageResult

__all__ = ["finetune_plan", "plans", "read_inputs", "splits", "train", "train_encoder"]


def train(settings: Settings) -> dict[str, Any]:
    """Runs the whole job in the folder `settings.out` and returns its summary.

    Raises:
        InputError: bad data, checkpoint, flags or folder; nothing is left behind.
        Stopped: the run was asked to stop; `settings.resume` goes on with it.
    """
    with new_run_folder(settings.out, settings.resume) as folder:
        rows = _rows(settings)
        started = time.monotonic()
        inputs = read_inputs(settings)
        seconds = time.monotonic() - started
        parts = splits(inputs.examples, settings)
        planned = plans(inputs, parts, rows)
        config = {
            **identity(settings, inputs.examples.fingerprint),
            "checkpoint": checkpoint_fingerprint(inputs.folder),
        }
        begin(folder, settings.resume, config)
    stages = [stage_row("text", seconds, int(inputs.pieces.lengths.sum()))]
    result: dict[str, Any] = {"data": _data(inputs, parts, settings)}
    with Run(folder, log_every=settings.log_every, checkpoint_seconds=60 * settings.checkpoint_minutes) as run:
        if settings.ladder:
            result["ladder"] = climb(inputs, parts, settings, rows, run)
            stages += [stage_row(row["name"], row["seconds"] * len(parts), 0) for row in result["ladder"]["rows"]]
        else:
            results = {name: _trained(inputs, part, settings, run, name) for name, part in parts.items()}
            stages += [stage_row(name, r.report["seconds"], r.report["tokens"]) for name, r in results.items()]
            started = time.monotonic()
            result |= _finish(inputs, parts, settings, results)
            tokens = sum(int(inputs.pieces.lengths[part.test].sum()) for part in parts.values())
            stages.append(stage_row("test", time.monotonic() - started, tokens))
            if "confusion_matrix" in result.get("test", {}):
                matrix = result["test"]["confusion_matrix"]
                plots.plot_confusion(matrix, inputs.examples.classes, folder / "plots/confusion.png")
    result |= {
        "stages": stages,
        "peak_memory_mb": summary.peak_memory_mb(),
        "environment": summary.environment(),
        "config": config,
    }
    report.write_json(folder / "summary.json", result)
    (draw_rates if settings.ladder else draw_training)(folder, planned)
    return result


def _rows(settings: Settings) -> dict[str, Training]:
    """What is trained: the settings alone, or those of every row of the ladder, by the name of the row."""
    return rungs(settings.train, settings.ladder_rate) if settings.ladder else {"": settings.train}


def plans(
    inputs: Inputs, parts: Mapping[str, Split], rows: Mapping[str, Training]
) -> dict[str, tuple[tuple[Phase, ...], int]]:
    """The phases of each stage and its steps per epoch; of a ladder, those of the first fold of every row."""
    layers, found = inputs.encoder.config.num_layers, {}
    for number, train in enumerate(rows.values()):
        for name, part in parts.items():
            steps = max(1, len(part.train) // train.batch_size)
            stage = name if len(rows) == 1 else stage_of(number, name)
            found[stage] = (finetune_plan(train, layers, steps), steps)
            if len(rows) > 1:
                break
    return found


def _trained(inputs: Inputs, part: Split, settings: Settings, run: Run, name: str) -> StageResult:
    """The model that this run has trained or trains now."""
    result = run.finished(name)
    if result is None:
        result = train_encoder(inputs, part, settings, run, name)
        run.finish({name: result})
    return result


def _finish(
    inputs: Inputs, parts: Mapping[str, Split], settings: Settings, results: Mapping[str, StageResult]
) -> dict[str, Any]:
    """Saves the model, or the ensemble of all folds, and scores it."""
    members = {name: as_model(inputs, settings, result.params) for name, result in results.items()}
    model = Ensemble(members) if settings.folds else members["train"]
    model.save(settings.out / MODEL)
    task, targets, classes = settings.task, inputs.examples.targets, inputs.examples.classes

    def tested(examples: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
        return scores_of(task, targets[examples], scores, classes)

    if not settings.folds:
        measured, test = results["train"].report, parts["train"].test
        kept = measured.get("kept") or measured["evaluations"][-1]
        found: dict[str, Any] = {"dev": {name: value for name, value in _numbers(kept).items() if name != "epoch"}}
        if len(test):
            found["test"] = tested(test, scores_on(members["train"], inputs, test))
        return found
    own = {name: scores_on(members[name], inputs, part.test) for name, part in parts.items()}
    each = {name: _numbers(tested(part.test, own[name])) for name, part in parts.items()}
    chosen = [scores[score_of(task)] for scores in each.values()]
    together = np.concatenate([part.test for part in parts.values()]), np.concatenate(list(own.values()))
    sd = {"sd": float(np.std(chosen, ddof=1))} if len(chosen) > 1 else {}
    found = {
        "folds": each,
        "test_mean_of_folds": {score_of(task): float(np.mean(chosen)), **sd},
        "test_of_folds": tested(*together),
    }
    test = inputs.examples.of(TEST)
    if len(test):
        found["test"] = tested(test, np.mean([scores_on(m, inputs, test) for m in members.values()], axis=0))
    return found


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _data(inputs: Inputs, parts: Mapping[str, Split], settings: Settings) -> dict[str, Any]:
    examples = inputs.examples
    sizes = {name: len(examples.of(split)) for name, split in (("train", TRAIN), ("dev", DEV), ("test", TEST))}
    return {
        "name": examples.name,
        "sizes": {name: count for name, count in sizes.items() if count},
        "folds": {name: [len(part.train), len(part.dev), len(part.test)] for name, part in parts.items()}
        if settings.folds
        else {},
        "classes": examples.classes,
        "truncated": inputs.pieces.truncated,
    }


def _preview(settings: Settings) -> str:
    inputs = read_inputs(settings)
    parts = splits(inputs.examples, settings)
    lengths = inputs.pieces.lengths
    lines = [
        json.dumps(report.to_json(asdict(settings)), indent=2),
        f"{inputs.examples.name}: {len(lengths):,} texts of {lengths.mean():.0f} pieces in the mean, padded to "
        f"{', '.join(map(str, inputs.pieces.widths()))}; {inputs.pieces.truncated:,} were cut",
    ]
    rows = _rows(settings)
    for name, part in parts.items():
        lines.append(f"{name}: {len(part.train):,} train, {len(part.dev):,} dev, {len(part.test):,} test")
    titles = [name for name in rows if name] or list(parts)
    for title, (plan, steps) in zip(titles, plans(inputs, parts, rows).values(), strict=True):
        lines += ["", title, format_plan(plan, steps)]
    return "\n".join([*lines, "", "nothing was trained"])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    settings = parse(arguments)
    set_up()
    if settings.dry_run:
        print(_preview(settings))
        return
    result = train(settings)
    if settings.ladder:
        print(result["ladder"]["table"])
        print(f"\n{settings.out}: summary.json, metrics.jsonl, ladder.md and plots/ladder.png")
        return
    print(summary.summary_table(result))
    print(f"\n{settings.out}: summary.json, metrics.jsonl, plots/ and model/; use it on a text of your own with")
    print(f"python -m jaxft.predict {settings.out} --text '...'")
