"""The job `python -m jaxft.ulmfit`: reads texts, trains language models and classifiers, measures on the test texts.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.data.document import Direction
from jaxft.data.splits import Texts
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.load import LANGUAGE_MODELS, MODEL
from jaxft.inference.text_classifier import TextClassifier
from jaxft.language_model.both_directions import train_lms
from jaxft.language_model.estimate import describe_sizes, stage_seconds
from jaxft.language_model.stage import (
    LANGUAGE_MODEL,
    as_language_model,
    directions,
    encoder_config,
    lm_plan,
    stage_name,
)
from jaxft.training import job
from jaxft.training.run import Run, StageResult
from jaxft.training.run_folder import run_config
from jaxft.training.scores import classification_scores
from jaxft.training.summary import stage_row
from jaxft.ulmfit.settings import Settings
from jaxft.ulmfit.stages import CLASSIFIER, as_classifier, plans, read_texts, test_probabilities, train_classifier
from jaxft.ulmfit.starts import borrowed_language_models, open_starts, with_sizes_of


@dataclass(frozen=True)
class Inputs:
    """What the stages start from.

    Attributes:
        texts: ids and splits.
        starts: pretrained language models to fine-tune, by direction; an entry is removed when it is used.
        borrowed: language models of another run on the same texts, by direction.
    """

    texts: Texts
    starts: dict[Direction, TextLanguageModel]
    borrowed: Mapping[Direction, StageResult]


def prepare(settings: Settings) -> job.Prepared:
    """Reads texts and pretrained models, and plans the stages.

    Raises:
        InputError: bad data, models or flags.
    """
    starts = open_starts(settings)
    settings = with_sizes_of(starts, settings)
    texts = read_texts(settings)
    stages = plans(texts, settings)
    fingerprints = {"corpus": texts.fingerprint}
    borrowed = borrowed_language_models(texts, settings, run_config(settings, fingerprints))
    return job.Prepared(
        settings=settings,
        inputs=Inputs(texts, starts, borrowed),
        plans=stages,
        fingerprints=fingerprints,
        data=_describe_data(texts, settings),
        tokens=int(texts.store.lengths.sum()),
        lines=[describe_sizes(texts)],
        files={"vocabulary.json": texts.store.vocabulary.save},
        estimate=lambda: stage_seconds(texts, settings.precision, stages, encoder_config(texts, settings)),
    )


def train_stages(prepared: job.Prepared, run: Run) -> dict[str, Any]:
    """Trains every stage, saves the models, and measures them on the test texts; returns entries of the summary."""
    settings, inputs, texts = prepared.settings, prepared.inputs, prepared.inputs.texts
    language_models = dict(inputs.borrowed)
    if not language_models and lm_plan(settings):
        language_models = train_lms(texts, settings, settings.direction, inputs.starts, run)
    classifiers: dict[Direction, StageResult] = {}
    for direction in directions(settings.direction):
        lm = language_models.get(direction)
        if lm is not None:
            as_language_model(texts, settings, lm.params, direction).save(settings.out / LANGUAGE_MODELS[direction])
        classifiers[direction] = run.run_once(
            stage_name(CLASSIFIER, direction),
            lambda lm=lm, direction=direction: train_classifier(texts, settings, lm and lm.params, run, direction)[1],
        )
    models = {direction: as_classifier(texts, settings, result, direction) for direction, result in classifiers.items()}
    model = Ensemble(models) if len(models) > 1 else models[settings.direction]
    model.save(settings.out / MODEL)
    started = time.monotonic()
    tested = _test(list(models.values()), texts, settings)
    test_row = stage_row("test", time.monotonic() - started, int(texts.store.lengths[texts.test].sum()))
    return {
        **_held_out_scores(language_models, classifiers),
        **tested,
        "stages": [*_stage_rows(language_models, classifiers), test_row],
    }


def _describe_data(texts: Texts, settings: Settings) -> dict[str, Any]:
    return {
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
    }


def _test(models: Sequence[TextClassifier], texts: Texts, settings: Settings) -> dict[str, Any]:
    """The scores on the test texts, of every direction and of their averaged probabilities where there are two."""
    labels, classes = texts.store.labels[texts.test].tolist(), texts.store.classes
    probabilities = [test_probabilities(model, texts, settings) for model in models]
    scores: dict[str, Any] = {}
    if len(models) > 1:
        for model, part in zip(models, probabilities, strict=True):
            alone = classification_scores(labels, part.argmax(axis=1).tolist(), classes)
            names = ("accuracy", "accuracy_interval", "macro_f1")
            scores[f"test_{model.direction}"] = {name: alone[name] for name in names}
    predictions = np.mean(probabilities, axis=0).argmax(axis=1)
    return {**scores, "test": classification_scores(labels, predictions.tolist(), classes)}


def _held_out_scores(
    language_models: Mapping[Direction, StageResult], classifiers: Mapping[Direction, StageResult]
) -> dict[str, Any]:
    """What the stages measured on the texts that they held out."""
    scores: dict[str, Any] = {}
    for direction, lm in language_models.items():
        names = ("valid_loss", "perplexity", "valid_tokens", "matched_words", "new_words")
        scores[stage_name(LANGUAGE_MODEL, direction)] = {name: lm.report[name] for name in names if name in lm.report}
    for direction, classifier in classifiers.items():
        kept = classifier.report["kept"]
        scores[stage_name("dev", direction)] = {name: kept[name] for name in ("accuracy", "loss")}
    return scores


def _stage_rows(
    language_models: Mapping[Direction, StageResult], classifiers: Mapping[Direction, StageResult]
) -> list[dict[str, Any]]:
    return [
        stage_row(stage_name(name, direction).replace("_", " "), result.report["seconds"], result.report["tokens"])
        for name, results in ((LANGUAGE_MODEL, language_models), (CLASSIFIER, classifiers))
        for direction, result in results.items()
    ]


JOB = job.Job(prepare, train_stages)
train = JOB.run
