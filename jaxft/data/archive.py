"""The members of a tar, read in place through any compression: nothing is extracted to disk. Called by the readers
`imdb` and `plain`.

An archive that holds anything but plain files and folders under relative names is refused, although none of its names
is ever used as a path.
"""

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import IO, Any

from jaxft.data.files import decompressed
from jaxft.errors import InputError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar, compressed or not."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, io.BufferedReader]]:
    """Streams the files of a tar in their order; each can be read until the next one is asked for.

    Raises:
        InputError: truncated or corrupt; an absolute or climbing name, a link or a device among the members.
    """
    with decompressed(path) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                while (member := tar.next()) is not None:
                    # the list of past members would grow to 100,000; the type stubs leave it out
                    tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                    _refuse_unsafe(member, path)
                    content = tar.extractfile(member)
                    if content is not None:
                        yield member, io.BufferedReader(_Content(content, path))
                end = tar.offset
            while stream.read(2**16):  # reaching the end checks the compression's own checksum
                pass
        except tarfile.TarError as error:
            raise _broken(path, error) from error
        # a plain tar cut between two members reads like a whole one, but for the block of zeros that ends it
        if stream.tell() < end + tarfile.BLOCKSIZE:
            raise InputError(f"{path} is a truncated tar (its end mark is missing); download it again")


class _Content(io.RawIOBase):
    """A member's bytes; the error of a truncated archive, which comes up in whoever reads them, names the archive."""

    def __init__(self, content: IO[bytes], path: Path):
        self._content, self._path = content, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            part = self._content.read(len(buffer))
        except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error) as error:
            raise _broken(self._path, error) from error
        buffer[: len(part)] = part
        return len(part)


def _broken(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is no tar, or a truncated one ({error}); download it again")


def _refuse_unsafe(member: tarfile.TarInfo, path: Path) -> None:
    name = PureWindowsPath(member.name)  # knows both kinds of slash, and drives
    if name.anchor or ".." in name.parts:
        raise InputError(f"{path}: unsafe member name {member.name!r}; use the original archive")
    if not (member.isfile() or member.isdir()):
        raise InputError(f"{path}: member {member.name!r} is a link or a device; use the original archive")
