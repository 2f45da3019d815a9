"""Reading of data files: decompression, strict UTF-8 and hashes, with errors that name the file and the line.

Every reader of the room uses it.
"""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from jaxft.base.files import require_file
from jaxft.errors import InputError

SURROGATE = re.compile("[\ud800-\udfff]")
LARGEST_LINE = 1 << 25
"""bytes of the longest line of a small file; no text has as many"""
LARGEST_EXPANSION = 20
"""bytes that a byte of a large file may expand to in one line or value; texts expand to a tenth to a half of it"""
COMPRESSION_SUFFIXES = (".gz", ".xz", ".bz2", ".zst")


class _Counted(io.RawIOBase):
    """A stream that cannot seek, and yet tells how far it has been read."""

    def __init__(self, stream: Any):
        self._stream, self._position = stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._stream.read(len(buffer))
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position


def _open_zstandard(raw: BinaryIO, mode: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise InputError(
            f"{raw.name} is compressed with Zstandard, which needs pyarrow: install it with "
            "pip install 'jaxft[arrow]', or compress the file with gzip"
        ) from error
    return io.BufferedReader(_Counted(pyarrow.CompressedInputStream(raw, "zstd")))


OPENERS: dict[bytes, Callable[[BinaryIO, str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"BZh": bz2.open,
    b"\x28\xb5\x2f\xfd": _open_zstandard,
}
NO_TEXTS: dict[bytes, str] = {
    b"PK\x03\x04": "is a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"PAR1\x15": "is a Parquet file under another name: call it .parquet",
    b"ARROW1\0": "is an Arrow file under another name: call it .arrow",
    b"\xd0\xcf\x11\xe0": "is an old Excel or Word file: save it as CSV or plain text",
    b"%PDF-1": "is a PDF file: extract its text first",
    b"SQLite format 3\0": "is an SQLite database: export the table as CSV",
    b"\x89HDF": "is an HDF5 file: export the table as CSV",
    b"7z\xbc\xaf": "is a 7z archive: unpack it",
    b"Rar!\x1a": "is a RAR archive: unpack it",
    b"version https://git-lfs": "is a pointer of Git LFS in place of the file: fetch it with git lfs pull",
}
"""how files that hold no texts as they are begin, and what to do with them"""


@contextmanager
def decompressed(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading bytes, and decompresses gzip, xz, bzip2 and Zstandard.

    The content decides, not the suffix, because some browsers decompress a `.gz` and keep its name.

    Raises:
        InputError: there is no file, it cannot be read, is empty, is compressed with Zstandard where pyarrow is not
            installed, or, while it is read in the `with` block, is truncated or corrupt.
    """
    require_file(path)
    try:
        with open(path, "rb") as raw:
            start = raw.read(64)
            raw.seek(0)
            if not start:
                raise InputError(f"{path} is empty: name a file with texts")
            for beginning, sentence in NO_TEXTS.items():
                if start.startswith(beginning):
                    raise InputError(f"{path} {sentence}")
            opener = next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), None)
            if opener is None:
                yield raw
            else:
                with opener(raw, "rb") as stream:
                    yield cast(BinaryIO, stream)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: check the path") from error
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: check its permissions") from error
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path} is truncated or corrupt: download or write it again") from error


def expanded(path: str | Path) -> Path:
    """The path with `~` replaced by the home folder.

    Raises:
        InputError: the user whose home folder it names does not exist.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path} names the home folder of a user who does not exist: check the path") from error


def decode(content: bytes, where: str) -> str:
    """Decodes UTF-8; `where` names the place in error messages.

    Raises:
        InputError: there is a zero byte, or a byte that is not UTF-8.

    Examples:
        >>> decode(b"na\\xc3\\xafve", "a.csv, line 1")
        'naïve'
    """
    if b"\0" in content:
        raise zero_byte_error(content, where)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise not_text_error(content[error.start], where) from error


def refuse_surrogates(text: str, where: str) -> None:
    """Refuses a text with half a surrogate pair, which JSON can spell and UTF-8 cannot.

    Raises:
        InputError: naming the place.
    """
    if SURROGATE.search(text):
        raise InputError(f"{where} has half a surrogate pair: write the whole character")


def not_text_error(byte: int, where: str) -> InputError:
    """The error for a byte that is not UTF-8; `where` names the place.

    Examples:
        >>> print(not_text_error(0xEF, "a.csv, line 1"))
        a.csv, line 1 has the byte 0xef, which is not UTF-8: save the file as UTF-8
    """
    return InputError(f"{where} has the byte 0x{byte:02x}, which is not UTF-8: save the file as UTF-8")


def zero_byte_error(content: bytes | str, where: str) -> InputError:
    """The error for a line with zero bytes; `where` names the place.

    Examples:
        >>> print(zero_byte_error("good\\0 film", "a.csv, line 2"))
        a.csv, line 2 has a zero byte: remove it
    """
    zero = "\0" if isinstance(content, str) else b"\0"
    if 3 * content.count(zero) <= len(content):  # pyright: ignore[reportArgumentType]
        return InputError(f"{where} has a zero byte: remove it")
    return InputError(f"{where} has zero bytes, as in a binary or UTF-16 file: save it as UTF-8 text")


def most_bytes(path: Path) -> int:
    """The bytes that a line or a value of a file may have: few for a small file, whatever it expands to.

    A file that is not compressed is always within it.
    """
    return max(LARGEST_LINE, LARGEST_EXPANSION * path.stat().st_size if path.is_file() else 0)


def too_large_error(where: str, limit: int) -> InputError:
    """The error for a line or a value of more bytes than `most_bytes`; `where` names the place.

    Examples:
        >>> print(too_large_error("a.csv.gz, line 2", 1 << 25))
        a.csv.gz, line 2 expands to more than 32 MiB: check the file, or decompress it where so long a text is meant
    """
    return InputError(
        f"{where} expands to more than {limit / 2**20:,.0f} MiB: check the file, or decompress it where so long a text "
        "is meant"
    )


def within_limit(lines: Iterable[str], path: Path) -> Iterator[str]:
    """The lines of a text that is read whole; `path` names it in error messages.

    Raises:
        InputError: together they are longer than `most_bytes`.
    """
    limit, size = most_bytes(path), 0
    for line in lines:
        size += len(line)
        if size > limit:
            raise too_large_error(str(path), limit)
        yield line


def first_line(path: Path) -> bytes:
    """The first line of a file that is not blank, without a byte-order mark, or its beginning where it is long.

    Raises:
        InputError: the file cannot be read.
    """
    with decompressed(path) as stream:
        lines = (line.removeprefix(codecs.BOM_UTF8) for line in iter(partial(stream.readline, LARGEST_LINE), b""))
        return next((line for line in lines if line.strip()), b"")


def text_lines(stream: BinaryIO, path: Path) -> Iterator[str]:
    """The lines of a file with their line ends and without a byte-order mark; `path` names it in error messages.

    Raises:
        InputError: a line is not UTF-8, has a zero byte or is longer than `most_bytes`, or the lines end as on an old
            Macintosh.
    """
    limit = most_bytes(path)
    for number, line in enumerate(iter(partial(stream.readline, limit + 1), b""), 1):
        if len(line) > limit:
            raise too_large_error(f"{path}, line {number}", limit)
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
            if b"\r" in line and not line.endswith(b"\n"):
                raise InputError(
                    f"{path} ends its lines with carriage returns alone, as old Macs did: save it with line feeds"
                )
        yield decode(line, f"{path}, line {number}")


def file_hash(path: Path, settings: str) -> str:
    """The hexadecimal sha256 of the bytes of a file and of the settings that it is read with.

    Raises:
        InputError: the file cannot be read.
    """
    require_file(path)
    try:
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error
    return hashlib.sha256(f"{settings}\n{content}".encode()).hexdigest()
