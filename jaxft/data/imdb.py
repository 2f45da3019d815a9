"""Documents of the Large Movie Review Dataset (Maas et al., 2011), from a folder or a tar in its `aclImdb` layout.

The layout is train/{pos,neg,unsup} and test/{pos,neg}, with one text file for each review. `open_corpus` calls the
readers.
"""

import codecs
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxft.base.files import require_file
from jaxft.data.archive import archive_files
from jaxft.data.document import Document, Split
from jaxft.data.files import decode
from jaxft.errors import InputError

# (folder, its documents' split and label); the order in which a folder is read
LAYOUT: dict[tuple[str, str], tuple[Split, str | None]] = {
    ("train", "pos"): ("train", "pos"),
    ("train", "neg"): ("train", "neg"),
    ("train", "unsup"): ("unlabelled", None),
    ("test", "pos"): ("test", "pos"),
    ("test", "neg"): ("test", "neg"),
}
LONGEST_REVIEW = 2**24  # bytes; a thousand times the longest of the original


def read_folder(root: Path) -> Iterator[Document]:
    """Streams the documents of an `aclImdb` folder by split and label, then by file name.

    Raises:
        InputError: a review is empty, is not UTF-8 or cannot be read.
    """
    for (split, label), kind in LAYOUT.items():
        for path in _reviews(root / split / label):
            require_file(path)
            try:
                content = path.read_bytes()
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
            yield _document(content, kind, str(path))


def is_imdb(path: Path) -> bool:
    """Whether a folder has the layout of `aclImdb`, or holds one that has."""
    return any((path / root / "train" / "pos").is_dir() for root in ("", "aclImdb"))


def folder_root(path: Path) -> Path:
    """The folder that holds train/ and test/: the given one, or aclImdb in it.

    Raises:
        InputError: neither has train/pos and train/neg.
    """
    for root in (path, path / "aclImdb"):
        if (root / "train" / "pos").is_dir() and (root / "train" / "neg").is_dir():
            return root
    raise InputError(
        f"{path} has no table train.csv, no folder of .txt files for each class and no aclImdb layout (train/pos, "
        "train/neg, ...): name the folder that holds one of them"
    )


def folder_hash(root: Path) -> str:
    """The hexadecimal sha256 of the names, sizes and modification times of all reviews; no review is read."""
    digest = hashlib.sha256(b"aclImdb folder")
    for split, label in LAYOUT:
        for path in _reviews(root / split / label):
            try:
                stat = path.stat()
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error.strerror}): put it back or remove it") from error
            digest.update(f"\n{split}/{label}/{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def read_archive(path: Path) -> Iterator[Document]:
    """Streams the documents of an `aclImdb` tar in the order of the archive, through any compression.

    Raises:
        InputError: the archive has another layout; a review is empty, is not UTF-8 or is too long; or as
            `archive_files`.
    """
    empty = True
    for entry, content in archive_files(path):
        kind = _kind(entry.name)
        if kind is None:
            continue
        if entry.size > LONGEST_REVIEW:
            raise InputError(
                f"{path} holds {entry.name} of {entry.size} bytes, which is too long for a review: remove it"
            )
        empty = False
        yield _document(content.read(), kind, f"{path}: {entry.name}")
    if empty:
        raise InputError(f"{path} has no aclImdb layout (train/pos/*.txt, train/neg/*.txt, ...): name another archive")


def _kind(name: str) -> tuple[Split, str | None] | None:
    """The split and label of a file in an archive; None if the file is not a review."""
    parts = name.removeprefix("./").split("/")
    # at most one folder above train/ and test/: __MACOSX/aclImdb/train/pos/._0_9.txt is not a review
    if not name.endswith(".txt") or len(parts) not in (3, 4) or parts[-1].startswith("."):
        return None
    return LAYOUT.get((parts[-3], parts[-2]))


def _reviews(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    names = sorted(name for name in os.listdir(folder) if name.endswith(".txt") and not name.startswith("."))
    return [folder / name for name in names]


def _document(content: bytes, kind: tuple[Split, str | None], where: str) -> Document:
    text = decode(content.removeprefix(codecs.BOM_UTF8), where)
    if not text.strip():
        raise InputError(f"{where} is an empty review: remove the file or fill it in")
    split, label = kind
    return Document(text, label, split)
