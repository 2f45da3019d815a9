"""Files of corpora that the tests of the readers write, and the documents in them."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jaxft.data.columns import Columns, TableSettings
from jaxft.data.corpus import open_corpus
from jaxft.data.document import Document
from jaxft.errors import InputError

REVIEWS = {
    "train/pos/0_9.txt": "A joy.<br /><br />Truly.",
    "train/pos/10_8.txt": "Très bien.",
    "train/neg/0_2.txt": "A bore.",
    "train/unsup/0_0.txt": "Two hours long.",
    "test/pos/0_10.txt": "Splendid.",
    "test/neg/0_1.txt": "Dire.",
}
DOCUMENTS = [
    Document("A joy.<br /><br />Truly.", "pos", "train"),
    Document("Très bien.", "pos", "train"),
    Document("A bore.", "neg", "train"),
    Document("Two hours long.", None, "unlabelled"),
    Document("Splendid.", "pos", "test"),
    Document("Dire.", "neg", "test"),
]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_folder(root: Path) -> Path:
    for name, text in {**REVIEWS, "README": "About.", "train/urls_pos.txt": "http://"}.items():
        write(root / name, text)
    return root


def tar_bytes(members: Mapping[str, str | bytes], *extra: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in members.items():
            content = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return buffer.getvalue()


def documents(path: Path, **columns: Any) -> list[Document]:
    return list(open_corpus(str(path), Columns.of(TableSettings(**columns))).documents())


def refusal(path: Path, **columns: Any) -> str:
    """The message with which a corpus is refused, at once or while it streams: one line that names the file."""
    with pytest.raises(InputError) as caught:
        documents(path, **columns)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


COMPRESS = {"": lambda content: content, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def aclimdb_tar() -> bytes:
    """A tar of the reviews in the original layout."""
    return tar_bytes({f"aclImdb/{name}": text for name, text in {**REVIEWS, "README": "About."}.items()})
