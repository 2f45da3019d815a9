"""The job `python -m jaxft.finetune`: trains an encoder on one split, on the folds of a cross-validation, or the rows
of a comparison of techniques.

References:
    Zhang et al., Revisiting Few-sample BERT Fine-tuning, ICLR 2021.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.document import DEV, TEST, TRAIN
from jaxft.data.examples import Examples
from jaxft.data.hub import checkpoint_fingerprint
from jaxft.data.memory import PAIR_COLUMN, Table, as_table
from jaxft.errors import InputError
from jaxft.finetune.inputs import Inputs, Split, check_batches, read_inputs, split_examples
from jaxft.finetune.ladder import ladder_rows
from jaxft.finetune.plan import finetune_plan
from jaxft.finetune.preview import describe_data, preview_lines
from jaxft.finetune.scores import selection_score, task_scores
from jaxft.finetune.settings import COMMAND, Settings, Training
from jaxft.finetune.stages import (
    as_model,
    ema_decay,
    encoder_stage,
    keeps_best,
    predict_examples,
    train_encoder,
    with_thresholds,
)
from jaxft.inference.encoder import EncoderModel
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.load import MODEL, load
from jaxft.optim.phases import Plan
from jaxft.training import job
from jaxft.training.baseline import baseline_scores, linear_predictions
from jaxft.training.class_weights import class_weights
from jaxft.training.comparison import comparison_row, stage_of, train_rows, write_comparison
from jaxft.training.fitted import Fitted, fit_job
from jaxft.training.predictions import Row, classified_rows, label_set_rows, number_rows
from jaxft.training.run import Run, StageResult
from jaxft.training.scores import score_words
from jaxft.training.settings import flag
from jaxft.training.stage import Stage
from jaxft.training.summary import stage_row, trained_row

Splits = Mapping[str, Split]
SUMMED = ("seconds", "skipped_steps")
"""entries of the reports of a row of a comparison that the summary adds up"""


def prepare(settings: Settings, table: Table | None = None) -> job.Prepared:
    """Reads data and checkpoint, splits the examples and plans the stages.

    Args:
        settings: of the job.
        table: data in memory, in place of `settings.data`.

    Raises:
        InputError: bad data, checkpoint or flags.
    """
    rows = ladder_rows(settings.train, settings.ladder_rate) if settings.ladder else {"": settings.train}
    inputs = read_inputs(settings, table)
    splits = split_examples(inputs.examples, settings)
    check_batches(inputs.pieces, splits, settings.train)
    _check_selection(settings, splits)
    if settings.task == "classification":  # refused here, before there is a folder
        class_weights(settings.class_weights, inputs.examples.targets, inputs.examples.classes)
    return job.Prepared(
        settings=settings,
        inputs=(inputs, splits, rows),
        plans=plans(inputs, splits, rows),
        fingerprints={"corpus": inputs.examples.fingerprint, "checkpoint": checkpoint_fingerprint(inputs.folder)},
        data=describe_data(inputs, splits, settings),
        tokens=int(inputs.pieces.lengths.sum()),
        lines=[*preview_lines(inputs, splits), *_describe_choice(inputs, splits, settings)],
        stages=lambda: _stages(inputs, splits, rows, settings),
    )


def _check_selection(settings: Settings, splits: Splits) -> None:
    """Refuses flags that need dev or test texts where there are none."""
    if settings.ladder and not all(len(split.test) for split in splits.values()):
        raise InputError("--ladder compares test scores, and there are no test texts: give a --test-fraction above 0")
    given = [("train.keep", settings.train.keep == "best"), ("train.patience", settings.train.patience is not None)]
    for name, is_given in given:
        if is_given and not all(len(split.dev) for split in splits.values()):
            raise InputError(f"{flag(name)} needs dev texts, and there are none: give --dev-fraction, or leave it out")


def plans(inputs: Inputs, splits: Splits, rows: Mapping[str, Training]) -> dict[str, tuple[Plan, int]]:
    """The phases of each stage and its steps per epoch; of a comparison, those of the first fold of every row."""
    num_layers = inputs.encoder.config.layer_groups

    def plan_of(train: Training, split: Split) -> tuple[Plan, int]:
        steps_per_epoch = max(1, len(inputs.pieces.rows(split.train)) // train.batch_size)
        return finetune_plan(train, num_layers, steps_per_epoch), steps_per_epoch

    if len(rows) == 1:
        (train,) = rows.values()
        return {name: plan_of(train, split) for name, split in splits.items()}
    fold, split = next(iter(splits.items()))
    return {stage_of(number, fold): plan_of(train, split) for number, train in enumerate(rows.values())}


def _stages(inputs: Inputs, splits: Splits, rows: Mapping[str, Training], settings: Settings) -> Iterator[Stage]:
    """The stage of the first split of every row."""
    split = next(iter(splits.values()))
    for train in rows.values():
        yield encoder_stage(inputs, split, replace(settings, train=train), inputs.encoder.params)


def train_stages(prepared: job.Prepared, run: Run) -> dict[str, Any]:
    """Trains every model, saves and scores the result; returns entries of the summary."""
    settings, (inputs, splits, rows) = prepared.settings, prepared.inputs
    if settings.ladder:
        return _compare(inputs, splits, settings, rows, run)
    results = {
        name: run.run_once(name, lambda split=split, name=name: train_encoder(inputs, split, settings, run, name))
        for name, split in splits.items()
    }
    stages = [trained_row(name, result.report) for name, result in results.items()]
    started = time.monotonic()
    models = {
        name: with_thresholds(as_model(inputs, settings, result.params), inputs, splits[name].dev)
        for name, result in results.items()
    }
    model = Ensemble(models) if settings.folds else models["train"]
    model.save(settings.out / MODEL)
    scores = (
        _fold_scores(inputs, splits, settings, models)
        if settings.folds
        else _split_scores(inputs, splits["train"], settings, models["train"], results["train"])
    )
    pieces = inputs.pieces
    tokens = sum(int(pieces.lengths[pieces.rows(split.test)].sum()) for split in splits.values())
    stages.append(stage_row("test", time.monotonic() - started, tokens))
    entries: dict[str, Any] = {"weights": _describe_weights(inputs, splits, settings), "stages": stages}
    if len(model.thresholds):
        entries["thresholds"] = dict(zip(inputs.examples.classes, map(float, model.thresholds), strict=True))
    if settings.baseline and settings.task == "classification":
        entries |= _baseline(inputs.examples, splits)
    return {**scores, **entries}


def _split_scores(
    inputs: Inputs, split: Split, settings: Settings, model: EncoderModel, result: StageResult
) -> dict[str, Any]:
    """The dev scores of the weights that were kept and, where there are test texts, theirs."""
    scores: dict[str, Any] = {}
    if len(split.dev):
        kept = result.report.get("kept") or result.report["evaluations"][-1]
        scores["dev"] = {name: value for name, value in _numbers(kept).items() if name != "epoch"}
    if len(split.test):
        outputs = predict_examples(model, inputs, split.test)
        scores["test"] = _scores(inputs, settings, split.test, outputs, model.thresholds)
        scores["predictions"] = _predictions(inputs, settings, split.test, outputs, model.thresholds)
    return scores


def _baseline(examples: Examples, folds: Splits) -> dict[str, Any]:
    """The entry of the linear model on the test texts, or of one for each fold on those; a pair is read as one text."""
    whole = Split(examples.of(TRAIN), examples.of(DEV), examples.of(TEST))
    splits = [whole] if len(whole.test) else list(folds.values())
    if not all(len(split.test) for split in splits):
        return {}
    predictions = []
    for split in splits:
        train = np.concatenate([split.train, split.dev])
        texts, test_texts = ([" ".join(examples.texts[i]) for i in rows] for rows in (train, split.test))
        predictions.append(linear_predictions(texts, examples.targets[train].tolist(), test_texts))
    labels = np.concatenate([examples.targets[split.test] for split in splits]).tolist()
    found = [part for part in predictions if part is not None]
    classes = np.concatenate(found) if len(found) == len(splits) else None
    return {"baseline": baseline_scores(classes, labels, examples.classes)}


def _describe_choice(inputs: Inputs, splits: Splits, settings: Settings) -> list[str]:
    """The line of `_describe_weights`; none for a comparison, whose rows choose in ways of their own."""
    return [] if settings.ladder else [f"weights to keep: {_describe_weights(inputs, splits, settings)}"]


def _describe_weights(inputs: Inputs, splits: Splits, settings: Settings) -> str:
    """How the weights of the model, or of the model of each fold, are chosen."""
    train, fewest = settings.train, min(splits.values(), key=lambda split: len(split.dev))
    counts = sorted({len(split.dev) for split in splits.values()})
    texts = f"{' to '.join(map(str, counts[:: max(1, len(counts) - 1)]))} dev texts"
    if keeps_best(train, fewest):
        score, _ = selection_score(settings.task, settings.metric, inputs.examples)
        return f"those with the best {score_words(score)} on {texts}{' of the fold' if len(splits) > 1 else ''}"
    averaged = train.swa_start is not None or ema_decay(train, fewest)
    weights = "the average of the last steps" if averaged else "those of the last step"
    if train.keep == "last":
        return weights
    return f"{weights}, because {f'{texts} are too few' if counts[-1] else 'there are no dev texts'} to choose by"


def _fold_scores(
    inputs: Inputs, splits: Splits, settings: Settings, models: Mapping[str, EncoderModel]
) -> dict[str, Any]:
    """The scores of each fold, their mean, those of all folds together and, where there are any, of the test texts."""
    outputs = {name: predict_examples(models[name], inputs, split.test) for name, split in splits.items()}
    folds = {
        name: _numbers(_scores(inputs, settings, split.test, outputs[name], models[name].thresholds))
        for name, split in splits.items()
    }
    choosing, _ = selection_score(settings.task, settings.metric, inputs.examples)
    values = [fold[choosing] for fold in folds.values()]
    sd = {"sd": float(np.std(values, ddof=1))} if len(values) > 1 else {}
    all_tests = np.concatenate([split.test for split in splits.values()])
    all_outputs = np.concatenate(list(outputs.values()))
    thresholds = np.concatenate(
        [np.broadcast_to(models[name].thresholds or 0.5, part.shape) for name, part in outputs.items()]
    )
    scores: dict[str, Any] = {
        "folds": folds,
        "test_mean_of_folds": {choosing: float(np.mean(values)), **sd},
        "test_of_folds": _scores(inputs, settings, all_tests, all_outputs, thresholds),
    }
    test = inputs.examples.of(TEST)
    if not len(test):
        return {**scores, "predictions": _predictions(inputs, settings, all_tests, all_outputs, thresholds)}
    mean = np.mean([predict_examples(model, inputs, test) for model in models.values()], axis=0)
    mean_thresholds = Ensemble(models).thresholds
    scores["test"] = _scores(inputs, settings, test, mean, mean_thresholds)
    return {**scores, "predictions": _predictions(inputs, settings, test, mean, mean_thresholds)}


def _compare(
    inputs: Inputs, splits: Splits, settings: Settings, rows: Mapping[str, Training], run: Run
) -> dict[str, Any]:
    """Trains every row on every fold; each fold is scored on its test texts by the model that its dev texts chose."""
    score, _ = selection_score(settings.task, settings.metric, inputs.examples)

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
    stages = [
        trained_row(name, {**rows[0], "tokens": 0, **{key: sum(one.get(key, 0) for one in rows) for key in SUMMED}})
        for name, rows in reports.items()
    ]
    return {"comparison": table, "stages": stages}


def _scores(
    inputs: Inputs, settings: Settings, examples: np.ndarray, outputs: np.ndarray, thresholds: Any = ()
) -> dict[str, Any]:
    targets, classes = inputs.examples.targets[examples], inputs.examples.classes
    return task_scores(settings.task, targets, outputs, classes, settings.metric, thresholds)


def _predictions(
    inputs: Inputs, settings: Settings, examples: np.ndarray, outputs: np.ndarray, thresholds: Any
) -> list[Row]:
    """What the model answered on each of the examples."""
    texts = [" / ".join(inputs.examples.texts[i]) for i in examples]
    targets, classes = inputs.examples.targets[examples], inputs.examples.classes
    if settings.task == "classification":
        return classified_rows(texts, targets, outputs, classes)
    if settings.task == "regression":
        return number_rows(texts, targets, outputs[:, 0])
    return label_set_rows(texts, targets, outputs, 0.5 if not len(thresholds) else thresholds, classes)


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _hint(settings: Settings) -> str:
    if settings.ladder:
        return f"{settings.out}: summary.json, metrics.jsonl, comparison.md and plots/comparison.png"
    return job.predict_hint(settings)


def _batch_sizes(settings: Settings) -> dict[str, tuple[int, int]]:
    return {"train.batch_size": (settings.train.batch_size, settings.train.accumulation)}


JOB = job.Job("finetune", prepare, train_stages, _hint, repeat="fold", batch_sizes=_batch_sizes)
train = JOB.run


def fit(
    data: Any,
    labels: Any = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    preset: str = "default",
    **settings: Any,
) -> Fitted:
    """Fine-tunes an encoder on texts with classes, numbers or sets of labels.

    It gives the same model as the command line with the same settings.

    Args:
        data: a name or path, as `--data` takes it; N texts, or tuples of two texts; a mapping from columns to
            values; a data frame of pandas, polars or pyarrow; or a `Dataset` or `DatasetDict` of Hugging Face. The
            columns are `text`, `label` and, where there is one, `split`; `text_column` and the like name others.
        labels: N classes, numbers or lists of labels, where `data` are texts; see the setting `task`.
        out: folder of the run; None keeps nothing on the disk.
        resume: whether to go on with the run in `out` where it stopped.
        preset: name of the settings to start from.
        settings: settings of `jaxft.finetune.settings.Settings` by name; those of a stage as a mapping, such as
            `train={"epochs": 4}`.

    Returns:
        The finished model, with its `summary`, `run` and plots.

    Raises:
        TypeError: a name that is no setting; the message names the nearest.
        InputError: bad data or settings; it is a `ValueError`.
        Stopped: Ctrl-C or SIGTERM has come; with `out`, `resume=True` goes on.

    Examples:
        `fit(texts, stars, model="roberta-base", task="regression").predict("A lovely film.")` answers with a number,
        where `stars` are the numbers of the texts. A misspelt setting is refused:

        >>> fit(["fine", "dull"], ["pos", "neg"], model="minilm", train={"epoch": 4})
        Traceback (most recent call last):
        TypeError: 'train.epoch' is not a setting: do you mean 'train.epochs'?
    """
    source = as_table(data, labels, pairs=True)
    if isinstance(source, Table) and PAIR_COLUMN in source.columns:
        settings.setdefault("pair_column", PAIR_COLUMN)
    return fit_job(JOB, COMMAND, load, source, out=out, resume=resume, settings={"preset": preset, **settings})
