"""Tar archives, read in place through any compression; nothing is extracted to disk.

The readers `imdb` and `plain` and the reader of pretrained weights use it. An archive that holds anything but plain
files and folders with relative names is refused, although no name in it is used as a path.
"""

import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from jaxft.data.files import decompressed
from jaxft.errors import InputError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")

UNSAFE_NAME = re.compile(r"^[/\\]|^.:|(^|[/\\])\.\.([/\\]|$)", re.DOTALL)
"""an absolute name, one with a drive of Windows, or one with ".."; the slash may be of either kind"""


def is_archive(path: Path) -> bool:
    """Whether a path has the suffix of a tar, compressed or not."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def archive_files(path: Path) -> Iterator[tuple[tarfile.TarInfo, io.BufferedReader]]:
    """Streams the files of a tar in their order; each can be read until the next one is requested.

    Yields:
        The entry of a file in the archive, and its content.

    Raises:
        InputError: the archive is truncated or corrupt, or holds an absolute name, a name with "..", a link or a
            device.
    """
    with decompressed(path) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                while (entry := tar.next()) is not None:
                    # otherwise tarfile keeps every entry, 100,000 of them; the type stubs lack the attribute
                    tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                    _refuse_unsafe(entry, path)
                    content = tar.extractfile(entry)
                    if content is not None:
                        yield entry, io.BufferedReader(_Content(content, path))
                end = tar.offset
            while stream.read(2**16):  # at the end of the stream the decompressor compares its checksum
                pass
        except tarfile.TarError as error:
            raise _broken(path) from error
        # a plain tar cut between two files reads like a whole one, but for the block of zeros that ends it
        if stream.tell() < end + tarfile.BLOCKSIZE:
            raise InputError(f"{path} is a truncated tar (its end mark is missing): download it again")


class _Content(io.RawIOBase):
    """The bytes of a file in an archive; the error of a truncated archive, raised while reading, names the archive."""

    def __init__(self, content: IO[bytes], path: Path):
        self._content, self._path = content, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._content.read(len(buffer))
        except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise _broken(self._path) from error
        buffer[: len(part)] = part
        return len(part)


def _broken(path: Path) -> InputError:
    return InputError(f"{path} is not a tar, or a truncated one: download it again")


def _refuse_unsafe(entry: tarfile.TarInfo, path: Path) -> None:
    if UNSAFE_NAME.search(entry.name):
        raise InputError(f"{path} holds the unsafe name {entry.name!r}: use the original archive")
    if not (entry.isfile() or entry.isdir()):
        raise InputError(f"{path} holds {entry.name!r}, a link or a device: use the original archive")
