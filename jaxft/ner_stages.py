"""The stages of sequence labelling: what is read, and the training of one tagger.

`jaxft.ner` runs them in a folder, for one schedule or for several that are compared.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxft import averaging
from jaxft.adversarial import fast_gradient_method
from jaxft.data.files import expanded, file_hash
from jaxft.data.hub import checkpoint_folder
from jaxft.data.pieces import load_tokenizer
from jaxft.data.spans import count_orphans, entity_scores, read_spans
from jaxft.data.streams import quantile_widths
from jaxft.data.tag_pieces import PieceMaker, TagPieces, Unit, guess_unit, tag_pieces
from jaxft.data.tagged import Sentence, read_tagged
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.groups import decay_mask, label_params
from jaxft.models.bert import Encoder, open_checkpoint
from jaxft.models.tagger import TaggerConfig, TaggerFns
from jaxft.monitors import early_stopping, plateau
from jaxft.ner_settings import NO_ENCODER, Settings
from jaxft.phases import Phase
from jaxft.stage import Run, StageResult, run_plan
from jaxft.tagger_model import EntityTagger, tag_batches, tags_of

PARTS = ("train", "dev", "test")
SUFFIXES = ("", ".txt", ".tsv", ".conll", ".json", ".jsonl")
SCORE = "micro_f1"
"""what chooses an epoch and a run"""
ENCODER_GROUP, HEAD_GROUP, UNUSED_GROUP = "encoder", "head", "pooler"
RULES = [("encoder/pooler/.*", UNUSED_GROUP), ("encoder/.*", ENCODER_GROUP), ("tagger/.*", HEAD_GROUP)]


@dataclass(frozen=True)
class Inputs:
    """What every model of a run starts from.

    Attributes:
      name: of the data.
      fingerprint: of the files and how they are read.
      sentences: of train, dev and test; test may be empty.
      pieces: the same as ids.
      source: a `Vocabulary`, or a tokenizer.
      fns: the model's pure functions.
      folder: of the encoder's checkpoint, if there is one.
    """

    name: str
    fingerprint: str
    sentences: Mapping[str, tuple[Sentence, ...]]
    pieces: Mapping[str, TagPieces]
    source: Any
    fns: TaggerFns
    folder: Path | None

    @property
    def scored(self) -> tuple[str, ...]:
        """The parts that a finished model is scored on."""
        return ("dev", "test") if self.sentences["test"] else ("dev",)

    @property
    def unit(self) -> Unit:
        """What a raw text has to be split into."""
        return guess_unit([sentence.tokens for sentence in self.sentences["train"]])


def find_files(settings: Settings) -> dict[str, Path]:
    """The files of train, dev and test that the settings name or mean; the latter two may be missing.

    Raises:
      InputError: there is no training file.
    """
    own = {name: path for name, path in (("dev", settings.dev), ("test", settings.test)) if path is not None}
    path = expanded(settings.data)
    if path.is_file():
        return {"train": path, **own}
    starts = [f"{path}/"] if path.is_dir() else [f"{path}."]
    found = {}
    for part in PARTS:
        places = (Path(f"{start}{part}{suffix}") for start in starts for suffix in SUFFIXES)
        file = own.get(part) or next((place for place in places if place.is_file()), None)
        if file is not None:
            found[part] = file
    if "train" not in found:
        raise InputError(
            f"{settings.data} is no file, and there is no {starts[0]}train: name the training file, or what the names "
            "of the files begin with"
        )
    return found


def read_inputs(settings: Settings) -> Inputs:
    """Reads the sentences and the encoder, and holds out dev sentences where there is no file of them.

    Raises:
      InputError: bad data or checkpoint; the sentence names file and line, or the flag.
    """
    files = find_files(settings)
    sentences = {part: tuple(read_tagged(file, settings.tag_column)) for part, file in files.items()}
    sentences.setdefault("test", ())
    if "dev" not in sentences:
        sentences |= _held_out(sentences["train"], settings)
    names = tag_names(sentences["train"], settings)
    encoder, folder = None, None
    if settings.encoder == NO_ENCODER:
        counts = Counter(chain.from_iterable(sentence.tokens for sentence in sentences["train"]))
        source: Any = Vocabulary.build(counts, min_count=settings.model.min_count)
    else:
        folder = checkpoint_folder(settings.encoder, "--encoder")
        source = load_tokenizer(folder)
        encoder = open_checkpoint(folder, precision=settings.precision, seed=settings.seed)
        if settings.max_length > encoder.config.longest:
            raise InputError(
                f"--max-length {settings.max_length} is beyond what the encoder reads: give at most "
                f"{encoder.config.longest}"
            )
    maker = PieceMaker(source)
    pieces = {
        part: tag_pieces(
            [sentence.tokens for sentence in own],
            [sentence.tags for sentence in own],
            names,
            settings.scheme,
            maker,
            settings.max_length,
        )
        for part, own in sentences.items()
    }
    return Inputs(
        name=settings.data,
        fingerprint=" ".join(file_hash(file, part) for part, file in files.items()),
        sentences=sentences,
        pieces=pieces,
        source=source,
        fns=TaggerFns(tagger_config(settings, names, source, encoder), encoder),
        folder=folder,
    )


def _held_out(train: tuple[Sentence, ...], settings: Settings) -> dict[str, tuple[Sentence, ...]]:
    count = max(1, round(settings.dev_fraction * len(train)))
    if count >= len(train):
        raise InputError(f"{settings.data} has too few sentences ({len(train)}) to hold some out: give more, or --dev")
    order = np.random.default_rng(settings.seed).permutation(len(train))
    dev = set(order[:count].tolist())
    return {
        "train": tuple(sentence for number, sentence in enumerate(train) if number not in dev),
        "dev": tuple(train[number] for number in sorted(dev)),
    }


def tag_names(sentences: Sequence[Sentence], settings: Settings) -> tuple[str, ...]:
    """O, and the tags of every type in the training sentences.

    Raises:
      InputError: there is no entity to learn.
    """
    types = sorted({name for sentence in sentences for name, _, _ in read_spans(sentence.tags)})
    if not types:
        raise InputError(f"{settings.data} marks no entity: name the column of the tags with --tag-column")
    kinds = "BI" if settings.scheme == "BIO" else "BIES"
    return ("O", *(f"{kind}-{name}" for name in types for kind in kinds))


def tagger_config(settings: Settings, names: tuple[str, ...], source: Any, encoder: Encoder | None) -> TaggerConfig:
    """The sizes of what stands on the vectors of tokens."""
    return TaggerConfig(
        tags=names,
        features=settings.model.embedding_size if encoder is None else encoder.config.hidden_size,
        vocab_size=len(source) if encoder is None else None,
        lstm_size=settings.model.lstm_size,
        crf=settings.model.head == "crf",
        dropout=settings.model.dropout,
        precision=settings.precision,
    )


def describe_data(inputs: Inputs) -> dict[str, Any]:
    """Sizes for the summary: sentences, entities and orphans of every part, and what was read in windows."""

    def total(part: str, count: Any) -> int:
        return sum(count(sentence.tags) for sentence in inputs.sentences[part])

    parts = [part for part in PARTS if inputs.sentences[part]]
    return {
        "name": inputs.name,
        "sizes": {part: len(inputs.sentences[part]) for part in parts},
        "entities": {part: total(part, lambda tags: len(read_spans(tags))) for part in parts},
        "orphans": {part: total(part, count_orphans) for part in parts},
        "windows": {part: len(inputs.pieces[part].lengths) for part in parts},
        "classes": [name.removeprefix("B-") for name in inputs.fns.config.tags if name.startswith("B-")],
    }


def ner_plan(settings: Settings, encoder: bool, steps_per_epoch: int) -> tuple[Phase, ...]:
    """The one phase of training, in epochs of so many steps.

    >>> plan = ner_plan(Settings(schedule="plateau"), False, 100)
    >>> plan[0].schedule, plan[0].rates
    ('constant', {'head': 0.0001})
    """
    train = settings.train
    rates: dict[str, float | None] = {HEAD_GROUP: train.head_rate or train.peak_rate}
    if encoder:
        rates = {UNUSED_GROUP: None, ENCODER_GROUP: train.peak_rate, **rates}
    total = train.epochs * steps_per_epoch
    options: dict[str, float | str] = {}
    if settings.schedule in ("keras_bert", "linear", "cosine"):
        options["warmup_steps"] = int(train.warmup * total)
    if settings.schedule == "keras_bert":
        options["min_value"] = train.min_rate / train.peak_rate
    schedule = "constant" if settings.schedule == "plateau" else settings.schedule
    return (Phase(settings.schedule, rates, train.epochs, schedule, options),)


def train_tagger(
    inputs: Inputs, settings: Settings, run: Run | None = None, stage: str = "train", seed: int = 0
) -> StageResult:
    """Trains one tagger and keeps the epoch that was best on dev.

    Args:
      inputs: from `read_inputs`.
      settings: `settings.schedule`, `settings.train` and the rest.
      run: run folder to log to and resume from; None keeps nothing.
      stage: name in the log and in file names.
      seed: of weights, order and dropout.

    Raises:
      InputError: losses that stay not finite.
      Stopped: the run was asked to stop.
    """
    train, fns, pieces = settings.train, inputs.fns, inputs.pieces["train"]
    params = fns.init(seed)
    batches = tag_batches(pieces, np.arange(len(pieces.lengths)), train.batch_size, quantile_widths(pieces.lengths))
    decode, loss = jax.jit(fns.decode), jax.jit(lambda params, batch: fns.loss(params, (), batch, None))

    def evaluate(params: Any, carry: Any) -> dict[str, float]:
        scores = scores_on(inputs, "dev", decode, params, train.eval_batch_size)
        numbers = {name: value for name, value in scores.items() if isinstance(value, float)}
        return {"loss": _mean_loss(inputs, loss, params, train.eval_batch_size), **numbers}

    optimizer = optax.adamw(1.0, weight_decay=train.weight_decay, mask=decay_mask(("bias", "norm", "crf")))
    method = partial(
        fast_gradient_method,
        epsilon=train.fgm,
        pattern="^tagger/embedding" if fns.encoder is None else "^encoder/embeddings/word/",
    )
    return run_plan(
        run or Run(None),
        stage,
        ner_plan(settings, fns.encoder is not None, batches.steps_per_epoch),
        loss_fn=fns.loss,
        optimizer=optimizer,
        labels=label_params(params, [rule for rule in RULES if _matches(rule, params)]),
        clip_norm=train.clip_norm,
        params=params,
        carry=(),
        key=jax.random.fold_in(jax.random.key(seed), 4),
        batch=lambda step: batches.training_batch(step, seed),
        steps_per_epoch=batches.steps_per_epoch,
        tokens_per_epoch=int((pieces.tags >= 0).mean() * pieces.lengths.mean() * batches.steps_per_epoch)
        * min(train.batch_size, len(pieces.lengths)),
        evaluate=evaluate,
        average=None if train.ema_decay is None else averaging.ema(train.ema_decay),
        gradient=method if train.fgm else None,
        factor=partial(_plateau_factor, settings) if settings.schedule == "plateau" else None,
        keep=_is_best,
        stop=None if train.patience is None else partial(_is_over, train.patience),
    )


def scores_on(inputs: Inputs, part: str, decode: Any, params: Any, batch_size: int) -> dict[str, Any]:
    """Precision, recall and F1 of the entities of dev or test; see `jaxft.data.spans.entity_scores`."""
    pieces = inputs.pieces[part]
    widths = quantile_widths(pieces.lengths)
    found = tags_of(decode, params, inputs.fns.config.tags, pieces, batch_size, widths)
    return entity_scores([sentence.tags for sentence in inputs.sentences[part]], found)


def as_model(inputs: Inputs, settings: Settings, params: Any) -> EntityTagger:
    """The finished model of a stage's parameters."""
    return EntityTagger(
        fns=inputs.fns,
        params=params,
        source=inputs.source,
        unit=inputs.unit,
        scheme=settings.scheme,
        max_length=settings.max_length,
        batch_size=settings.train.eval_batch_size,
    )


