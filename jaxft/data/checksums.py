"""The hashes of the files of a finished model, in a file that `sha256sum -c SHA256SUMS` checks as well.

Models write it when they are saved; `jaxft.load`, `jaxft.push` and the jobs that start from a model check it.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from jaxft.base.files import require_file, write_text
from jaxft.errors import InputError

CHECKSUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Writes the hashes of files of a folder.

    Args:
        folder: of a finished model.
        names: of the files that the model has written, by their paths in the folder.

    Raises:
        InputError: a file cannot be read, the disk is full or the folder is not writable.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     _ = (folder / "model.json").write_text("{}")
        ...     write_checksums(folder, ["model.json"])
        ...     check_checksums(folder)
        ...     _ = (folder / "model.json").write_text("{ }")
        ...     [path.name for path in damaged_files(folder)]
        ['model.json']
    """
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in sorted(names)]
    write_text(folder / CHECKSUMS, "".join(lines))


def read_checksums(folder: Path) -> dict[str, str]:
    """The sha256 of each file by its path in the folder; none where the folder has no such file, as old models.

    Raises:
        InputError: the file of the hashes is damaged.
    """
    path = folder / CHECKSUMS
    if not path.exists():
        return {}
    require_file(path)
    try:
        matches = [LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        matches = [None]
    hashes = {match[2]: match[1] for match in matches if match}
    if not hashes or len(hashes) != len(matches) or not all(_is_inside(name) for name in hashes):
        raise InputError(f"{path} is damaged: put back an intact copy, or delete it to use the model unchecked")
    return hashes


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def damaged_files(folder: Path) -> list[Path]:
    """The files that are missing or have another hash than was written.

    Raises:
        InputError: the file of the hashes is damaged.
    """
    paths = {folder / name: sha256 for name, sha256 in read_checksums(folder).items()}
    return [path for path, sha256 in paths.items() if not path.is_file() or _sha256(path) != sha256]


def check_checksums(folder: Path) -> None:
    """Refuses a folder with a file that is missing or has changed since its hash was written.

    Raises:
        InputError: naming the file.
    """
    for path in damaged_files(folder):
        if not path.is_file():
            raise InputError(f"{path} is missing: put back a copy of it, or save or train the model again")
        raise InputError(
            f"{path} is damaged or edited (its hash is not the one in {CHECKSUMS}): put back an intact copy, or delete "
            f"{folder / CHECKSUMS} to use the model as it is"
        )


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk") from error
