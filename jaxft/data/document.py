"""Documents, the corpus that they stream from, and the names of splits, tasks and reading directions.

Every reader yields these types, so this module imports the standard library alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "test", "unlabelled", "dev"]
SPLITS: tuple[Split, ...] = ("train", "test", "unlabelled", "dev")
"""the splits in the order of their numbers, which stores on disk hold"""
TRAIN, TEST, UNLABELLED, DEV = range(len(SPLITS))

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "val": "dev",
    "test": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
    "unsupervised": "unlabelled",
    "unsup": "unlabelled",
}
"""the split that each name in a data file stands for"""

READERS_VERSION = 2
"""part of the key of every cache of documents: raise it with any change of what the readers yield"""

Task = Literal["classification", "regression", "multilabel"]
"""what a label is: one of several classes, a number, or a set of labels"""

Direction = Literal["forward", "backward"]
"""in which a model reads a text: from its first word to its last, or from its last to its first"""


@dataclass(frozen=True, slots=True)
class Document:
    """One text with its label and its split.

    Attributes:
        text: the raw text.
        label: its class; None where `split` is "unlabelled", and in a corpus for language models alone.
        split: the split that it belongs to.
    """

    text: str
    label: str | None
    split: Split


@dataclass(frozen=True)
class Corpus:
    """A named collection of documents that can be streamed several times.

    Attributes:
        name: "imdb", "demo" or the name of the file or folder, for reports.
        fingerprint: hexadecimal sha256 that changes when the documents may have changed; the key for caches.
        open_stream: starts a new stream; callers use `documents()`.
        pretokenized: whether the texts are tokens separated by spaces, to be used as they are.
        notes: lines that say what the user should know of how the data are read.

    Examples:
        >>> corpus = Corpus("one", "0" * 64, lambda: iter([Document("Fine.", "pos", "train")]))
        >>> [document.label for document in corpus.documents()]
        ['pos']
    """

    name: str
    fingerprint: str
    open_stream: Callable[[], Iterator[Document]] = field(repr=False, compare=False)
    pretokenized: bool = False
    notes: Callable[[], list[str]] = field(default=list, repr=False, compare=False)

    def documents(self) -> Iterator[Document]:
        """Streams all documents from the first, always in the same order, with one in memory at a time.

        Raises:
            InputError: while streaming, at the first bad row, line or archive member.
        """
        return self.open_stream()
