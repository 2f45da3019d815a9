"""ULMFiT from raw texts to a classifier: `python -m jaxft.ulmfit --data imdb`.

The job runs the stages of `jaxft.ulmfit.stages` in a run folder, from which it can be resumed, and measures the result
on the test texts once. From Python, the stages are here under the same names.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.document import Direction
from jaxft.data.splits import Texts
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.load import LANGUAGE_MODELS, MODEL
from jaxft.inference.text_classifier import TextClassifier
from jaxft.language_model.both_directions import train_lms
from jaxft.language_model.pretrained import is_one_direction, open_pretrained
from jaxft.language_model.preview import preview
from jaxft.language_model.stage import (
    LANGUAGE_MODEL,
    as_language_model,
    directions,
    encoder_config,
    fine_tune_lm,
    lm_plan,
    pretrain_lm,
    stage_name,
)
from jaxft.training import plots, report, summary
from jaxft.training.job import begin, draw_training, identity, new_run_folder, pick, stage_row
from jaxft.training.process import set_up
from jaxft.training.stage import Run, StageResult, read_stage
from jaxft.ulmfit.presets import PRESETS, parse
from jaxft.ulmfit.settings import Model, Settings, flatten
from jaxft.ulmfit.stages import (
    CLASSIFIER,
    as_classifier,
    plans,
    predict,
    probabilities_of_test,
    read_texts,
    train_classifier,
)

__all__ = ["fine_tune_lm", "lm_plan", "plans", "predict", "pretrain_lm", "probabilities_of_test"]
__all__ += ["read_texts", "train", "train_classifier"]

LanguageModels = dict[Direction, StageResult]


def train(settings: Settings) -> dict[str, Any]:
    """Runs the whole job in the folder `settings.out` and returns its summary.

    Raises:
        InputError: bad data, flags or folder; nothing is left behind.
        Stopped: the run was asked to stop; `settings.resume` goes on with it.
    """
    with new_run_folder(settings.out, settings.resume) as folder:
        starts = open_starts(settings)
        settings = with_sizes_of(starts, settings)
        started = time.monotonic()
        texts = read_texts(settings)
        text_seconds = time.monotonic() - started
        planned = plans(texts, settings)
        config = identity(settings, texts.fingerprint)
        lms = _lent(texts, settings, config)
        begin(folder, settings.resume, config, texts.store.vocabulary)
    classified: dict[Direction, StageResult] = {}
    with Run(folder, log_every=settings.log_every, checkpoint_seconds=60 * settings.checkpoint_minutes) as run:
        if not lms and lm_plan(settings):
            lms = train_lms(texts, settings, settings.direction, starts, run)
        for direction in directions(settings.direction):
            lm = lms.get(direction)
            if lm is not None:
                generator = as_language_model(texts, settings, lm.params, direction)
                generator.save(folder / LANGUAGE_MODELS[direction])
            classified[direction] = _classifier(texts, settings, run, direction, lm)
    members = tuple(as_classifier(texts, settings, result, direction) for direction, result in classified.items())
    model = members[0] if len(members) == 1 else Ensemble({member.direction: member for member in members})
    model.save(folder / MODEL)
    started = time.monotonic()
    tested = _test(members, texts, settings)
    test_row = stage_row("test", time.monotonic() - started, int(texts.store.lengths[texts.test].sum()))
    text_row = stage_row("text", text_seconds, int(texts.store.lengths.sum()))
    result = {
        "data": {
            "name": texts.name,
            "sizes": {
                "train": len(texts.train),
                "dev": len(texts.dev),
                "test": len(texts.test),
                "language-model texts": len(texts.lm_train),
            },
            "classes": texts.store.classes,
            "transductive": settings.transductive,
            "vocabulary": len(texts.store.vocabulary),
        },
        **_held_out(lms, classified),
        **tested,
        "stages": [text_row, *_stage_rows(lms, classified), test_row],
        "peak_memory_mb": summary.peak_memory_mb(),
        "environment": summary.environment(),
        "config": config,
    }
    report.write_json(folder / "summary.json", result)
    draw_training(folder, planned)
    plots.plot_confusion(result["test"]["confusion_matrix"], texts.store.classes, folder / "plots/confusion.png")
    return result


def open_starts(settings: Settings) -> dict[Direction, TextLanguageModel]:
    """The pretrained language models of each direction; none without `--pretrained`.

    Raises:
        InputError: as `open_pretrained`; or flags that leave it without effect.
    """
    if settings.pretrained is None:
        return {}
    if settings.language_model is not None or not settings.lm.epochs:
        other = "--language-model" if settings.language_model is not None else "--lm.epochs 0"
        raise InputError(f"--pretrained has no effect together with {other}: leave one of the two out")
    if settings.direction == "both" and is_one_direction(settings.pretrained):
        raise InputError(
            f"--pretrained {settings.pretrained} is a model of one direction: train the two in turn with --direction "
            "forward and backward, or name fastai or a run that has both"
        )
    return {d: open_pretrained(settings.pretrained, d) for d in directions(settings.direction)}


def with_sizes_of(starts: Mapping[Direction, TextLanguageModel], settings: Settings) -> Settings:
    """The settings with the sizes of the pretrained models.

    Raises:
        InputError: flags that ask for other sizes, or two models of different sizes.
    """
    found = {Model(s.config.embedding_size, s.config.hidden_size, s.config.num_layers) for s in starts.values()}
    if not found:
        return settings
    sizes = found.pop()
    if found:
        raise InputError(f"--pretrained {settings.pretrained} has models of two sizes: train the two in turn")
    if settings.model not in (PRESETS[settings.preset].model, sizes):
        raise InputError(
            f"--pretrained {settings.pretrained} has the sizes {sizes.embedding_size}, {sizes.hidden_size} and "
            f"{sizes.num_layers} layers: leave out the --model flags, which ask for others"
        )
    return replace(settings, model=sizes)


def _classifier(
    texts: Texts, settings: Settings, run: Run, direction: Direction, lm: StageResult | None
) -> StageResult:
    """The classifier that this run has trained or trains now."""
    stage = stage_name(CLASSIFIER, direction)
    result = run.finished(stage)
    if result is None:
        result = train_classifier(texts, settings, lm and lm.params, run, direction)[1]
        run.finish({stage: result})
    return result


def _lent(texts: Texts, settings: Settings, config: Mapping[str, Any]) -> LanguageModels:
    """The language models of another run, if they fit this one: same texts, same splits, same sizes.

    Raises:
        InputError: they do not, or those that this run starts from do not.
    """
    _refuse_leak(settings, config)
    folder = settings.language_model
    if folder is None:
        return {}
    results: LanguageModels = {}
    for direction in directions(settings.direction):
        result = read_stage(folder, stage_name(LANGUAGE_MODEL, direction))
        if result is None:
            raise InputError(
                f"--language-model {folder} holds no trained {direction} language model: name the folder of a run"
            )
        results[direction] = replace(result, report={**result.report, "seconds": 0.0, "tokens": 0})
    theirs, ours = flatten(report.read_json(folder / "config.json")), flatten(config)
    # With other splits the language model could have read this run's dev texts.
    same = ("corpus", "seed", "transductive", "classifier.dev_fraction")
    for name in (*same, *(name for name in ours if name.startswith(("model.", "text.")))):
        if theirs.get(name) != ours[name]:
            raise InputError(
                f"the language model in {folder} was trained with another {name} ({theirs.get(name)}, here "
                f"{ours[name]}): give the same data and flags, or train one here"
            )
    lent, wanted = theirs.get("limit_labels"), settings.limit_labels
    if lent is not None and (wanted is None or wanted > lent):
        raise InputError(
            f"the language model in {folder} was trained with --limit-labels {lent} and may have read texts that this "
            f"run holds out: give --limit-labels {lent} or fewer here"
        )
    if Vocabulary.load(folder / "vocabulary.json") != texts.store.vocabulary:
        raise InputError(f"the language model in {folder} has another vocabulary: train one on these texts")
    return results


def _refuse_leak(settings: Settings, config: Mapping[str, Any]) -> None:
    """Refuses to start from a model that has read, of the same texts, what this run holds out."""
    path = Path(settings.pretrained or "") / "config.json"
    if settings.pretrained is None or not path.is_file():
        return
    theirs, ours = flatten(report.read_json(path)), flatten(config)
    if theirs.get("corpus") != ours["corpus"]:
        return
    for name in ("seed", "transductive", "classifier.dev_fraction"):
        if theirs.get(name) != ours[name]:
            raise InputError(
                f"--pretrained {settings.pretrained} is a model of the same texts with another {name} "
                f"({theirs.get(name)}, here {ours[name]}), which may have read what is held out here: give the same"
            )


def _test(members: Sequence[TextClassifier], texts: Texts, settings: Settings) -> dict[str, Any]:
    """The scores on the test texts, of every direction and of their averaged probabilities where there are two."""
    labels, classes = texts.store.labels[texts.test].tolist(), texts.store.classes
    parts = [probabilities_of_test(member, texts, settings) for member in members]
    scores: dict[str, Any] = {}
    if len(members) > 1:
        for member, part in zip(members, parts, strict=True):
            alone = summary.classification_summary(labels, part.argmax(axis=1).tolist(), classes)
            scores[f"test_{member.direction}"] = pick(alone, "accuracy", "accuracy_interval", "macro_f1")
    predictions = np.mean(parts, axis=0).argmax(axis=1)
    return {**scores, "test": summary.classification_summary(labels, predictions.tolist(), classes)}


def _held_out(lms: LanguageModels, classified: Mapping[Direction, StageResult]) -> dict[str, Any]:
    """What the stages measured on texts that they held out."""
    scores: dict[str, Any] = {}
    for direction, lm in lms.items():
        words = [name for name in ("matched_words", "new_words") if name in lm.report]
        measured = pick(lm.report, "valid_loss", "perplexity", "valid_tokens", *words)
        scores[stage_name(LANGUAGE_MODEL, direction)] = measured
    for direction, result in classified.items():
        scores[stage_name("dev", direction)] = pick(result.report["kept"], "accuracy", "loss")
    return scores


def _stage_rows(lms: LanguageModels, classified: Mapping[Direction, StageResult]) -> list[dict[str, Any]]:
    return [
        stage_row(stage_name(name, direction).replace("_", " "), result.report["seconds"], result.report["tokens"])
        for name, results in ((LANGUAGE_MODEL, lms), (CLASSIFIER, classified))
        for direction, result in results.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    settings = parse(arguments)
    set_up()
    if settings.dry_run:
        settings = with_sizes_of(open_starts(settings), settings)
        texts = read_texts(settings)
        _lent(texts, settings, identity(settings, texts.fingerprint))
        print(preview(texts, settings, plans(texts, settings), encoder_config(texts, settings)))
        return
    print(summary.summary_table(train(settings)))
    print(f"\n{settings.out}: summary.json, metrics.jsonl, plots/ and model/; classify a text of your own with")
    print(f"python -m jaxft.predict {settings.out} --text '...'")
