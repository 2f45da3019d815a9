"""The job `python -m jaxft.ulmfit`: reads texts, trains language models and classifiers, measures on the test texts.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.document import Corpus, Direction
from jaxft.data.duplicates import count_duplicates, describe_duplicates
from jaxft.data.memory import Table, as_table
from jaxft.data.overview import describe_classes, missing_classes
from jaxft.data.splits import Texts
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.load import LANGUAGE_MODELS, MODEL, load
from jaxft.inference.text_classifier import TextClassifier
from jaxft.language_model.both_directions import train_lms
from jaxft.language_model.estimate import stage_seconds
from jaxft.language_model.overview import describe_sizes, describe_texts
from jaxft.language_model.small_corpus import has_enough_text, with_fitting_rows
from jaxft.language_model.stage import (
    LANGUAGE_MODEL,
    abstract_lm_stage,
    as_language_model,
    directions,
    encoder_config,
    stage_name,
    untrained_lm,
)
from jaxft.training import job
from jaxft.training.baseline import linear_baseline
from jaxft.training.class_weights import class_weights
from jaxft.training.fitted import Fitted, fit_job
from jaxft.training.predictions import classified_rows
from jaxft.training.run import Run, StageResult
from jaxft.training.run_folder import run_config
from jaxft.training.scores import MAIN_SCORES, classification_scores, metric_score, score_name, score_words
from jaxft.training.stage import Stage
from jaxft.training.summary import stage_row, trained_row
from jaxft.ulmfit.inputs import open_corpus_of, raw_texts, read_texts
from jaxft.ulmfit.presets import COMMAND
from jaxft.ulmfit.self_training import describe_pseudo_labels, pseudo_label_fingerprint
from jaxft.ulmfit.settings import Settings
from jaxft.ulmfit.stages import (
    CLASSIFIER,
    SHARES,
    abstract_classifier_stage,
    as_classifier,
    check_head,
    plans,
    selection_metric,
    test_probabilities,
    train_classifier,
)
from jaxft.ulmfit.starts import borrowed_language_models, open_starts, with_sizes_of


@dataclass(frozen=True)
class Inputs:
    """What the stages start from.

    Attributes:
        corpus: the raw texts.
        texts: ids and splits.
        starts: pretrained language models to fine-tune, by direction; an entry is removed when it is used.
        borrowed: language models of another run on the same texts, by direction.
    """

    corpus: Corpus
    texts: Texts
    starts: dict[Direction, TextLanguageModel]
    borrowed: Mapping[Direction, StageResult]


def prepare(settings: Settings, table: Table | None = None) -> job.Prepared:
    """Reads texts and pretrained models, and plans the stages.

    Args:
        settings: of the job.
        table: data in memory, in place of `settings.data`.

    Raises:
        InputError: bad data, models or flags.
    """
    starts = open_starts(settings)
    settings = with_sizes_of(starts, settings)
    corpus = open_corpus_of(settings, table)
    texts = read_texts(settings, corpus=corpus)
    class_weights(settings.class_weights, texts.store.labels[texts.train], texts.store.classes)  # refused here
    if settings.classifier.head == "probe":
        check_head(texts, settings)
    settings, lines = _fitted(settings, texts)
    stages = plans(texts, settings)
    fingerprints = {"corpus": texts.fingerprint, **pseudo_label_fingerprint(texts)}
    borrowed = borrowed_language_models(texts, settings, run_config(settings, fingerprints))
    return job.Prepared(
        settings=settings,
        inputs=Inputs(corpus, texts, starts, borrowed),
        plans=stages,
        fingerprints=fingerprints,
        data=_describe_data(texts, settings),
        tokens=int(texts.store.lengths.sum()),
        lines=[*corpus.notes(), *_describe_inputs(corpus, texts, settings), *lines],
        files={"vocabulary.json": texts.store.vocabulary.save},
        estimate=lambda: stage_seconds(texts, stages, encoder_config(texts, settings)),
        stages=lambda: _stages(texts, settings),
    )


def _describe_inputs(corpus: Corpus, texts: Texts, settings: Settings) -> list[str]:
    store = texts.store
    parts = {name: store.labels[getattr(texts, name)] for name in ("train", "dev", "test")}
    return [
        describe_sizes(texts),
        *describe_classes(store.classes, parts),
        *_describe_splits(texts, settings.transductive),
        *describe_texts(corpus, texts),
        *describe_pseudo_labels(texts, settings),
        f"weights to keep: {_describe_weights(texts, settings)}",
    ]


def _stages(texts: Texts, settings: Settings) -> Iterator[Stage]:
    """The stages that will be trained, with the shapes of their parameters alone."""
    for direction in directions(settings.direction):
        if settings.lm.epochs and settings.language_model is None:
            yield abstract_lm_stage(texts, settings, direction)
        yield abstract_classifier_stage(texts, settings, direction)


def _fitted(settings: Settings, texts: Texts) -> tuple[Settings, list[str]]:
    """The settings with a language-model stage that fits the texts, and lines for the user where it differs."""
    if settings.language_model is not None or not settings.lm.epochs:
        return settings, []
    if has_enough_text(settings, texts):
        return with_fitting_rows(settings, texts)
    begins = "from random weights" if settings.pretrained is None else "with that of --pretrained as it is"
    return replace(settings, lm=replace(settings.lm, epochs=0)), [
        f"{texts.name} has too little text to learn a language model from, so the classifier begins {begins}"
    ]


def train_stages(prepared: job.Prepared, run: Run) -> dict[str, Any]:
    """Trains every stage, saves the models, and measures them on the test texts; returns entries of the summary."""
    settings, inputs, texts = prepared.settings, prepared.inputs, prepared.inputs.texts
    language_models = dict(inputs.borrowed)
    if not language_models and settings.lm.epochs:
        language_models = train_lms(texts, settings, settings.direction, inputs.starts, run)
    elif not language_models:  # too little text to train them further
        language_models = {name: untrained_lm(texts, start) for name, start in inputs.starts.items()}
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
    scores = {**_held_out_scores(language_models, classifiers), "weights": _describe_weights(texts, settings)}
    rows = _stage_rows(language_models, classifiers)
    if not len(texts.test):
        return {**scores, "stages": rows}
    labelled = np.concatenate([texts.train, texts.dev]) if settings.baseline else texts.train[:0]
    words = raw_texts(inputs.corpus, np.concatenate([labelled, texts.test]))
    started = time.monotonic()
    tested = _test(list(models.values()), texts, words[len(labelled) :], settings)
    rows.append(stage_row("test", time.monotonic() - started, int(texts.store.lengths[texts.test].sum())))
    baseline = {"baseline": _baseline(texts, labelled, words)} if settings.baseline else {}
    return {**scores, **tested, **baseline, "stages": rows}


def _describe_data(texts: Texts, settings: Settings) -> dict[str, Any]:
    return {
        "name": texts.name,
        "sizes": {
            "train": len(texts.train),
            "dev": len(texts.dev),
            "test": len(texts.test),
            "language-model texts": len(texts.lm_train),
            **({"pseudo-labelled texts": len(texts.pseudo)} if len(texts.pseudo) else {}),
        },
        "classes": texts.store.classes,
        "transductive": settings.transductive,
        "vocabulary": len(texts.store.vocabulary),
        "duplicates": _duplicates(texts),
    }


def _duplicates(texts: Texts) -> dict[str, int]:
    return count_duplicates(texts.store.keys, texts.store.labels, texts.labelled)


def _describe_leak(texts: Texts, transductive: bool) -> list[str]:
    """At most one line: how many test texts the language model reads among the texts without labels."""
    keys = texts.store.keys
    read = np.concatenate([texts.lm_train, texts.lm_valid])
    count = 0 if transductive else int(np.isin(keys[texts.test], keys[np.setdiff1d(read, texts.train)]).sum())
    line = f"{count:,} of {len(texts.test):,} test texts are also among the texts that the language model reads"
    return [line] * bool(count)


def _describe_splits(texts: Texts, transductive: bool) -> list[str]:
    labels, classes = texts.store.labels, texts.store.classes
    return [
        *describe_duplicates(_duplicates(texts), texts.labelled),
        *_describe_leak(texts, transductive),
        *missing_classes("dev", labels[texts.dev], classes),
        *missing_classes("test", labels[texts.test], classes),
        *(["there are no test texts, so there will be no test score"] if not len(texts.test) else []),
    ]


def _test(models: Sequence[TextClassifier], texts: Texts, words: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Scores and predictions of the test texts, which `words` are; with two directions of each and of their mean."""
    labels, classes = texts.store.labels[texts.test].tolist(), texts.store.classes
    probabilities = [test_probabilities(model, texts, settings) for model in models]
    scores: dict[str, Any] = {}
    if len(models) > 1:
        for model, part in zip(models, probabilities, strict=True):
            alone = classification_scores(labels, part.argmax(axis=1).tolist(), classes)
            scores[f"test_{model.direction}"] = {name: alone[name] for name in MAIN_SCORES}
    mean = np.mean(probabilities, axis=0)
    scores["test"] = classification_scores(labels, mean.argmax(axis=1).tolist(), classes)
    if settings.metric:
        scores["test"][score_name(settings.metric)] = metric_score(settings.metric, np.array(labels), mean)
    return {**scores, "predictions": classified_rows(words, np.array(labels), mean, classes)}


