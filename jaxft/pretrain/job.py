"""The job `python -m jaxft.pretrain`: trains a language model on any text, for `jaxft.ulmfit --pretrained RUN`.

References:
    Merity, Keskar & Socher, Regularizing and Optimizing LSTM Language Models, ICLR 2018, whose recipe is the preset
    awd-lstm-lm.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.document import DEV, TEST, UNLABELLED, Corpus, Direction
from jaxft.data.duplicates import count_duplicates, describe_duplicates
from jaxft.data.files import expanded
from jaxft.data.memory import Table, as_table
from jaxft.data.plain import plain_corpus, table_corpus, wikitext_corpus
from jaxft.data.splits import Texts, hold_out
from jaxft.errors import InputError
from jaxft.inference.load import LANGUAGE_MODELS, load
from jaxft.language_model.both_directions import train_lms
from jaxft.language_model.estimate import stage_seconds
from jaxft.language_model.overview import describe_sizes, describe_texts
from jaxft.language_model.small_corpus import with_fitting_rows
from jaxft.language_model.stage import (
    LANGUAGE_MODEL,
    abstract_lm_stage,
    as_language_model,
    directions,
    encoder_config,
    lm_evaluation,
    lm_plan,
    lm_stream,
    stage_name,
)
from jaxft.language_model.text_store import text_store
from jaxft.optim.phases import Plan
from jaxft.pretrain.settings import COMMAND, WIKITEXT, Settings
from jaxft.training import job
from jaxft.training.fitted import Fitted, fit_job
from jaxft.training.run import Run, StageResult
from jaxft.training.summary import trained_row


def open_corpus(settings: Settings, table: Table | None = None) -> Corpus:
    """The texts that the settings name, or those of a table in memory.

    Raises:
        InputError: there are none.
    """
    if table is not None:
        return table_corpus(table)
    if settings.data is not None:
        return wikitext_corpus(None if settings.data == WIKITEXT else expanded(settings.data))
    return plain_corpus(settings.files)


def read_texts(corpus: Corpus, settings: Settings, progress: bool = True) -> Texts:
    """Reads and tokenizes the texts; ids are cached, what is held out depends on the seed where the data do not say it.

    Args:
        corpus: from `open_corpus`.
        settings: of the job.
        progress: whether to show a progress bar.

    Raises:
        InputError: bad data; the sentence names the file.
    """
    store = text_store(corpus, settings.text, labelled=False, progress=progress)
    valid, test, pool = (np.flatnonzero(store.splits == split) for split in (DEV, TEST, UNLABELLED))
    if not len(valid) and len(pool) < 2:
        raise InputError(f"{corpus.name} is too little text to hold some out for its perplexity: add text")
    if not len(valid):
        pool, valid = hold_out(pool, settings.lm.valid_fraction, np.random.default_rng([settings.seed, 0]), store.keys)
    none = pool[:0]
    return Texts(corpus.name, corpus.fingerprint, store, none, none, test, pool, valid)


def plans(texts: Texts, settings: Settings) -> dict[str, tuple[Plan, int]]:
    """The phase of each stage, and its steps per epoch.

    Raises:
        InputError: the texts are too few for a window.
    """
    found = {}
    for direction in directions(settings.direction):
        steps = lm_stream(texts, settings, direction).steps_per_epoch
        found[stage_name(LANGUAGE_MODEL, direction)] = (lm_plan(settings, steps), steps)
    return found


def prepare(settings: Settings, table: Table | None = None) -> job.Prepared:
    """Reads the texts and plans the stages.

    Args:
        settings: of the job.
        table: texts in memory, in place of those that the settings name.

    Raises:
        InputError: bad data.
    """
    corpus = open_corpus(settings, table)
    texts = read_texts(corpus, settings)
    settings, lines = with_fitting_rows(settings, texts)
    lengths, stages = texts.store.lengths, plans(texts, settings)
    splits = {"train": texts.lm_train, "dev": texts.lm_valid, "test": texts.test}
    duplicates = count_duplicates(texts.store.keys, None, splits)
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
            "duplicates": duplicates,
        },
        tokens=int(lengths.sum()),
        lines=[
            *corpus.notes(),
            describe_sizes(texts),
            *describe_duplicates(duplicates, splits),
            *describe_texts(corpus, texts),
            *lines,
        ],
        files={"vocabulary.json": texts.store.vocabulary.save},
        estimate=lambda: stage_seconds(texts, stages, encoder_config(texts, settings)),
        stages=lambda: (abstract_lm_stage(texts, settings, one) for one in directions(settings.direction)),
    )


def train_stages(prepared: job.Prepared, run: Run) -> dict[str, Any]:
    """Trains the language model of every direction, saves it and measures it; returns entries of the summary."""
    settings, texts = prepared.settings, prepared.inputs
    entries: dict[str, Any] = {}
    rows = []
    pretokenized = settings.data is not None
    for direction, trained in train_lms(texts, settings, settings.direction, {}, run, pretokenized).items():
        stage = stage_name(LANGUAGE_MODEL, direction)
        model = as_language_model(texts, settings, trained.params, direction, pretokenized)
        model.save(settings.out / LANGUAGE_MODELS[direction])
        entries[stage] = _scores(texts, settings, trained, direction)
        rows.append(trained_row(stage.replace("_", " "), trained.report))
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


def _batch_sizes(settings: Settings) -> dict[str, tuple[int, int]]:
    return {"lm.batch_size": (settings.lm.batch_size, 1)}


JOB = job.Job("pretrain", prepare, train_stages, _hint, batch_sizes=_batch_sizes)
train = JOB.run


def fit(
    data: Any,
    labels: None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    preset: str = "small",
    **settings: Any,
) -> Fitted:
    """Trains a language model on texts.

    It gives the same model as the command line with the same settings.

    Args:
        data: "wikitext-2"; the path of a text file, a tar or a folder; N texts; or a table with the column `text`, as a
            mapping, a data frame, or a `Dataset` or `DatasetDict` of Hugging Face.
        labels: refused, because a language model has none; here so that all jobs have the same arguments.
        out: folder of the run; None keeps nothing on the disk.
        resume: whether to go on with the run in `out` where it stopped.
        preset: name of the settings to start from.
        settings: settings of `jaxft.pretrain.settings.Settings` by name; those of a stage as a mapping, such as
            `lm={"epochs": 4}`.

    Returns:
        The finished model, with its `summary`, `run` and plots.

    Raises:
        TypeError: a name that is no setting; the message names the nearest.
        InputError: bad data or settings; it is a `ValueError`.
        Stopped: Ctrl-C or SIGTERM has come; with `out`, `resume=True` goes on.

    Examples:
        `fit("books/").generate("Once upon a time")` continues a text, where `books/` is a folder of text files. A
        misspelt setting is refused:

        >>> fit(["Once upon a time."], lm={"epoch": 4})
        Traceback (most recent call last):
        TypeError: 'lm.epoch' is not a setting: do you mean 'lm.epochs'?
    """
    if labels is not None:
        raise InputError("labels are given, and a language model has none: leave them out")
    source = as_table(data)
    if source != WIKITEXT:
        files = (source if isinstance(source, str) else source.name,)
        settings = {"files": files, "data": None, **settings}
    return fit_job(JOB, COMMAND, load, source, out=out, resume=resume, settings={"preset": preset, **settings})