def _mean_loss(inputs: Inputs, loss: Any, params: Any, batch_size: int) -> float:
    """Nats per token of the dev sentences."""
    pieces = inputs.pieces["dev"]
    windows = np.arange(len(pieces.lengths))
    batches = tag_batches(pieces, windows, min(batch_size, len(windows)), quantile_widths(pieces.lengths))
    total, tokens = 0.0, 0.0
    for positions in batches.evaluation_batches():
        batch = dict(batches.evaluation_batch(positions))
        batch["tags"][len(positions) :] = -1  # copies that fill the batch up
        value, (_, metrics) = loss(params, batch)
        total += float(value) * float(metrics["tokens"])
        tokens += float(metrics["tokens"])
    return total / tokens


def _matches(rule: tuple[str, str], params: Any) -> bool:
    pattern, _ = rule
    if pattern.startswith("tagger"):
        return True
    return "encoder" in params and ("pooler" not in pattern or "pooler" in params["encoder"])


def _is_best(evaluations: Sequence[Mapping[str, Any]]) -> bool:
    *before, last = (evaluation[SCORE] for evaluation in evaluations)
    return all(last > other for other in before)


def _is_over(patience: int, evaluations: Sequence[Mapping[str, Any]]) -> bool:
    monitor = early_stopping(patience, mode="max")
    state = monitor.init()
    for value in _scores(evaluations):
        state = monitor.update(state, value)
    return bool(state.stop)


def _plateau_factor(settings: Settings, evaluations: Sequence[Mapping[str, Any]]) -> float:
    train = settings.train
    monitor = plateau(
        train.plateau_factor,
        train.plateau_patience,
        train.plateau_min_delta,
        min_lr=train.plateau_min_rate / train.peak_rate,
        mode="max",
    )
    state = monitor.init()
    for value in _scores(evaluations):
        state = monitor.update(state, value)
    return float(state.rate)


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    return (evaluation[SCORE] for evaluation in evaluations)