def _baseline(texts: Texts, labelled: np.ndarray, words: Sequence[str]) -> dict[str, Any]:
    """The scores of a linear model on the words of the labelled texts and, after them, of the test texts."""
    count = len(labelled)
    labels, test_labels = (texts.store.labels[documents].tolist() for documents in (labelled, texts.test))
    return linear_baseline(words[:count], labels, words[count:], test_labels, texts.store.classes)


def _describe_weights(texts: Texts, settings: Settings) -> str:
    """How the weights of the classifier are chosen."""
    if not len(texts.dev):
        return "the last ones, because there are no dev texts to choose by"
    metric = selection_metric(texts, settings)
    best = f"the best {score_words(score_name(metric))} on {len(texts.dev)} dev texts"
    return f"the last within one standard error of {best}" if metric in SHARES else f"those with {best}"


def _held_out_scores(
    language_models: Mapping[Direction, StageResult], classifiers: Mapping[Direction, StageResult]
) -> dict[str, Any]:
    """What the stages measured on the texts that they held out."""
    scores: dict[str, Any] = {}
    for direction, lm in language_models.items():
        names = ("valid_loss", "perplexity", "valid_tokens", "matched_words", "new_words")
        measured = {name: lm.report[name] for name in names if name in lm.report}
        scores |= {stage_name(LANGUAGE_MODEL, direction): measured} if measured else {}
    for direction, classifier in classifiers.items():
        if not (kept := classifier.report.get("kept")):
            continue
        numbers = {name: value for name, value in kept.items() if isinstance(value, float) and name != "epoch"}
        scores[stage_name("dev", direction)] = {"accuracy": kept["accuracy"]} | numbers
    return scores


