"""What a tagging job reads: files of sentences, and the encoder or a vocabulary, which turn tokens into ids."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.arrow import ARROW_SUFFIXES
from jaxft.data.document import SPLIT_NAMES
from jaxft.data.files import COMPRESSION_SUFFIXES, expanded, file_hash
from jaxft.data.hub import checkpoint_folder
from jaxft.data.memory import Table
from jaxft.data.spans import count_orphans, read_spans
from jaxft.data.table import source_name
from jaxft.data.tag_pieces import TagPieces, TokenIds, Unit, guess_unit, tag_pieces
from jaxft.data.tagged import Sentence, read_tagged
from jaxft.data.tagged_table import is_tagged_table, read_tagged_table
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.open_encoder import open_encoder
from jaxft.models.bert import Encoder
from jaxft.models.tagger import TaggerConfig, TaggerFns
from jaxft.ner.settings import NO_ENCODER, Settings

PARTS = ("train", "dev", "test")
SUFFIXES = tuple(
    f"{kind}{packed}"
    for packed in ("", *COMPRESSION_SUFFIXES)
    for kind in ("", ".txt", ".tsv", ".conll", ".json", ".jsonl", *ARROW_SUFFIXES)
)


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
    named = {name: path for name, path in (("dev", settings.dev), ("test", settings.test)) if path is not None}
    path = expanded(settings.data)
    if path.is_file():
        return {"train": path, **named}
    starts = [f"{path}/"] if path.is_dir() else [f"{path}."]
    files = {}
    for part in PARTS:
        names = [part, *(name for name, split in SPLIT_NAMES.items() if split == part)]
        candidates = (Path(f"{start}{name}{suffix}") for start in starts for name in names for suffix in SUFFIXES)
        file = named.get(part) or next((candidate for candidate in candidates if candidate.is_file()), None)
        if file is not None:
            files[part] = file
    if "train" not in files:
        raise InputError(
            f"--data {settings.data} is not a file, and neither {starts[0]}train nor {starts[0]}train.txt or another "
            "known suffix exists: name the training file, or the start of the files' names"
        )
    return files


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
        folder = checkpoint_folder(settings.encoder, "--encoder")
        encoder, tokenizer = open_encoder(folder, new_head=True, precision=settings.precision, seed=settings.seed)
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
        lines=lines,
        sentences=sentences,
        pieces=pieces,
        tokenizer=tokenizer,
        fns=TaggerFns(tagger_config(settings, names, tokenizer, encoder), encoder),
        folder=folder,
    )


def _read_files(settings: Settings) -> tuple[dict[str, tuple[Sentence, ...]], str, list[str]]:
    files = find_files(settings)
    sentences: dict[str, tuple[Sentence, ...]] = {}
    lines = []
    for part, file in files.items():
        if not is_tagged_table(file):
            sentences[part] = tuple(read_tagged(file, settings.tag_column))
            continue
        splits, told = _read_parts(file, "" if len(files) == 1 else part)
        lines += told
        sentences |= splits
    return sentences, " ".join(file_hash(file, part) for part, file in files.items()), lines


def _read_table(table: Table) -> tuple[dict[str, tuple[Sentence, ...]], str, list[str]]:
    sentences, lines = _read_parts(table)
    return sentences, table.fingerprint("tagged"), lines


def _read_parts(source: Path | Table, only: str = "") -> tuple[dict[str, tuple[Sentence, ...]], list[str]]:
    """The sentences of each split of a table, and what the user should know of them; `only` is the part of its file."""
    parts, cut = read_tagged_table(source)
    name = source_name(source)
    if only:
        if others := sorted(parts.keys() - {"train", only}):
            raise InputError(
                f"{name} is the file of {only} and has rows of the split {others[0]}: remove them, or give it alone"
            )
        parts = {only: list(chain.from_iterable(parts.values()))}
    elif "train" not in parts:
        raise InputError(f"{name} has no row of the split train: mark some as train")
    told = (
        f"{name}: {cut:,} spans begin or end within a token and take the whole of it, or have no token and are left out"
    )
    return {part: tuple(sentences) for part, sentences in parts.items()}, [told] * bool(cut)


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
        precision=settings.precision,
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
