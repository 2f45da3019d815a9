"""The language models of every direction that a job asks for: two train in one program, and are kept one by one."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxft.data.document import Direction
from jaxft.data.splits import Texts
from jaxft.language_model.stage import (
    LANGUAGE_MODEL,
    LanguageModelSettings,
    begin_with,
    directions,
    encoder_config,
    fine_tune_lm,
    lm_evaluation,
    lm_result,
    lm_stream,
    random_lm,
    run_lm,
    stage_name,
)
from jaxft.models.awd_lstm import initial_carry
from jaxft.optim.stacked_models import member, member_gradients, stack
from jaxft.training.job import pick
from jaxft.training.stage import Run, StageResult
from jaxft.ulmfit.settings import Directions

TOGETHER = stage_name(LANGUAGE_MODEL, "both")
"""the stage of two language models in one program"""


def train_lms(
    texts: Texts, settings: LanguageModelSettings, wanted: Directions, starts: dict[Direction, Any], run: Run
) -> dict[Direction, StageResult]:
    """The language models of the wanted directions: those that the run has finished, and the others, trained now.

    Two are trained in one program, as their windows have the same shapes, unless each has to choose for itself when
    its average begins (nt-asgd).

    Args:
        texts, settings, run: as in `pretrain_lm`.
        wanted: forward, backward or both.
        starts: what `fine_tune_lm` starts from, by direction, taken out where it is used; others start from random
            weights.

    Raises:
        InputError, Stopped: as `pretrain_lm`.
    """
    names: dict[Direction, str] = {direction: stage_name(LANGUAGE_MODEL, direction) for direction in directions(wanted)}
    results: dict[Direction, StageResult] = {}
    if not run.position(TOGETHER):  # else it was stopped before all of its results were stored
        for direction, name in names.items():
            if (result := run.finished(name)) is not None:
                results[direction] = result
    missing: list[Direction] = [direction for direction in names if direction not in results]
    if len(missing) > 1 and settings.lm.average != "nt-asgd":
        results = _train_together(texts, settings, missing, starts, run)
        run.finish({names[direction]: result for direction, result in results.items()})
        return results
    for direction in missing:
        start = _taken(starts, direction, texts, settings)
        results[direction] = fine_tune_lm(texts, settings, start, run, direction)
        run.finish({names[direction]: results[direction]})
    return results


def _taken(starts: dict[Direction, Any], direction: Direction, texts: Texts, settings: LanguageModelSettings) -> Any:
    start = starts.pop(direction, None)
    return random_lm(texts, settings) if start is None else start


def _train_together(
    texts: Texts,
    settings: LanguageModelSettings,
    members: Sequence[Direction],
    starts: dict[Direction, Any],
    run: Run,
) -> dict[Direction, StageResult]:
    """What `fine_tune_lm` makes of each start, at once; time is shared out evenly."""
    stage, params, words = settings.lm, [], []
    for direction in members:
        own, known = begin_with(texts, _taken(starts, direction, texts, settings))
        params.append(own)
        words.append(known)
    params = stack(params)
    streams = [lm_stream(texts, settings, direction) for direction in members]
    evaluations = [lm_evaluation(texts, settings, texts.lm_valid, direction) for direction in members]

    def evaluate(params: Any, carry: Any) -> dict[str, float]:
        scores = [evaluation(member(params, i)) for i, evaluation in enumerate(evaluations)]
        each = {f"{k}_{d}": value for d, own in zip(members, scores, strict=True) for k, value in own.items()}
        return {"loss": float(np.mean([own["loss"] for own in scores])), **each}

    result = run_lm(
        texts,
        settings,
        run,
        "both",
        clip_norm=None,
        gradient=partial(member_gradients, names=members, clip_norm=stage.clip_norm),
        stream=streams[0],
        params=params,
        carry=stack([initial_carry(encoder_config(texts, settings), stage.batch_size)] * len(members)),
        batch=lambda step: stack([stream.batch(step) for stream in streams]),
        evaluate=evaluate,
    )
    return {
        direction: lm_result(texts, member(result.params, i), words[i], _own_report(result.report, direction, members))
        for i, direction in enumerate(members)
    }


def _own_report(report: dict[str, Any], direction: Direction, members: Sequence[Direction]) -> dict[str, Any]:
    """One direction's part of the report of all."""
    evaluations = [
        pick(line, "step", "epoch", "phase") | {name: line[f"{name}_{direction}"] for name in ("loss", "perplexity")}
        for line in report["evaluations"]
    ]
    shares = {"seconds": report["seconds"] / len(members), "tokens": report["tokens"] // len(members)}
    return {**report, **shares, "evaluations": evaluations}
