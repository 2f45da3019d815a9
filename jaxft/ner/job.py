"""The job `python -m jaxft.ner`: trains a tagger once, with several seeds, or with several schedules to compare.

References:
    Huang, Xu & Yu, Bidirectional LSTM-CRF Models for Sequence Tagging, 2015.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.base.sharding import by_rows
from jaxft.data.duplicates import count_duplicates, describe_duplicates, text_key
from jaxft.data.hub import checkpoint_fingerprint
from jaxft.data.memory import Table, as_table
from jaxft.data.spans import read_spans
from jaxft.data.vocabulary import Vocabulary
from jaxft.inference.load import MODEL, load
from jaxft.ner.inputs import Inputs, describe_data, read_inputs
from jaxft.ner.settings import COMMAND, Settings, comparison_settings
from jaxft.ner.stages import SCORE, as_model, ner_plan, part_scores, tagger_stage, train_tagger
from jaxft.optim.phases import Plan
from jaxft.training import job
from jaxft.training.comparison import comparison_row, stage_of, train_rows, write_comparison
from jaxft.training.fitted import Fitted, fit_job
from jaxft.training.predictions import Row, entity_row
from jaxft.training.run import Run, StageResult
from jaxft.training.summary import trained_row

TAGGER = "tagger"
"""the stage of a run that trains once, in logs and file names"""


def prepare(settings: Settings, table: Table | None = None) -> job.Prepared:
    """Reads the sentences and the encoder, and plans the stages.

    Args:
        settings: of the job.
        table: data in memory, in place of the files that the settings name.

    Raises:
        InputError: bad data, checkpoint or flags.
    """
    inputs = read_inputs(settings, table)
    splits, duplicates = _duplicates(inputs)
    data = {**describe_data(inputs), "duplicates": duplicates}
    checkpoint = {} if inputs.folder is None else {"checkpoint": checkpoint_fingerprint(inputs.folder)}
    return job.Prepared(
        settings=settings,
        inputs=inputs,
        plans=plans(inputs, settings),
        fingerprints={"corpus": inputs.fingerprint, **checkpoint},
        data=data,
        tokens=sum(int((pieces.tags >= 0).sum()) for pieces in inputs.pieces.values()),
        lines=[*_describe_sentences(data), *describe_duplicates(duplicates, splits, "sentence"), *inputs.lines],
        stages=lambda: (tagger_stage(inputs, row) for row in comparison_settings(settings).values()),
    )


def _duplicates(inputs: Inputs) -> tuple[dict[str, range], dict[str, int]]:
    """The numbers of the sentences of each part, counted through all, and how many of them occur more than once."""
    splits: dict[str, range] = {}
    keys: list[int] = []
    for part, sentences in inputs.sentences.items():
        splits[part] = range(len(keys), len(keys) + len(sentences))
        keys += [text_key(*sentence.tokens) for sentence in sentences]
    arrays = {part: np.array(numbers, np.int64) for part, numbers in splits.items()}
    return splits, count_duplicates(np.array(keys, np.int64), None, arrays)


def plans(inputs: Inputs, settings: Settings) -> dict[str, tuple[Plan, int]]:
    """The phases of the first run of every row, and its steps per epoch."""
    steps_per_epoch = max(1, len(inputs.pieces["train"].lengths) // settings.train.batch_size)
    return {
        _stage_names(settings)(number, "run_1"): (ner_plan(row, inputs.fns.encoder, steps_per_epoch), steps_per_epoch)
        for number, row in enumerate(comparison_settings(settings).values())
    }


def _stage_names(settings: Settings) -> Callable[[int, str], str]:
    """The names of the stages by row and repeat."""
    return stage_of if settings.compare or settings.repeats > 1 else lambda row, repeat: TAGGER


def train_stages(prepared: job.Prepared, run: Run) -> dict[str, Any]:
    """Trains every row as often as it is repeated and keeps the model with the best dev score; returns summary entries.

    The report of a run that is finished holds its scores; its weights are only kept in the model's folder.
    """
    settings, inputs = prepared.settings, prepared.inputs
    rows = comparison_settings(settings)
    seeds = {f"run_{number + 1}": settings.seed + number for number in range(settings.repeats)}
    runs: list[dict[str, Any]] = []
    if isinstance(inputs.tokenizer, Vocabulary) and (settings.out / MODEL).is_dir():
        inputs.tokenizer.save(settings.out / MODEL / "vocabulary.json")  # a resumed run may find it damaged

    def train(row: Settings, repeat: str, stage: str) -> StageResult:
        best = max((one["dev"][SCORE] for one in runs), default=-1.0)
        return _train_once(inputs, row, run, stage, seeds[repeat], best)

    for name, repeat, stage, report in train_rows(run, rows, list(seeds), train, _stage_names(settings)):
        runs.append({"name": name, "stage": stage, "seed": seeds[repeat], **report})
    best = max(runs, key=lambda one: one["dev"][SCORE])
    entries = {"runs": runs, "kept": best["stage"], "dev": best["dev"]}
    if "test" in best:
        entries |= {"test": best["test"], "predictions": _predictions(inputs, settings)}
    if len(runs) > 1:
        entries["comparison"] = _comparison(runs, list(rows))
        write_comparison(run.folder, entries["comparison"], JOB.repeat)
    return {**entries, "stages": [trained_row(one["stage"], one) for one in runs]}


def _train_once(inputs: Inputs, settings: Settings, run: Run, stage: str, seed: int, best: float) -> StageResult:
    """Trains and scores one model, and saves it where its dev score is above `best`."""
    result = train_tagger(inputs, settings, run, stage, seed)
    decode, batch_size = by_rows(inputs.fns.decode), settings.train.eval_batch_size
    scores = {part: part_scores(inputs, part, decode, result.params, batch_size) for part in inputs.scored_parts}
    if scores["dev"][SCORE] > best:
        as_model(inputs, settings, result.params).save(settings.out / MODEL)
    wanted = ("seconds", "tokens", "steps", "skipped_steps", "devices", "rows_per_device")
    report = {name: result.report[name] for name in wanted if name in result.report}
    return StageResult({}, {}, {**report, **scores})


def _predictions(inputs: Inputs, settings: Settings) -> list[Row]:
    """The entities that the kept model finds in each test sentence, and its loss; see `EntityTagger.judge`."""
    sentences = inputs.sentences["test"]
    model = load(settings.out / MODEL)
    judged = model.judge([sentence.tokens for sentence in sentences], [sentence.tags for sentence in sentences])
    space = "" if inputs.unit == "characters" else " "
    return [
        entity_row(sentence.tokens, read_spans(sentence.tags), entities, loss, space)
        for sentence, (entities, loss) in zip(sentences, judged, strict=True)
    ]


def _comparison(runs: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """The rows of the comparison by the F1 of the test sentences, or of dev where there are none."""
    part = "test" if "test" in runs[0] else "dev"
    rows = []
    for name in names:
        reports = [report for report in runs if report["name"] == name]
        scores, seconds = [report[part][SCORE] for report in reports], [report["seconds"] for report in reports]
        rows.append(comparison_row(name, f"{part} {SCORE}", scores, seconds))
    return rows


def _describe_sentences(data: Mapping[str, Any]) -> list[str]:
    sizes = ", ".join(f"{count:,} {part}" for part, count in data["sizes"].items())
    entities = ", ".join(f"{count:,}" for count in data["entities"].values())
    lines = [f"{data['name']}: {sizes} sentences with {entities} entities of {len(data['classes'])} types"]
    orphans = {part: count for part, count in data["orphans"].items() if count}
    if orphans:
        counts = ", ".join(f"{count:,} of {data['entities'][part]:,} in {part}" for part, count in orphans.items())
        lines.append(f"entities whose first tag is I or E, as in IOB1 (they count as entities): {counts}")
    return lines


def _batch_sizes(settings: Settings) -> dict[str, tuple[int, int]]:
    return {"train.batch_size": (settings.train.batch_size, 1)}


JOB = job.Job("ner", prepare, train_stages, batch_sizes=_batch_sizes)
train = JOB.run


def fit(
    data: Any,
    labels: Any = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    preset: str = "auto",
    **settings: Any,
) -> Fitted:
    """Trains a tagger on sentences with marked entities.

    It gives the same model as the command line with the same settings.

    Args:
        data: a path, as `--data` takes it; N sentences as lists of tokens, or N texts; or a mapping from columns to
            values, a data frame, or a `Dataset` or `DatasetDict` of Hugging Face, with the columns that
            `jaxft.data.tagged_table.read_tagged_table` names.
        labels: for each sentence a list of tags, or for each text a list of its entities, mappings with `start`, `end`
            and `type` in characters, the end excluded.
        out: folder of the run; None keeps nothing on the disk.
        resume: whether to go on with the run in `out` where it stopped.
        preset: name of the settings to start from.
        settings: settings of `jaxft.ner.settings.Settings` by name; those of a stage as a mapping, such as
            `train={"epochs": 4}`.

    Returns:
        The finished model, with its `summary`, `run` and plots.

    Raises:
        TypeError: a name that is no setting; the message names the nearest.
        InputError: bad data or settings; it is a `ValueError`.
        Stopped: Ctrl-C or SIGTERM has come; with `out`, `resume=True` goes on.

    Examples:
        `fit(sentences, tags).predict("Ada left Paris.")` answers with entities, where `sentences` are lists of tokens
        and `tags` lists of their tags. A setting of a stage that is not given in its mapping is refused:

        >>> fit([["Ada", "left"]], [["B-PER", "O"]], epochs=4)
        Traceback (most recent call last):
        TypeError: 'epochs' is not a setting: give train={'epochs': ...}
    """
    source = as_table(data, labels)
    return fit_job(JOB, COMMAND, load, source, out=out, resume=resume, settings={"preset": preset, **settings})
