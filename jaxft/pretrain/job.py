"""Trains a language model on any text: `python -m jaxft.pretrain --text FILE_OR_FOLDER...`.

The first of ULMFiT's three stages; `python -m jaxft.ulmfit --pretrained RUN` takes it from there. A run is a folder
like that of `jaxft.ulmfit`, is resumed in the same way, and keeps its model in `language_model`.

References:
    Merity, Keskar & Socher, Regularizing and Optimizing LSTM Language Models, ICLR 2018, whose recipe is the preset
    awd-lstm-lm.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxft.data.document import SPLITS, Corpus
from jaxft.data.download import cache_folder
from jaxft.data.files import expanded
from jaxft.data.plain import plain_corpus, wikitext_corpus
from jaxft.data.splits import Texts, hold_out
from jaxft.data.store import build_store
from jaxft.errors import InputError
from jaxft.inference.load import LANGUAGE_MODELS
from jaxft.language_model.both_directions import train_lms
from jaxft.language_model.preview import preview
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
from jaxft.models.options import Dropouts, Precision
from jaxft.optim.phases import Phase
from jaxft.training import report, summary
from jaxft.training.job import begin, draw_training, identity, new_run_folder, pick, stage_row
from jaxft.training.process import set_up
from jaxft.training.stage import Run, StageResult
from jaxft.ulmfit.presets import FASTAI, SMALL, parse_with_preset
from jaxft.ulmfit.settings import Directions, LanguageModelStage, Model, Text, check

WIKITEXT = "wikitext-2"


@dataclass(frozen=True)
class Settings:
    """Trains an AWD-LSTM language model on plain text."""

    files: Annotated[tuple[Path, ...], tyro.conf.arg(name="text")] = ()
    """UTF-8 text files, plain or compressed, tars of them, or folders of both"""
    data: str | None = None
    """wikitext-2 (cached or downloaded), or a folder with train.txt, valid.txt and test.txt in its form: words between
    spaces, which are taken as they are"""
    preset: Literal["small", "fastai", "awd-lstm-lm"] = "small"
    """settings to start from"""
    out: Path = Path("runs/pretrain")
    """folder of the run; has to be new or empty"""
    resume: bool = False
    """continue the run in --out where it stopped"""
    precision: Precision = "f32"
    """operands of matrix products: f32, or bf16 (sums and weights stay f32), faster on hardware made for it"""
    direction: Directions = "forward"
    """in which the model reads a text; both trains two"""
    seed: int = 0
    """seed of splits, weights, order and dropout"""
    log_every: int = 20
    """steps between two lines of metrics.jsonl"""
    checkpoint_minutes: float = 2.0
    """minutes between two checkpoints"""
    dry_run: bool = False
    """print the settings, the plan and an estimate of the time, and train nothing"""
    text: Text = field(default_factory=Text)
    model: Model = field(default_factory=Model)
    lm: LanguageModelStage = field(default_factory=LanguageModelStage)


AWD_LSTM_LM = Settings(  # salesforce/awd-lstm-lm: README and main.py, for WikiText-2
    preset="awd-lstm-lm",
    seed=1882,
    text=Text(max_vocab=100_000, min_count=1),
    model=Model(400, 1150, 3),
    lm=LanguageModelStage(
        epochs=750,
        batch_size=80,
        bptt=70,
        vary_bptt=True,
        optimizer="sgd",
        peak_rate=30.0,
        divisor=1.0,
        schedule="constant",
        weight_decay=1.2e-6,
        clip_norm=0.25,
        dropout=Dropouts(input=0.65, hidden=0.2, output=0.4, weight=0.5, embedding=0.1),
        activation_penalty=2.0,
        temporal_penalty=1.0,
        average="nt-asgd",
        patience=5,
    ),
)
PRESETS = {
    "small": Settings(preset="small", text=SMALL.text, model=SMALL.model, lm=SMALL.lm),
    "fastai": Settings(preset="fastai", text=FASTAI.text, model=FASTAI.model, lm=FASTAI.lm),
    "awd-lstm-lm": AWD_LSTM_LM,
}


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Reads the command line: the preset that it names, changed by its other flags.

    Raises:
        InputError: no text, or a value out of its range.
        SystemExit: with status 2, for a flag that does not exist or a value of another type.

    Examples:
        >>> parse(["--text", "book.txt", "--preset", "awd-lstm-lm"]).lm.peak_rate
        30.0
    """
    settings = parse_with_preset(
        Settings, "python -m jaxft.pretrain", arguments, lambda s: PRESETS[s.preset], Settings()
    )
    check(settings)
    if bool(settings.files) == (settings.data is not None):
        raise InputError("give either --text FILE_OR_FOLDER... or --data wikitext-2")
    if not settings.lm.epochs:
        raise InputError("--lm.epochs 0 leaves nothing to train: give at least 1")
    return settings


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
        labelled=False,
        progress=progress,
    )
    valid, test, pool = (
        np.flatnonzero(store.splits == SPLITS.index(split)) for split in ("valid", "test", "unlabelled")
    )
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


