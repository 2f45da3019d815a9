"""Files that are whole or absent: JSON and text written in one step, and the cache folder."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from jaxft.errors import InputError, reason_of


def cache_folder() -> Path:
    """`$JAXFT_CACHE`, or else the platform's user cache for jaxft; it need not exist."""
    import pooch

    return Path(os.environ.get("JAXFT_CACHE") or pooch.os_cache("jaxft")).expanduser()


@contextmanager
def replacing(path: str | os.PathLike[str], mode: str = "w", **options: Any) -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` that takes its name at the end of the `with` block.

    The file is on the disk before it takes the name, so a crash at any moment leaves the old file or the new one. The
    temporary file, `.<name>.tmp`, is removed where the block raises an exception; the next call overwrites what a
    killed process leaves. A pipe or a device is written in place, and of a link the target is replaced.

    Args:
        path: the file to write; its folder exists.
        mode: "w" or "wb".
        options: of `open`, such as `newline`; text is UTF-8.

    Raises:
        InputError: the disk is full, the folder is not writable, or `path` is a folder.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a.txt") as file:
        ...         _ = file.write("whole")
        ...     Path(f"{folder}/a.txt").read_text()
        'whole'
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}, which is a folder: name a file")
    if "b" not in mode:
        options["encoding"] = "utf-8"
    if not _is_replaceable(path):
        with writing(path), open(path, mode, **options) as file:
            yield file
        return
    path = Path(os.path.realpath(path))  # a link stays, and its target is replaced
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with writing(path):
            with open(temporary, mode, **options) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            if os.name == "posix":  # elsewhere a folder cannot be opened
                folder = os.open(path.parent, os.O_RDONLY)
                with suppress(OSError):  # some file systems do not know it
                    os.fsync(folder)
                os.close(folder)
    finally:
        with suppress(OSError):  # it has its new name, or could not be made
            temporary.unlink()


def _is_replaceable(path: Path) -> bool:
    """Whether a file is regular or absent: a pipe, a terminal or another device is written in place.

    `/dev/stdout` is a device where it leads to a regular file too; `/dev/shm` is a folder of regular files in memory.
    """
    is_device = path.is_absolute() and path.parts[1:2] in (("dev",), ("proc",)) and path.parts[1:3] != ("dev", "shm")
    return not is_device and (path.is_file() or not path.exists())


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Names the file in what the system says of a failure to write it, and the remedy.

    Raises:
        InputError: in place of an `OSError`, such as that of a full disk.

    Examples:
        >>> with writing("a/b.txt"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        jaxft.errors.InputError: cannot write a/b.txt (No space left on device): free some space, or name another folder
    """
    try:
        yield
    except BrokenPipeError:  # the reader has enough, which is no error
        raise
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({reason_of(error)}): free some space, or name another folder"
        ) from error


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """A temporary folder for another library to write into; its files move into `folder` at the end of the block.

    Each is whole and on the disk before it takes its name.

    Args:
        folder: an existing folder.

    Raises:
        InputError: the disk is full or the folder is not writable, in the words of the library.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing_files(Path(folder)) as temporary:
        ...         _ = (temporary / "a.txt").write_text("whole")
        ...     os.listdir(folder)
        ['a.txt']
    """
    temporary = folder / ".files.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with writing(folder):
            temporary.mkdir()
        try:
            yield temporary
        except Exception as error:  # some raise no OSError
            raise InputError(
                f"cannot write {folder} ({reason_of(error)}): free some space, or name another folder"
            ) from error
        with writing(folder):
            for name in file_names(temporary):
                with open(temporary / name, "rb+") as file:
                    os.fsync(file.fileno())
                (folder / name).parent.mkdir(exist_ok=True)
                os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def file_names(folder: Path) -> list[str]:
    """The files in a folder and in its folders, by their paths in it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def require_file(path: str | os.PathLike[str]) -> None:
    """Refuses a folder, a pipe or a device in the place of a file; reading a pipe would wait for a writer.

    Raises:
        InputError: there is something at `path`, and it is no file; or it cannot be seen.

    Examples:
        >>> require_file("/")
        Traceback (most recent call last):
        jaxft.errors.InputError: / is a folder where a file is needed: name a file
    """
    path = Path(path)
    try:
        is_wrong = path.exists() and not path.is_file()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason_of(error)}): check the path and its permissions") from error
    if is_wrong:
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"{path} is {kind} where a file is needed: name a file")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text in one step, as `replacing` does.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    with replacing(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as readable JSON in one step.

    Besides what JSON knows it takes NumPy and JAX scalars and arrays, paths, dataclasses and tuples; a number that is
    not finite becomes null, which is all that JSON has for it.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    write_text(path, json.dumps(to_json(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file of a run.

    Raises:
        InputError: there is no such file, or it does not parse.
    """
    require_file(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): check the path of the run") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: put back an intact copy, or start the run again") from error


def to_json(value: Any) -> Any:
    """The same value in what JSON knows; see `write_json`.

    Examples:
        >>> import numpy as np
        >>> to_json({"loss": np.float32(0.5), "best": float("inf"), "out": Path("runs/a")})
        {'loss': 0.5, 'best': None, 'out': 'runs/a'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if callable(to_list := getattr(value, "tolist", None)):  # an array or scalar of NumPy or JAX
        return to_json(to_list())
    return value if isinstance(value, str | int | None) else str(value)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but hidden files: a file manager's, or those of a run killed as it began."""
    return all(entry.name.startswith(".") for entry in folder.iterdir())
