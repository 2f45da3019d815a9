"""A corpus as token ids on disk: tokenized once, then opened without reading the texts again.

The jobs call `build_store` with a corpus from `jaxft.data.corpus`. `jaxft.data.numbering` turns the stream of texts
into a file of ids in order of appearance, which is then renumbered by the vocabulary, so memory holds the distinct
tokens and 17 bytes for each document, but no text. `N` is the number of documents, `T` the number of tokens of all
of them.
"""

import hashlib
import json
import math
import os
import shutil
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from jaxft.base.files import read_json, require_file
from jaxft.data import text
from jaxft.data.document import READERS_VERSION, SPLITS, TRAIN, Corpus, Document, Split
from jaxft.data.duplicates import text_key
from jaxft.data.numbering import number_subwords, number_texts
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError

# Part of every cache key: raise it with any change of the files.
_FORMAT = 2
_BLOCK = 1 << 20


@dataclass(frozen=True)
class TokenStore:
    """The token ids of N documents, with their labels and splits; `store[i]` is the ids of document i.

    Attributes:
        ids: the ids of all documents in a row, memory-mapped and read-only: (T,), uint16, or int32 if V >= 65,536.
        offsets: where each document starts, and the end of the last: int64, (N + 1,).
        labels: index into `classes`, -1 for none: int32, (N,).
        splits: index into `jaxft.data.document.SPLITS`: 0 train, 1 test, 2 unlabelled, 3 dev: int8, (N,).
        vocabulary: the tokens behind the ids.
        classes: the labels of the train split; numbers by value, before other strings in their order.
        keys: `jaxft.data.duplicates.text_key` of each text, equal for equal texts: int64, (N,).
    """

    ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    vocabulary: Vocabulary
    classes: tuple[str, ...]
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> np.ndarray:
        if not 0 <= i < len(self):
            raise IndexError(f"document {i} of {len(self)}")
        return np.asarray(self.ids[self.offsets[i] : self.offsets[i + 1]])

    def reversed(self) -> "TokenStore":
        """The documents from the last to the first, each from its last token to its first; a view without a copy.

        Examples:
            >>> vocabulary = Vocabulary(("xxunk", "xxpad", "xxbos", "film"))
            >>> offsets, zeros = np.array([0, 2, 5]), np.zeros(2, np.int32)
            >>> store = TokenStore(np.array([2, 3, 2, 0, 3]), offsets, zeros, zeros, vocabulary, (), zeros).reversed()
            >>> store[0].tolist(), store[1].tolist()
            ([3, 0, 2], [3, 2])
        """
        return replace(
            self,
            ids=self.ids[::-1],
            offsets=self.offsets[-1] - self.offsets[::-1],
            labels=self.labels[::-1],
            splits=self.splits[::-1],
            keys=self.keys[::-1],
        )

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each document, `xxbos` included: int64, (N,)."""
        return np.diff(self.offsets)


def build_store(
    corpus: Corpus,
    cache: Path,
    *,
    max_vocab: int = 60_000,
    min_count: int = 3,
    subwords: bool = False,
    vocabulary: Vocabulary | None = None,
    transductive: bool = False,
    labelled: bool = True,
    workers: int | None = None,
    progress: bool = True,
) -> TokenStore:
    """Opens a tokenized corpus in the cache; tokenizes the corpus first if it is not there.

    Args:
        corpus: the documents; its fingerprint is part of the cache's key.
        cache: the folder of the cache, with a folder for each combination of corpus and settings.
        max_vocab: the largest number of tokens in the vocabulary, special ones included.
        min_count: a token with fewer occurrences becomes `xxunk`; of subwords, occurrences that a pair needs.
        subwords: whether the vocabulary is one of subwords, learnt from the corpus, instead of words.
        vocabulary: the vocabulary to use; with it, the settings of a new one and `transductive` have no effect.
        transductive: whether the test texts count towards the vocabulary.
        labelled: whether the corpus needs classes; False if only a language model reads it.
        workers: number of tokenizing processes; None starts one for each usable core.
        progress: whether to show a progress bar.

    Raises:
        InputError: there are no documents; the train split has fewer than two classes, or lacks one that the test split
            has; or the cache cannot be written.
    """
    settings = {
        "corpus": corpus.fingerprint,
        "tokenizer": text.VERSION,
        "readers": READERS_VERSION,
        "format": _FORMAT,
        "labelled": labelled,
        **({"pretokenized": True} if corpus.pretokenized else {}),
        "vocabulary": [max_vocab, min_count, transductive] if vocabulary is None else vocabulary.tokens,
        **({"subwords": True} if subwords else {}),
        **({} if vocabulary is None or vocabulary.merges is None else {"merges": vocabulary.merges}),
    }
    folder = Path(cache) / hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32]
    store = _open(folder)
    if store is not None:
        return store
    with _alone(folder) as temporary:
        if (store := _open(folder)) is not None:  # another process has built it
            return store
        numbered = temporary / "numbered"
        counting: set[Split] = set(SPLITS) if transductive else {"train", "unlabelled"}
        if subwords and vocabulary is None:
            vocabulary = Vocabulary.of_subwords(_Texts(corpus, counting, progress), max_vocab, min_count)
        number = partial(number_texts, workers=workers, pretokenized=corpus.pretokenized)
        if vocabulary is not None and vocabulary.merges is not None:
            number = partial(number_subwords, vocabulary=vocabulary)
        with tqdm(corpus.documents(), desc="tokenizing", unit=" texts", disable=not progress) as documents:
            table = _number(documents, numbered, counting, number)
        if not table.lengths:
            raise InputError(f"{corpus.name} has no texts: name a file or folder with texts")
        classes = _classes(corpus.name, table) if labelled else ()
        if vocabulary is None:
            vocabulary = Vocabulary.build(
                dict(zip(table.tokens, table.counts.tolist(), strict=True)), max_vocab, min_count
            )
        with _writing(folder):
            _write(temporary, numbered, table, classes, vocabulary)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    store = _open(folder)
    if store is None:
        raise InputError(f"the tokenized corpus in {folder} cannot be read back: free some space on the disk")
    return store


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """Lets one process at a time build the store in `folder`, in a temporary folder beside it.

    The finished one takes the name of the store in one step, after which nothing is left to remove; what a process
    leaves that is killed before, the next one removes.
    """
    temporary, lock = Path(f"{folder}.tmp"), FileLock(folder.with_name(f".{folder.name}.lock"), mode=0o666)
    with _writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print("jaxft: waiting for another process that tokenizes the same texts", file=sys.stderr)
            lock.acquire()
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        with _writing(folder):
            temporary.mkdir()
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        lock.release()  # the file stays, because a waiting process holds it open


@dataclass(frozen=True)
class _Texts:
    """The texts of some splits of a corpus, which can be read several times."""

    corpus: Corpus
    splits: Set[Split]
    progress: bool

    def __iter__(self) -> Iterator[str]:
        with tqdm(
            self.corpus.documents(), desc="learning subwords", unit=" texts", disable=not self.progress
        ) as documents:
            yield from (document.text for document in documents if document.split in self.splits)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or "the disk is full"  # which NumPy reports without the system's words
        raise InputError(f"{path} cannot be written ({reason}): free some space or set JAXFT_CACHE") from error


@dataclass(frozen=True)
class _Numbered:
    """What one pass over the documents leaves in memory.

    Attributes:
        tokens: the distinct tokens in order of appearance.
        counts: occurrences of each token in the texts that the vocabulary is built from.
        names: the distinct labels in order of appearance.
        lengths: tokens of each document.
        labels: index into `names` for each document, -1 for none.
        splits: index into `SPLITS` for each document.
        keys: `text_key` of each document.
    """

    tokens: list[str]
    counts: np.ndarray
    names: list[str]
    lengths: "array[int]"
    labels: "array[int]"
    splits: "array[int]"
    keys: "array[int]"


def _number(
    documents: Iterable[Document],
    path: Path,
    counting: Set[Split],
    number: Callable[[Iterable[str], list[str]], Iterable[tuple[np.ndarray, np.ndarray]]],
) -> _Numbered:
    """Writes the ids that `number` gives the documents into a file; counts the tokens of the splits in `counting`."""
    names: dict[str, int] = {}
    lengths, labels, splits, keys = array("i"), array("i"), array("b"), array("q")

    def texts() -> Iterator[str]:
        for document in documents:
            label = None if document.split == "unlabelled" else document.label
            labels.append(-1 if label is None else names.setdefault(label, len(names)))
            splits.append(SPLITS.index(document.split))
            keys.append(text_key(document.text))
            yield document.text

    tokens: list[str] = []
    counts = np.zeros(0, np.int64)
    with _writing(path):
        file = path.open("wb")
    with file:
        for sizes, ids in number(texts(), tokens):
            with _writing(path):
                ids.tofile(file)
            split = np.array(splits[len(lengths) : len(lengths) + len(sizes)])
            lengths.extend(sizes.tolist())
            in_vocabulary = np.isin(split, [SPLITS.index(name) for name in counting])
            new_counts = np.bincount(ids[np.repeat(in_vocabulary, sizes)], minlength=len(tokens))
            new_counts[: len(counts)] += counts
            counts = new_counts
    return _Numbered(tokens, counts, list(names), lengths, labels, splits, keys)


def _classes(name: str, table: _Numbered) -> tuple[str, ...]:
    """The labels of the train split in their order.

    Raises:
        InputError: there are fewer than two, or another split has another one.
    """
    labels, splits = np.array(table.labels), np.array(table.splits)
    train = {table.names[i] for i in np.unique(labels[(splits == TRAIN) & (labels >= 0)])}
    if len(train) < 2:
        labels_found = f"only the label {train.pop()!r}" if train else "no label"
        raise InputError(f"{name} has {labels_found} in its train split: add train rows of at least two classes")
    missing = [label for label in table.names if label not in train]
    if missing:
        raise InputError(
            f"{name} has the label {missing[0]!r} in its dev or test split but not in train: add train rows with it"
        )
    return tuple(sorted(train, key=_by_number))


def _by_number(label: str) -> tuple[float, str]:
    """The sort key of a label: numbers by value, before other strings."""
    try:
        number = float(label)
    except ValueError:
        number = math.inf
    return (number if math.isfinite(number) else math.inf, label)


def _write(folder: Path, numbered: Path, table: _Numbered, classes: tuple[str, ...], vocabulary: Vocabulary) -> None:
    """Writes the files of a store into a folder with `numbered` alone, which is removed."""
    offsets = np.concatenate([[0], np.cumsum(table.lengths, dtype=np.int64)])
    index = {label: i for i, label in enumerate(classes)}
    labels = np.array([index.get(name, -1) for name in table.names] + [-1], np.int32)[np.array(table.labels)]
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "splits.npy", np.array(table.splits))
    np.save(folder / "keys.npy", np.array(table.keys))
    vocabulary.save(folder / "vocabulary.json")
    dtype = np.dtype(np.uint16 if len(vocabulary) < 1 << 16 else np.int32)
    ids = vocabulary.encode(table.tokens).astype(dtype)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (int(offsets[-1]),)}
    with numbered.open("rb") as numbered_file, (folder / "ids.npy").open("wb") as ids_file:
        np.lib.format.write_array_header_1_0(ids_file, header)
        # Block by block: a memory map's pages would count as this process's memory.
        while (block := np.fromfile(numbered_file, np.int32, _BLOCK)).size:
            ids[block].tofile(ids_file)
    numbered.unlink()
    hashes = {path.name: _hash_on_disk(path) for path in sorted(folder.iterdir())}
    meta = {"classes": classes, "hashes": hashes}
    meta["hash"] = _hash_of(meta)
    (folder / "store.json").write_text(json.dumps(meta), encoding="utf-8")


def _hash_on_disk(path: Path) -> str:
    """The sha256 of a file, which is on the disk by then."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_of(meta: Mapping[str, Any]) -> str:
    content = {name: value for name, value in meta.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_whole(folder: Path, meta: Mapping[str, Any]) -> bool:
    """Whether the files of a store are as they were written: 60 MB take a tenth of a second."""
    if meta["hash"] != _hash_of(meta):
        return False
    for name, expected in meta["hashes"].items():
        require_file(folder / name)
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                return False
    return True


def _open(folder: Path) -> TokenStore | None:
    """The store in a folder; None if there is none, or one of its files is missing, changed or unreadable."""
    try:
        meta = read_json(folder / "store.json")
        if not _is_whole(folder, meta):
            return None
        ids, offsets = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "offsets"))
        labels, splits, keys = (np.load(folder / f"{name}.npy") for name in ("labels", "splits", "keys"))
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        return TokenStore(ids, offsets, labels, splits, vocabulary, tuple(meta["classes"]), keys)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
