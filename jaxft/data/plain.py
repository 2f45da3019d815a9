"""Plain texts for a language model: files, folders and tars of UTF-8 text, and WikiText-2.

`python -m jaxft.pretrain` reads its data with it. A text of any size is read line by line and split between two
paragraphs into documents, so that memory holds one document.
"""

import codecs
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from jaxft.data.archive import archive_files, is_archive
from jaxft.data.delimited import listed_names
from jaxft.data.document import Corpus, Document, Split
from jaxft.data.download import fetch
from jaxft.data.files import COMPRESSION_SUFFIXES, decompressed, expanded, not_text_error, zero_byte_error
from jaxft.data.memory import TEXT_COLUMN, Table
from jaxft.data.table import split_column_of, split_of, text_field
from jaxft.errors import InputError

TEXT_SUFFIXES = (".txt", ".md", ".text")
PARAGRAPH_END_AFTER = 4_000
"""characters after which a document ends at the next empty line"""
LINE_END_AFTER = 8_000
"""characters after which a document ends at the next line end"""
MAX_LINE_BYTES = 100_000
"""bytes after which a line is split"""

WIKITEXT_URL = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/{}.txt"
WIKITEXT_FILES = {
    "train": (10_797_148, "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"),
    "valid": (1_121_681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
    "test": (1_256_449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
}
"""size in bytes and sha256"""
ARTICLE = re.compile(r" = [^=].* = \n")


def plain_corpus(paths: Sequence[Path]) -> Corpus:
    """The corpus of the texts in files, folders and tars, in the order of their names.

    Args:
        paths: text files, plain or compressed with gzip, xz or bzip2; tars of plain text files; or folders, whose .txt,
            .md and .text files and tars are read at any depth.

    Raises:
        InputError: a path does not exist, there is nothing to read, or, while streaming, a file is empty, binary or not
            UTF-8.
    """
    files = [file for path in paths for file in _files(expanded(path))]
    digest = hashlib.sha256(b"plain texts 2")
    for file in files:
        stat = file.stat()
        digest.update(f"\n{file.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode())
    names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    return Corpus(names, digest.hexdigest(), partial(_read, files), notes=partial(_ignored, paths, files))


def _ignored(paths: Sequence[Path], used: Sequence[Path]) -> list[str]:
    """A line for each folder with files that are not read."""
    notes = []
    for folder in filter(Path.is_dir, map(expanded, paths)):
        others = sorted(
            str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() and file not in used
        )
        if others:
            count = sum(file.is_relative_to(folder) for file in used)
            notes.append(f"{folder}: reads {count:,} files, and not {listed_names(others)}")
    return notes


def table_corpus(table: Table) -> Corpus:
    """The corpus of the column `text` of a table in memory; rows may name their split, and empty texts are passed over.

    Raises:
        InputError: while streaming, there is no such column, or an unknown split.
    """

    def documents() -> Iterator[Document]:
        for where, fields in table.rows():
            if TEXT_COLUMN not in fields:
                raise InputError(f"{where} has no column {TEXT_COLUMN!r}, only {list(fields)}: rename the one of texts")
            text = text_field(fields, TEXT_COLUMN, "text", where, may_be_empty=True)
            column = split_column_of(fields)
            split = split_of(fields, column, where) if column in fields else "unlabelled"
            if text.strip():
                yield Document(text, None, split if split in ("dev", "test") else "unlabelled")

    return Corpus(table.name, table.fingerprint("plain texts"), documents)


def wikitext_corpus(folder: Path | None) -> Corpus:
    """The corpus of the tokenized version of WikiText-2, with its own three splits; each article is a document.

    Its tokens are used as they are, with `<eos>` at the end of every line and `<unk>` as `xxunk`, as the published
    perplexities count them.

    Args:
        folder: the folder with train.txt, valid.txt and test.txt; None downloads them into the cache.

    Raises:
        InputError: a file is missing, or the download failed.

    References:
        Merity, Xiong, Bradbury & Socher, Pointer Sentinel Mixture Models, ICLR 2017.
    """
    files: dict[str, Path] = {}
    for split, (size, sha256) in WIKITEXT_FILES.items():
        name = f"{split}.txt"
        if folder is None:
            url, instead = WIKITEXT_URL.format(split), "--data FOLDER for your own copy"
            files[split] = fetch(url, sha256, name=f"wikitext-2-{name}", instead=instead, size=size)
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
        raise InputError(f"{path} does not exist: give files or folders of UTF-8 text")
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and _is_text(file))
    if not files:
        raise InputError(f"{path} holds no {', '.join(TEXT_SUFFIXES)} file and no tar: name the files themselves")
    return files


def _is_text(file: Path) -> bool:
    name = Path(file.name.lower())
    if name.suffix in COMPRESSION_SUFFIXES:
        name = name.with_suffix("")
    return not file.name.startswith(".") and (name.suffix in TEXT_SUFFIXES or is_archive(file))


def _read(files: Sequence[Path]) -> Iterator[Document]:
    for file in files:
        if is_archive(file):
            for entry, content in archive_files(file):
                if Path(entry.name).suffix.lower() in TEXT_SUFFIXES and not Path(entry.name).name.startswith("."):
                    yield from _split_into_documents(content, f"{file}: {entry.name}")
        else:
            with decompressed(file) as stream:
                yield from _split_into_documents(stream, str(file))


def _split_into_documents(stream: BinaryIO, where: str) -> Iterator[Document]:
    """Splits the text of a file into documents of some thousand characters."""
    lines: list[str] = []
    size = 0
    for line in _lines(stream, where):
        lines.append(line)
        size += len(line)
        if size >= LINE_END_AFTER or (size >= PARAGRAPH_END_AFTER and not line.strip()):
            yield Document("".join(lines), None, "unlabelled")
            lines, size = [], 0
    if "".join(lines).strip():
        yield Document("".join(lines), None, "unlabelled")


def _lines(stream: BinaryIO, where: str) -> Iterator[str]:
    """The lines of a file, each with the end "\\n", long ones in parts; errors name the file and the line."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(), translate=True)
    number, ended = 1, False
    try:
        while not ended:
            part = stream.readline(MAX_LINE_BYTES)
            ended = not part
            for line in io.StringIO(decoder.decode(part, final=ended)):
                if "\0" in line:
                    raise zero_byte_error(line, f"{where}, line {number}")
                yield line
                number += line.endswith("\n")
    except UnicodeDecodeError as error:
        number += error.object[: error.start].count(b"\r")  # a part may hold many lines of old systems
        raise not_text_error(error.object[error.start], f"{where}, line {number}") from error


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
