"""The job `python -m jaxft.finetune`: trains an encoder on one split, on the folds of a cross-validation, or the rows
of a comparison of techniques.

References:
    Zhang et al., Revisiting Few-sample BERT Fine-tuning, ICLR 2021.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxft.data.document import DEV, TEST, TRAIN
from jaxft.data.hub import checkpoint_fingerprint
from jaxft.finetune.inputs import Inputs, Split, read_inputs, split_examples
from jaxft.finetune.ladder import ladder_rows
from jaxft.finetune.plan import finetune_plan
from jaxft.finetune.scores import SELECTION_SCORES, task_scores
from jaxft.finetune.settings import Settings, Training
from jaxft.finetune.stages import as_model, predict_examples, train_encoder
from jaxft.inference.encoder import EncoderModel
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.load import MODEL
from jaxft.optim.phases import Plan
from jaxft.training import job
from jaxft.training.comparison import comparison_row, stage_of, train_rows, write_comparison
from jaxft.training.run import Run, StageResult
from jaxft.training.summary import stage_row

Splits = Mapping[str, Split]


def prepare(settings: Settings) -> job.Prepared:
    """Reads data and checkpoint, splits the examples and plans the stages.

    Raises:
        InputError: bad data, checkpoint or flags.
    """
    rows = ladder_rows(settings.train, settings.ladder_rate) if settings.ladder else {"": settings.train}
    inputs = read_inputs(settings)
    splits = split_examples(inputs.examples, settings)
    return job.Prepared(
        settings=settings,
        inputs=(inputs, splits, rows),
        plans=plans(inputs, splits, rows),
        fingerprints={"corpus": inputs.examples.fingerprint, "checkpoint": checkpoint_fingerprint(inputs.folder)},
        data=_describe_data(inputs, splits, settings),
        tokens=int(inputs.pieces.lengths.sum()),
        lines=_describe_inputs(inputs, splits),
    )


def plans(inputs: Inputs, splits: Splits, rows: Mapping[str, Training]) -> dict[str, tuple[Plan, int]]:
    """The phases of each stage and its steps per epoch; of a comparison, those of the first fold of every row."""
    num_layers = inputs.encoder.config.num_layers

    def plan_of(train: Training, split: Split) -> tuple[Plan, int]:
        steps_per_epoch = max(1, len(split.train) // train.batch_size)
        return finetune_plan(train, num_layers, steps_per_epoch), steps_per_epoch

    if len(rows) == 1:
        (train,) = rows.values()
        return {name: plan_of(train, split) for name, split in splits.items()}
    fold, split = next(iter(splits.items()))
    return {stage_of(number, fold): plan_of(train, split) for number, train in enumerate(rows.values())}


def train_stages(prepared: job.Prepared, run: Run) -> dict[str, Any]:
    """Trains every model, saves and scores the result; returns entries of the summary."""
    settings, (inputs, splits, rows) = prepared.settings, prepared.inputs
    if settings.ladder:
        return _compare(inputs, splits, settings, rows, run)
    results = {
        name: run.run_once(name, lambda split=split, name=name: train_encoder(inputs, split, settings, run, name))
        for name, split in splits.items()
    }
    stages = [stage_row(name, result.report["seconds"], result.report["tokens"]) for name, result in results.items()]
    started = time.monotonic()
    models = {name: as_model(inputs, settings, result.params) for name, result in results.items()}
    model = Ensemble(models) if settings.folds else models["train"]
    model.save(settings.out / MODEL)
    entries = (
        _fold_scores(inputs, splits, settings, models)
        if settings.folds
        else _split_scores(inputs, splits["train"], settings, models["train"], results["train"])
    )
    tokens = sum(int(inputs.pieces.lengths[split.test].sum()) for split in splits.values())
    return {**entries, "stages": [*stages, stage_row("test", time.monotonic() - started, tokens)]}


def _split_scores(
    inputs: Inputs, split: Split, settings: Settings, model: EncoderModel, result: StageResult
) -> dict[str, Any]:
    """The dev scores of the weights that were kept and, where there are test texts, theirs."""
    kept = result.report.get("kept") or result.report["evaluations"][-1]
    scores: dict[str, Any] = {"dev": {name: value for name, value in _numbers(kept).items() if name != "epoch"}}
    if len(split.test):
        scores["test"] = _scores(inputs, settings, split.test, predict_examples(model, inputs, split.test))
    return scores


def _fold_scores(
    inputs: Inputs, splits: Splits, settings: Settings, models: Mapping[str, EncoderModel]
) -> dict[str, Any]:
    """The scores of each fold, their mean, those of all folds together and, where there are any, of the test texts."""
    outputs = {name: predict_examples(models[name], inputs, split.test) for name, split in splits.items()}
    folds = {name: _numbers(_scores(inputs, settings, split.test, outputs[name])) for name, split in splits.items()}
    choosing, _ = SELECTION_SCORES[settings.task]
    values = [fold[choosing] for fold in folds.values()]
    sd = {"sd": float(np.std(values, ddof=1))} if len(values) > 1 else {}
    all_tests = np.concatenate([split.test for split in splits.values()])
    scores: dict[str, Any] = {
        "folds": folds,
        "test_mean_of_folds": {choosing: float(np.mean(values)), **sd},
        "test_of_folds": _scores(inputs, settings, all_tests, np.concatenate(list(outputs.values()))),
    }
    test = inputs.examples.of(TEST)
    if len(test):
        mean = np.mean([predict_examples(model, inputs, test) for model in models.values()], axis=0)
        scores["test"] = _scores(inputs, settings, test, mean)
    return scores


def _compare(
    inputs: Inputs, splits: Splits, settings: Settings, rows: Mapping[str, Training], run: Run
) -> dict[str, Any]:
    """Trains every row on every fold; each fold is scored on its test texts by the model that its dev texts chose."""
    score, _ = SELECTION_SCORES[settings.task]

    def train(training: Training, fold: str, stage: str) -> StageResult:
        row_settings, test = replace(settings, train=training), splits[fold].test
        result = train_encoder(inputs, splits[fold], row_settings, run, stage)
        outputs = predict_examples(as_model(inputs, row_settings, result.params), inputs, test)
        return StageResult({}, {}, {**result.report, "score": _scores(inputs, settings, test, outputs)[score]})

    reports: dict[str, list[dict[str, Any]]] = {}
    table: list[dict[str, Any]] = []
    for name, _, _, report in train_rows(run, rows, list(splits), train):
        reports.setdefault(name, []).append(report)
        if len(reports[name]) == len(splits):
            scores, seconds = ([report[key] for report in reports[name]] for key in ("score", "seconds"))
            table.append(comparison_row(name, score, scores, seconds))
            write_comparison(run.folder, table, JOB.repeat)
    stages = [stage_row(row["name"], row["seconds"] * len(splits), 0) for row in table]
    return {"comparison": table, "stages": stages}


def _scores(inputs: Inputs, settings: Settings, examples: np.ndarray, outputs: np.ndarray) -> dict[str, Any]:
    return task_scores(settings.task, inputs.examples.targets[examples], outputs, inputs.examples.classes)


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _describe_data(inputs: Inputs, splits: Splits, settings: Settings) -> dict[str, Any]:
    examples = inputs.examples
    sizes = {name: len(examples.of(split)) for name, split in (("train", TRAIN), ("dev", DEV), ("test", TEST))}
    folds = {name: [len(split.train), len(split.dev), len(split.test)] for name, split in splits.items()}
    return {
        "name": examples.name,
        "sizes": {name: count for name, count in sizes.items() if count},
        "folds": folds if settings.folds else {},
        "classes": examples.classes,
        "truncated": inputs.pieces.truncated,
    }


def _describe_inputs(inputs: Inputs, splits: Splits) -> list[str]:
    pieces = inputs.pieces
    return [
        f"{inputs.examples.name}: {len(pieces.lengths):,} texts of {pieces.lengths.mean():.0f} word pieces on average, "
        f"padded to {', '.join(map(str, pieces.widths()))}; {pieces.truncated:,} texts are cut",
        *(
            f"{name}: {len(split.train):,} train, {len(split.dev):,} dev, {len(split.test):,} test"
            for name, split in splits.items()
        ),
    ]


def _hint(settings: Settings) -> str:
    if settings.ladder:
        return f"{settings.out}: summary.json, metrics.jsonl, comparison.md and plots/comparison.png"
    return job.predict_hint(settings)


JOB = job.Job(prepare, train_stages, _hint, repeat="fold")
train = JOB.run
