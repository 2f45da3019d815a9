"""Reading of data files: decompression, strict UTF-8 and hashes, with errors that name the file and the line.

Every reader of the room uses it.
"""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from jaxft.errors import InputError

COMPRESSION_SUFFIXES = (".gz", ".xz", ".bz2", ".zst")


def _open_zstandard(raw: BinaryIO, mode: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise InputError(
            f"{raw.name} is compressed with Zstandard, which needs pyarrow: install it with "
            "pip install 'jaxft[arrow]', or compress the file with gzip"
        ) from error
    return io.BufferedReader(pyarrow.CompressedInputStream(raw, "zstd"))


OPENERS: dict[bytes, Callable[[BinaryIO, str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"BZh": bz2.open,
    b"\x28\xb5\x2f\xfd": _open_zstandard,
}


@contextmanager
def decompressed(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading bytes, and decompresses gzip, xz, bzip2 and Zstandard.

    The content decides, not the suffix, because some browsers decompress a `.gz` and keep its name.

    Raises:
        InputError: the file does not exist, cannot be read, is empty, is compressed with Zstandard where pyarrow is not
            installed, or, while it is read in the `with` block, is truncated or corrupt.
    """
    try:
        with open(path, "rb") as raw:
            start = raw.read(8)
            raw.seek(0)
            if not start:
                raise InputError(f"{path} is empty: name a file with texts")
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
        raise InputError(f"{path} is truncated or corrupt ({error}): download or write it again") from error


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
        raise not_text_error(0, where)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise not_text_error(content[error.start], where) from error


def not_text_error(byte: int, where: str) -> InputError:
    """The error for a byte that is zero or not UTF-8; `where` names the place.

    Examples:
        >>> print(not_text_error(0xEF, "a.csv, line 1"))
        a.csv, line 1 has the byte 0xef, which is not UTF-8: save the file as UTF-8
    """
    if byte == 0:
        return InputError(f"{where} has a zero byte, as in a binary or UTF-16 file: save it as UTF-8 text")
    return InputError(f"{where} has the byte 0x{byte:02x}, which is not UTF-8: save the file as UTF-8")


def text_lines(stream: BinaryIO, path: Path) -> Iterator[str]:
    """The lines of a file with their line ends and without a byte-order mark; `path` names it in error messages."""
    for number, line in enumerate(stream, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        yield decode(line, f"{path}, line {number}")


def file_hash(path: Path, settings: str) -> str:
    """The hexadecimal sha256 of the bytes of a file and of the settings that it is read with.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error
    return hashlib.sha256(f"{settings}\n{content}".encode()).hexdigest()
