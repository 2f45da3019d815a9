"""The job `python -m jaxft.pretrain`: trains a language model on any text, for `jaxft.ulmfit --pretrained RUN`.

References:
    Merity, Keskar & Socher, Regularizing and Optimizing LSTM Language Models, ICLR 2018, whose recipe is the preset
    awd-lstm-lm.
"""

from typing import Any

import numpy as np

from jaxft.data.document import DEV, TEST, UNLABELLED, Corpus, Direction
from jaxft.data.files import expanded
from jaxft.data.plain import plain_corpus, wikitext_corpus
from jaxft.data.splits import Texts, hold_out
from jaxft.data.store import build_store
from jaxft.errors import InputError
from jaxft.files import cache_folder
from jaxft.inference.load import LANGUAGE_MODELS
from jaxft.language_model.both_directions import train_lms
from jaxft.language_model.estimate import describe_sizes, stage_seconds
from jaxft.language_model.small_corpus import with_fitting_rows
from jaxft.language_model.stage import (
    LANGUAGE_MODEL,
    as_language_model,
    directions,
    encoder_config,
    lm_evaluation,
    lm_plan,
    lm_stream,
    stage_name,
)
from jaxft.optim.phases import Plan
from jaxft.pretrain.settings import WIKITEXT, Settings
from jaxft.training import job
from jaxft.training.run import Run, StageResult
from jaxft.training.summary import stage_row


def read_texts(settings: Settings, progress: bool = True) -> Texts:
    """Reads and tokenizes the texts; ids are cached, what is held out depends on the seed where the data do not say it.

    Raises:
        InputError: bad data; the sentence names the file.
    """
    corpus = _corpus(settings)
    store = build_store(
        corpus,
        cache_folder() / "texts",
        max_vocab=settings.text.max_vocab,
        min_count=settings.text.min_count,
        subwords=settings.text.tokens == "subwords",
        labelled=False,
        progress=progress,
    )
    valid, test, pool = (np.flatnonzero(store.splits == split) for split in (DEV, TEST, UNLABELLED))
    if not len(valid) and len(pool) < 2:
        raise InputError(f"{corpus.name} is too little text to hold some out for its perplexity: add text")
    if not len(valid):
        pool, valid = hold_out(pool, settings.lm.valid_fraction, np.random.default_rng([settings.seed, 0]))
    none = pool[:0]
    return Texts(corpus.name, corpus.fingerprint, store, none, none, test, pool, valid)


def _corpus(settings: Settings) -> Corpus:
    if settings.data is not None:
        return wikitext_corpus(None if settings.data == WIKITEXT else expanded(settings.data))
    return plain_corpus(settings.files)


def plans(texts: Texts, settings: Settings) -> dict[str, tuple[Plan, int]]:
    """The phase of each stage, and its steps per epoch.

    Raises:
        InputError: the texts are too few for a window.
    """
    return {
        stage_name(LANGUAGE_MODEL, direction): (
            lm_plan(settings),
            lm_stream(texts, settings, direction).steps_per_epoch,
        )
        for direction in directions(settings.direction)
    }


def prepare(settings: Settings) -> job.Prepared:
    """Reads the texts and plans the stages.

    Raises:
        InputError: bad data.
    """
    texts = read_texts(settings)
    settings, lines = with_fitting_rows(settings, texts)
    lengths, stages = texts.store.lengths, plans(texts, settings)
    sizes = {"training tokens": texts.lm_train, "held-out tokens": texts.lm_valid, "test tokens": texts.test}
    return job.Prepared(
        settings=settings,
        inputs=texts,
        plans=stages,
        fingerprints={"corpus": texts.fingerprint},
        data={
            "name": texts.name,
            "sizes": {name: int(lengths[documents].sum()) for name, documents in sizes.items()},
            "vocabulary": len(texts.store.vocabulary),
        },
        tokens=int(lengths.sum()),
        lines=[describe_sizes(texts), *lines],
        files={"vocabulary.json": texts.store.vocabulary.save},
        estimate=lambda: stage_seconds(texts, settings.precision, stages, encoder_config(texts, settings)),
    )


def train_stages(prepared: job.Prepared, run: Run) -> dict[str, Any]:
    """Trains the language model of every direction, saves it and measures it; returns entries of the summary."""
    settings, texts = prepared.settings, prepared.inputs
    entries: dict[str, Any] = {}
    rows = []
    for direction, trained in train_lms(texts, settings, settings.direction, {}, run).items():
        stage = stage_name(LANGUAGE_MODEL, direction)
        pretokenized = settings.data is not None
        model = as_language_model(texts, settings, trained.params, direction, pretokenized)
        model.save(settings.out / LANGUAGE_MODELS[direction])
        entries[stage] = _scores(texts, settings, trained, direction)
        rows.append(stage_row(stage.replace("_", " "), trained.report["seconds"], trained.report["tokens"]))
    return {**entries, "stages": rows}


def _scores(texts: Texts, settings: Settings, trained: StageResult, direction: Direction) -> dict[str, Any]:
    """Loss and perplexity on the held-out texts and, where there are any, on the test texts."""
    scores = {name: trained.report[name] for name in ("valid_loss", "perplexity", "valid_tokens")}
    if len(texts.test):
        tested = lm_evaluation(texts, settings, texts.test, direction)(trained.params)
        scores |= {"test_loss": tested["loss"], "test_perplexity": tested["perplexity"]}
    return scores


def _hint(settings: Settings) -> str:
    return (
        f"{settings.out}: summary.json, metrics.jsonl, plots/ and the language model; go on with\n"
        f"python -m jaxft.ulmfit --pretrained {settings.out} --data ..."
    )


JOB = job.Job(prepare, train_stages, _hint)
train = JOB.run
