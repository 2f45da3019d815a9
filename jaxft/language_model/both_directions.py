"""Language models of both directions, trained in one program by `train_lms`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from jaxft.data.document import Direction
from jaxft.data.splits import Texts
from jaxft.language_model.settings import Directions, LanguageModelSettings
from jaxft.language_model.stage import (
    LANGUAGE_MODEL,
    adapted_params,
    as_language_model,
    directions,
    fine_tune_lm,
    lm_result,
    lm_stage,
    random_lm,
    stage_name,
)
from jaxft.optim.stacked_models import stack, stacked_value_and_grad, unstack
from jaxft.training.batches import Batches
from jaxft.training.run import Run, StageResult
from jaxft.training.stage import Stage, run_stage

BOTH = stage_name(LANGUAGE_MODEL, "both")
"""the stage of two language models in one program"""


def train_lms(
    texts: Texts,
    settings: LanguageModelSettings,
    wanted: Directions,
    starts: dict[Direction, Any],
    run: Run,
    pretokenized: bool = False,
) -> dict[Direction, StageResult]:
    """The language models of the wanted directions; those that the run has finished are read from it.

    Two models train in one program, as their windows have the same shapes, unless the average of each has to begin at
    its own step (nt-asgd). Trackers get a text that each model writes when it has been trained.

    Args:
        texts, settings, run: as in `pretrain_lm`.
        wanted: forward, backward or both.
        starts: what `fine_tune_lm` starts from, by direction; an entry is removed when it is used, which frees its
            memory. A direction without an entry starts from random weights.
        pretokenized: whether spaces alone separate the tokens of the texts; see `TextLanguageModel`.

    Raises:
        InputError, Stopped: as `pretrain_lm`.
    """
    names: dict[Direction, str] = {direction: stage_name(LANGUAGE_MODEL, direction) for direction in directions(wanted)}
    results: dict[Direction, StageResult] = {}
    if not run.position(BOTH):  # else the run was stopped before it had stored all results
        for direction, name in names.items():
            if (result := run.finished(name)) is not None:
                results[direction] = result
    missing: list[Direction] = [direction for direction in names if direction not in results]
    if len(missing) > 1 and settings.lm.average != "nt-asgd":
        results = _train_together(texts, settings, missing, starts, run)
        run.finish({names[direction]: result for direction, result in results.items()})
        _write_samples(texts, settings, results, run, pretokenized)
        return results
    for direction in missing:
        start = _take_start(starts, direction, texts, settings)
        results[direction] = fine_tune_lm(texts, settings, start, run, direction)
        run.finish({names[direction]: results[direction]})
        _write_samples(texts, settings, {direction: results[direction]}, run, pretokenized)
    return results


def _write_samples(
    texts: Texts,
    settings: LanguageModelSettings,
    trained: Mapping[Direction, StageResult],
    run: Run,
    pretokenized: bool,
) -> None:
    """Hands a text of each model to the trackers of the run, if it has any."""
    if not run.is_tracked:
        return
    for direction, result in trained.items():
        sample = as_language_model(texts, settings, result.params, direction, pretokenized).generate("")
        run.write_text(stage_name(LANGUAGE_MODEL, direction), result.report["steps"], "sample", sample)


def _take_start(starts: dict[Direction, Any], direction: Direction, texts: Texts, settings: Any) -> Any:
    start = starts.pop(direction, None)
    return random_lm(texts, settings) if start is None else start


def _train_together(
    texts: Texts,
    settings: LanguageModelSettings,
    order: Sequence[Direction],
    starts: dict[Direction, Any],
    run: Run,
) -> dict[Direction, StageResult]:
    """The results of `fine_tune_lm` for every direction, trained at once; each gets an equal part of the time."""
    stage, word_counts = _stacked_stage(texts, settings, order, starts)
    result = run_stage(run, stage)
    return {
        direction: lm_result(
            texts, unstack(result.params, i), word_counts[direction], _report_of(result.report, direction, order)
        )
        for i, direction in enumerate(order)
    }


def _stacked_stage(
    texts: Texts, settings: LanguageModelSettings, order: Sequence[Direction], starts: dict[Direction, Any]
) -> tuple[Stage, dict[Direction, dict[str, int]]]:
    """One stage that trains the models of all directions, and the word counts of each from `adapted_params`."""
    stages: dict[Direction, Stage] = {}
    word_counts: dict[Direction, dict[str, int]] = {}
    for direction in order:
        params, word_counts[direction] = adapted_params(texts, _take_start(starts, direction, texts, settings))
        stages[direction] = lm_stage(texts, settings, params, direction)
    # Not the stages themselves, whose parameters would stay in memory.
    batches = [stage.batches for stage in stages.values()]
    evaluations = {direction: stage.evaluate for direction, stage in stages.items() if stage.evaluate is not None}

    def evaluate(params: Any, carry: Any) -> dict[str, float]:
        scores = {name: measure(unstack(params, i), ()) for i, (name, measure) in enumerate(evaluations.items())}
        each = {f"{metric}_{name}": value for name, metrics in scores.items() for metric, value in metrics.items()}
        return {"loss": float(np.mean([metrics["loss"] for metrics in scores.values()])), **each}

    stacked = replace(
        stages[order[0]],
        name=BOTH,
        clip_norm=None,  # each model clips its own gradients
        value_and_grad=partial(stacked_value_and_grad, names=list(order), clip_norm=settings.lm.clip_norm),
        params=stack([stage.params for stage in stages.values()]),
        carry=stack([stage.carry for stage in stages.values()]),
        carry_axis=1,
        batches=Batches(
            lambda step: stack([one.batch(step) for one in batches]),
            batches[0].steps_per_epoch,
            sum(one.tokens_per_epoch for one in batches),
            part=lambda step, rows: stack([one.part(step, rows) for one in batches if one.part]),
            rows=batches[0].rows,
            axis=1,
        ),
        evaluate=evaluate,
    )
    return stacked, word_counts


def _report_of(report: Mapping[str, Any], direction: Direction, order: Sequence[Direction]) -> dict[str, Any]:
    """The part of one direction in the report of all."""
    evaluations = [
        {name: line[name] for name in ("step", "epoch", "phase")}
        | {name: line[f"{name}_{direction}"] for name in ("loss", "perplexity")}
        for line in report["evaluations"]
    ]
    shares = {"seconds": report["seconds"] / len(order), "tokens": report["tokens"] // len(order)}
    return {**report, **shares, "evaluations": evaluations}
