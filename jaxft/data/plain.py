"""Plain texts for a language model: files, folders and tars of UTF-8 text, and WikiText-2. Called by
`python -m jaxft.pretrain`.

A text of any size is read line by line and dealt out in pieces that end between two paragraphs, so that memory holds
one piece; each piece is a document of its own.
"""

import codecs
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from jaxft.data.archive import is_archive, members
from jaxft.data.document import Corpus, Document, Split
from jaxft.data.download import fetch
from jaxft.data.files import COMPRESSION_SUFFIXES, decompressed, expanded, no_text
from jaxft.errors import InputError

TEXT_SUFFIXES = (".txt", ".md", ".text")
ENOUGH = 4_000
"""characters after which a piece ends with the next empty line"""
MORE = 8_000
"""characters after which it ends with the line"""
MOST = 100_000
"""bytes after which it ends within the line"""

WIKITEXT_URL = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/{}.txt"
WIKITEXT_MD5 = {
    "train": "34a77ebe59551b3a3b3d8c0a2797c976",
    "valid": "d756d22ab2310e7e60c094bea5c5a8eb",
    "test": "781c9418ab9414bd09e4aad825aae752",
}
ARTICLE = re.compile(r" = [^=].* = \n")


def plain_corpus(paths: Sequence[Path]) -> Corpus:
    """The texts in files, folders and tars, in order of their names.

    Args:
        paths: text files, plain or compressed with gzip, xz or bzip2; tars of plain ones; or folders, of which every
            .txt, .md and .text file and every tar is read, at any depth.

    Raises:
        InputError: a missing path, nothing to read, or (while streaming) a file that is empty, binary or not UTF-8.
    """
    files = [file for path in paths for file in _files(expanded(path))]
    digest = hashlib.sha256(b"plain texts 2")
    for file in files:
        stat = file.stat()
        digest.update(f"\n{file.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    return Corpus(names, digest.hexdigest(), partial(_read, files))


def wikitext_corpus(folder: Path | None) -> Corpus:
    """WikiText-2 in its tokens version, an article a document, with its own three splits.

    Its words are taken as they are, with `<eos>` at the end of every line and `<unk>` as `xxunk`, as the published
    perplexities count them.

    Args:
        folder: where train.txt, valid.txt and test.txt lie; None takes them from the cache, or downloads them.

    Raises:
        InputError: a missing file, or a failed download.

    References:
        Merity, Xiong, Bradbury & Socher, Pointer Sentinel Mixture Models, ICLR 2017.
    """
    files: dict[str, Path] = {}
    for split, md5 in WIKITEXT_MD5.items():
        name = f"{split}.txt"
        if folder is None:
            url = WIKITEXT_URL.format(split)
            files[split] = fetch(url, md5, name=f"wikitext-2-{name}", instead="--data FOLDER for your own copy")
        elif (folder / name).is_file():
            files[split] = folder / name
        else:
            raise InputError(f"{folder} has no {name}: name a folder with train.txt, valid.txt and test.txt")
    digest = hashlib.sha256(b"wikitext 1")
    for path in files.values():
        digest.update(path.read_bytes())
    return Corpus("wikitext-2", digest.hexdigest(), partial(_read_wikitext, files), pretokenized=True)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"{path} does not exist; --text takes files and folders of UTF-8 text")
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _is_text(file))
    if not found:
        raise InputError(f"{path} holds no {', '.join(TEXT_SUFFIXES)} file and no tar; name the files themselves")
    return found


def _is_text(file: Path) -> bool:
    name = Path(file.name.lower())
    if name.suffix in COMPRESSION_SUFFIXES:
        name = name.with_suffix("")
    return not file.name.startswith(".") and (name.suffix in TEXT_SUFFIXES or is_archive(file))


def _read(files: Sequence[Path]) -> Iterator[Document]:
    for file in files:
        if is_archive(file):
            for member, content in members(file):
                if Path(member.name).suffix.lower() in TEXT_SUFFIXES and not Path(member.name).name.startswith("."):
                    yield from _pieces(content, f"{file}: {member.name}")
        else:
            with decompressed(file) as stream:
                yield from _pieces(stream, str(file))


def _pieces(stream: BinaryIO, where: str) -> Iterator[Document]:
    """The text of one file in documents of some thousand characters."""
    piece: list[str] = []
    size = 0
    for line in _lines(stream, where):
        piece.append(line)
        size += len(line)
        if size >= MORE or (size >= ENOUGH and not line.strip()):
            yield Document("".join(piece), None, "unlabelled")
            piece, size = [], 0
    if "".join(piece).strip():
        yield Document("".join(piece), None, "unlabelled")


def _lines(stream: BinaryIO, where: str) -> Iterator[str]:
    """Lines, or parts of a line that is too long, each with "\\n" for its end; errors name the file and the line."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    number, ended = 1, False
    try:
        while not ended:
            part = stream.readline(MOST)
            ended = not part
            for line in io.StringIO(decoder.decode(part, final=ended)):
                if "\0" in line:
                    raise no_text(0, f"{where}, line {number}")
                yield line
                number += line.endswith("\n")
    except UnicodeDecodeError as error:
        number += error.object[: error.start].count(b"\r")  # lines of old systems, of which a part may hold many
        raise no_text(error.object[error.start], f"{where}, line {number}") from error


def _read_wikitext(files: dict[str, Path]) -> Iterator[Document]:
    splits: dict[str, Split] = {"train": "unlabelled", "valid": "dev", "test": "test"}
    for name, path in files.items():
        article: list[str] = []
        with decompressed(path) as stream:
            for line in _lines(stream, str(path)):
                if ARTICLE.fullmatch(line) and article:
                    yield Document(" ".join(article), None, splits[name])
                    article = []
                article += [*line.replace("<unk>", "xxunk").split(), "<eos>"]
        yield Document(" ".join(article), None, splits[name])
