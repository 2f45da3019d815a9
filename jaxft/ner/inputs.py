"""What a tagging job reads: files of sentences, and the encoder or a vocabulary, which turn tokens into ids."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.carving import held_out
from jaxft.data.duplicates import text_key
from jaxft.data.files import expanded, file_hash
from jaxft.data.hub import checkpoint_folder
from jaxft.data.memory import Table
from jaxft.data.spans import Sentence, count_orphans, read_spans
from jaxft.data.tag_pieces import TagPieces, TokenIds, Unit, guess_unit, tag_pieces
from jaxft.data.tagged_files import TaggedSentences, read_sentences
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.open_encoder import open_encoder
from jaxft.models.encoders import Encoder
from jaxft.models.tagger import TaggerConfig, TaggerFns
from jaxft.ner.files import PARTS, choose_files
from jaxft.ner.preview import preview_lines
from jaxft.ner.settings import NO_ENCODER, Settings
from jaxft.training.precision import chosen_precision


@dataclass(frozen=True)
class Inputs:
    """What every model of a run starts from.

    Attributes:
        name: name of the data.
        fingerprint: hash of the data.
        lines: what the user should know of how the data were read.
        sentences: those of train, dev and test; test may be empty.
        pieces: the same as ids.
        tokenizer: a `Vocabulary`, or the tokenizer of the encoder's checkpoint.
        fns: the model's pure functions.
        folder: the folder of the encoder's checkpoint, if there is one.
    """

    name: str
    fingerprint: str
    lines: Sequence[str]
    sentences: Mapping[str, tuple[Sentence, ...]]
    pieces: Mapping[str, TagPieces]
    tokenizer: Any
    fns: TaggerFns
    folder: Path | None

    @property
    def scored_parts(self) -> tuple[str, ...]:
        """The parts that a finished model is scored on."""
        return ("dev", "test") if self.sentences["test"] else ("dev",)

    @property
    def unit(self) -> Unit:
        """The unit that a raw text is split into: words or characters."""
        return guess_unit([sentence.tokens for sentence in self.sentences["train"]])


def find_files(settings: Settings) -> dict[str, Path]:
    """The files of train, dev and test that the settings name; dev and test may be missing.

    Raises:
        InputError: there is no training file.
    """
    return dict(choose_files(settings).parts)


def read_inputs(settings: Settings, table: Table | None = None) -> Inputs:
    """Reads the sentences and the encoder, and holds out dev sentences where there are none.

    Args:
        settings: of the job.
        table: data in memory, in place of the files that the settings name.

    Raises:
        InputError: bad data or checkpoint; the sentence names file and line, or the flag.
    """
    sentences, fingerprint, lines = _read_table(table) if table is not None else _read_files(settings)
    sentences.setdefault("test", ())
    if "dev" not in sentences:
        sentences |= _held_out(sentences["train"], settings)
    names = tag_names(sentences["train"], settings)
    encoder, folder = None, None
    if settings.encoder == NO_ENCODER:
        counts = Counter(chain.from_iterable(sentence.tokens for sentence in sentences["train"]))
        tokenizer: Any = Vocabulary.build(counts, min_count=settings.model.min_count)
    else:
        folder = checkpoint_folder(settings.encoder, "--encoder", settings.revision)
        encoder, tokenizer = open_encoder(
            folder,
            new_head=True,
            precision=chosen_precision(settings.precision),
            seed=settings.seed,
            remat=settings.remat,
        )
        lines = [*lines, *encoder.notes]
        if settings.max_length > encoder.config.longest:
            raise InputError(
                f"--max-length {settings.max_length} is more than the encoder reads: give at most "
                f"{encoder.config.longest}"
            )
    token_ids = TokenIds(tokenizer)
    pieces = {
        part: tag_pieces(
            [sentence.tokens for sentence in part_sentences],
            [sentence.tags for sentence in part_sentences],
            names,
            settings.scheme,
            token_ids,
            settings.max_length,
        )
        for part, part_sentences in sentences.items()
    }
    return Inputs(
        name=expanded(settings.data).resolve().name if table is None else table.name,
        fingerprint=fingerprint,
        lines=[*preview_lines(sentences, pieces, token_ids.unk_id), *lines],
        sentences=sentences,
        pieces=pieces,
        tokenizer=tokenizer,
        fns=TaggerFns(tagger_config(settings, names, tokenizer, encoder), encoder),
        folder=folder,
    )


def _read_files(settings: Settings) -> tuple[dict[str, tuple[Sentence, ...]], str, list[str]]:
    files = choose_files(settings)
    columns = settings.tag_column, settings.token_column
    read = {part: read_sentences(file, *columns) for part, file in files.parts.items()}
    if files.beside and read["train"].splits.keys() & {"dev", "test"}:  # the training file has parts of its own
        files = files.alone()
    sentences: dict[str, tuple[Sentence, ...]] = {}
    for part, file in files.parts.items():
        sentences |= _parts(read[part], str(file), "" if len(files.parts) == 1 else part)
    told = chain.from_iterable(read[part].lines for part in files.parts)
    fingerprint = " ".join(file_hash(file, part) for part, file in files.parts.items())
    return sentences, fingerprint, [*dict.fromkeys(told), *files.lines()]


def _read_table(table: Table) -> tuple[dict[str, tuple[Sentence, ...]], str, list[str]]:
    read = read_sentences(table)
    return _parts(read, table.name), table.fingerprint("tagged"), list(read.lines)


def _parts(read: TaggedSentences, name: str, only: str = "") -> dict[str, tuple[Sentence, ...]]:
    """The sentences of each split of a file or table; `only` is the part of the file, where others have their own."""
    if only:
        if others := sorted(read.splits.keys() - {"train", only}):
            raise InputError(
                f"{name} is the file of {only} and has rows of the split {others[0]}: remove them, or give it alone"
            )
        return {only: tuple(chain.from_iterable(read.splits.values()))}
    if "train" not in read.splits:
        raise InputError(f"{name} has no row of the split train: mark some as train")
    return {part: tuple(sentences) for part, sentences in read.splits.items()}


def _held_out(train: tuple[Sentence, ...], settings: Settings) -> dict[str, tuple[Sentence, ...]]:
    """A share of the sentences as dev, and the others; sentences of the same tokens stay on one side.

    Where all are the same, that is not possible, and some of them are dev.
    """
    count = max(1, round(settings.dev_fraction * len(train)))
    if count >= len(train):
        raise InputError(f"{settings.data} has too few sentences ({len(train)}) to hold some out: give more, or --dev")
    order = np.random.default_rng(settings.seed).permutation(len(train))
    keys = np.array([text_key(*train[number].tokens) for number in order])
    dev = set(order[held_out(keys, count)].tolist())
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
        raise InputError(
            f"{settings.data} marks no entity: name a file with tags, and in a file of columns that of the tags with "
            "--tag-column"
        )
    kinds = "BI" if settings.scheme == "BIO" else "BIES"
    return ("O", *(f"{kind}-{name}" for name in types for kind in kinds))


def tagger_config(settings: Settings, names: tuple[str, ...], tokenizer: Any, encoder: Encoder | None) -> TaggerConfig:
    """The sizes of the BiLSTM-CRF over the features of the tokens."""
    return TaggerConfig(
        tags=names,
        features=settings.model.embedding_size if encoder is None else encoder.config.hidden_size,
        vocab_size=len(tokenizer) if encoder is None else None,
        bigrams=settings.model.bigrams if encoder is None else 0,
        lstm_size=settings.model.lstm_size,
        crf=settings.model.head == "crf",
        dropout=settings.model.dropout,
        precision=chosen_precision(settings.precision),
    )


def describe_data(inputs: Inputs) -> dict[str, Any]:
    """Sizes for the summary: sentences, entities, orphans and windows of every part, and the types of entities."""

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
