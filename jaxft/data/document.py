"""What every reader yields: documents, and the corpus they stream from. A leaf module, so that the readers (`table`,
`imdb`, `demo`) and `open_corpus`, which chooses among them, all share it. Called by the readers; everyone else takes
both names from `jaxft.data.corpus`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "test", "unlabelled", "valid"]
SPLITS: tuple[Split, ...] = ("train", "test", "unlabelled", "valid")

Task = Literal["classification", "regression", "multilabel"]
"""what a label is: one of several classes, a number, or a set of labels"""

Direction = Literal["forward", "backward"]
"""in which a model reads a text: from its first word to its last, or from its last to its first"""


@dataclass(frozen=True, slots=True)
class Document:
    """One text; `label` is None where `split` is "unlabelled", and in a corpus for language models alone."""

    text: str
    label: str | None
    split: Split


@dataclass(frozen=True)
class Corpus:
    """A named source of documents that can be streamed again and again.

    Attributes:
        name: "imdb", "demo" or the name of the file or folder, for reports.
        fingerprint: hexadecimal sha256 that changes when the documents may have changed; the key for caches.
        open_stream: starts a fresh stream; callers use `documents()`.
        pretokenized: whether the texts are tokens with spaces between them, to be taken as they are.

    Examples:
        >>> corpus = Corpus("one", "0" * 64, lambda: iter([Document("Fine.", "pos", "train")]))
        >>> [document.label for document in corpus.documents()]
        ['pos']
    """

    name: str
    fingerprint: str
    open_stream: Callable[[], Iterator[Document]] = field(repr=False, compare=False)
    pretokenized: bool = False

    def documents(self) -> Iterator[Document]:
        """A fresh stream over all documents, in the same order each time, one document in memory at a time.

        Raises:
            InputError: while streaming, at the first bad row, line or archive member.
        """
        return self.open_stream()