def _stage_rows(
    language_models: Mapping[Direction, StageResult], classifiers: Mapping[Direction, StageResult]
) -> list[dict[str, Any]]:
    return [
        trained_row(stage_name(name, direction).replace("_", " "), result.report)
        for name, results in ((LANGUAGE_MODEL, language_models), (CLASSIFIER, classifiers))
        for direction, result in results.items()
    ]


def _batch_sizes(settings: Settings) -> dict[str, tuple[int, int]]:
    sizes = {"classifier.batch_size": (settings.classifier.batch_size, 1)}
    trains_language_model = settings.lm.epochs and settings.language_model is None
    return {"lm.batch_size": (settings.lm.batch_size, 1), **sizes} if trains_language_model else sizes


JOB = job.Job("ulmfit", prepare, train_stages, batch_sizes=_batch_sizes)
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
    """Trains ULMFiT on texts with labels: a language model, then a classifier.

    It gives the same model as the command line with the same settings, up to rounding if JAX has computed something
    before, because the cores of a CPU do not share batches then.

    Args:
        data: a name or path, as `--data` takes it; N texts; a mapping from columns to values; a data frame of pandas,
            polars or pyarrow; or a `Dataset` or `DatasetDict` of Hugging Face. The columns are `text`, `label` and,
            where there is one, `split`; `text_column` and the like name others.
        labels: N classes, where `data` are texts; None for a text without one.
        out: folder of the run; None keeps nothing on the disk.
        resume: whether to go on with the run in `out` where it stopped.
        preset: name of the settings to start from.
        settings: settings of `jaxft.ulmfit.settings.Settings` by name; those of a stage as a mapping, such as
            `classifier={"epochs": 4}`.

    Returns:
        The finished model, with its `summary`, `run` and plots.

    Raises:
        TypeError: a name that is no setting; the message names the nearest.
        InputError: bad data or settings; it is a `ValueError`.
        Stopped: Ctrl-C or SIGTERM has come; with `out`, `resume=True` goes on.

    Examples:
        `fit(reviews).predict("A lovely film.")` answers with a class, where `reviews` is a data frame with the columns
        `text` and `label`. A misspelt setting is refused:

        >>> fit(["fine", "dull"], ["pos", "neg"], clasifier={"epochs": 4})
        Traceback (most recent call last):
        TypeError: 'clasifier' is not a setting: do you mean 'classifier'?
    """
    source = as_table(data, labels)
    return fit_job(JOB, COMMAND, load, source, out=out, resume=resume, settings={"preset": preset, **settings})