def train(settings: Settings) -> dict[str, Any]:
    """Runs the whole job in the folder `settings.out` and returns its summary.

    Raises:
        InputError: bad data, flags or folder; nothing is left behind.
        Stopped: the run was asked to stop; `settings.resume` goes on with it.
    """
    with new_run_folder(settings.out, settings.resume) as folder:
        started = time.monotonic()
        texts = read_texts(settings)
        text_row = stage_row("text", time.monotonic() - started, int(texts.store.lengths.sum()))
        planned = plans(texts, settings)
        config = identity(settings, texts.fingerprint)
        begin(folder, settings.resume, config, texts.store.vocabulary)
    lengths = texts.store.lengths
    result: dict[str, Any] = {
        "data": {
            "name": texts.name,
            "sizes": {
                "training tokens": int(lengths[texts.lm_train].sum()),
                "held-out tokens": int(lengths[texts.lm_valid].sum()),
                "test tokens": int(lengths[texts.test].sum()),
            },
            "vocabulary": len(texts.store.vocabulary),
        },
        "stages": [text_row],
    }
    with Run(folder, log_every=settings.log_every, checkpoint_seconds=60 * settings.checkpoint_minutes) as run:
        for direction, trained in train_lms(texts, settings, settings.direction, {}, run).items():
            stage = stage_name(LANGUAGE_MODEL, direction)
            generator = as_language_model(texts, settings, trained.params, direction, settings.data is not None)
            generator.save(folder / LANGUAGE_MODELS[direction])
            result[stage] = _scores(texts, settings, trained, direction)
            row = stage_row(stage.replace("_", " "), trained.report["seconds"], trained.report["tokens"])
            result["stages"].append(row)
    result |= {
        "peak_memory_mb": summary.peak_memory_mb(),
        "environment": summary.environment(),
        "config": config,
    }
    report.write_json(folder / "summary.json", result)
    draw_training(folder, planned)
    return result


def _scores(texts: Texts, settings: Settings, trained: StageResult, direction: Any) -> dict[str, Any]:
    """Loss and perplexity on the held-out texts and, where there are any, on the test texts."""
    scores = pick(trained.report, "valid_loss", "perplexity", "valid_tokens")
    if len(texts.test):
        tested = lm_evaluation(texts, settings, texts.test, direction)(trained.params)
        scores |= {"test_loss": tested["loss"], "test_perplexity": tested["perplexity"]}
    return scores


def plans(texts: Texts, settings: Settings) -> dict[str, tuple[tuple[Phase, ...], int]]:
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


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    settings = parse(arguments)
    set_up()
    if settings.dry_run:
        texts = read_texts(settings)
        print(preview(texts, settings, plans(texts, settings), encoder_config(texts, settings)))
        return
    print(summary.summary_table(train(settings)))
    print(f"\n{settings.out}: summary.json, metrics.jsonl, plots/ and the language model; go on with")
    print(f"python -m jaxft.ulmfit --pretrained {settings.out} --data ...")
