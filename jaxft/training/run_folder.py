"""The folder of a run: made for a new run, opened again on resume, and guarded against other settings or data."""

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jaxft.base.files import is_empty, read_json, to_json, write_json, writing
from jaxft.errors import InputError
from jaxft.training.settings import NO_EFFECT_ON_RESULT, flag, flatten


def create_run_folder(path: str | os.PathLike[str], resume: bool = False) -> Path:
    """Makes the folder of a run, refusing to mix a new run with what is already there.

    Args:
        path: the folder; parents are made as needed.
        resume: True where the folder must already hold a run, with its `config.json`, or one that had only begun.

    Raises:
        InputError: the folder cannot be written, is not empty (unless resuming), or holds no run (when resuming).

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     run = create_run_folder(f"{parent}/run")
        ...     write_json(run / "config.json", {"seed": 0})
        ...     create_run_folder(run)
        Traceback (most recent call last):
        jaxft.errors.InputError: ... holds a run: continue it with --resume, or name another folder with --out
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is no folder: name one with --out")
        holds_run = (path / "config.json").is_file()
        # A run that was stopped while it read its texts has left an empty folder.
        begun = path.is_dir() and is_empty(path)
        if resume and not holds_run and not begun:
            raise InputError(f"{path} holds no run to continue: leave out --resume, or name its folder with --out")
        path.mkdir(parents=True, exist_ok=True)
        if not resume and holds_run:
            raise InputError(f"{path} holds a run: continue it with --resume, or name another folder with --out")
        if not resume and not is_empty(path):
            raise InputError(f"{path} is not empty and holds no run to --resume: name another folder with --out")
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write to {folder} ({error.strerror}): free some space, or name a writable folder with --out"
    )


@contextmanager
def new_run_folder(folder: Path, resume: bool) -> Iterator[Path]:
    """Makes the folder of a run, and removes it again where the `with` block raises and the folder is empty.

    Raises:
        InputError: as `create_run_folder`.
    """
    folder = create_run_folder(folder, resume)
    try:
        yield folder
    except Exception:
        with suppress(OSError):  # a folder that holds something stays
            folder.rmdir()
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of the folder of a run in the `with` block; a process that is killed leaves no lock.

    The temporary files that it leaves are removed.

    Raises:
        InputError: another process uses the folder, and the sentence names it; or the folder cannot be written.
    """
    owner = folder / ".owner"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        other = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
        raise InputError(
            f"{folder} is in use by {other}: wait until it ends, or name another folder with --out"
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        with writing(owner):
            owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        for leftover in folder.rglob(".*.tmp"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        yield
    finally:
        owner.unlink(missing_ok=True)
        with suppress(OSError):  # Windows keeps an open file; one that is unlinked is locked by nobody
            (folder / ".lock").unlink()
        lock.release()


def run_config(settings: Any, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """The content of config.json: what decides the result of a run.

    Args:
        settings: of the job; those in `NO_EFFECT_ON_RESULT` are left out.
        fingerprints: hashes of the corpus, of a checkpoint, and of what else the run reads.
    """
    fields = {name: value for name, value in asdict(settings).items() if name not in NO_EFFECT_ON_RESULT}
    return to_json({**fields, **fingerprints})


def without_folders(value: Any) -> Any:
    """Settings with the last name alone of every path, whose folders are nobody else's business.

    Examples:
        >>> without_folders({"data": "/home/ada/reviews.csv", "files": ["~/a.txt"], "model": "user/name"})
        {'data': 'reviews.csv', 'files': ['a.txt'], 'model': 'user/name'}
    """
    if isinstance(value, Mapping):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    is_path = isinstance(value, str) and (Path(value).is_absolute() or value.startswith(("~", ".")))
    return Path(value).name if is_path else value


def read_run_config(folder: Path) -> dict[str, Any]:
    """The settings in the config.json of a run.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no settings: put back an intact copy, or start the run again")
    return config


def record_config(folder: Path, resume: bool, config: Mapping[str, Any]) -> None:
    """Writes config.json, or on `resume` compares the one that is there.

    Raises:
        InputError: the run in the folder has other settings, texts or another checkpoint.
    """
    path = folder / "config.json"
    if not resume or not path.exists():
        write_json(path, config)
        return
    before, now = flatten(read_run_config(folder)), flatten(config)
    parts = {"corpus": "the texts have", "checkpoint": "the checkpoint has", "pseudo_labels": "the pseudo-labels have"}
    for part, what in parts.items():
        if before.get(part) != now.get(part):
            raise InputError(f"{what} changed since the run in {folder} began: restore them, or start a new run")
    differences = [
        f"{flag(name)} was {_shown(before.get(name))} and is now {_shown(now.get(name))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise InputError(
            f"the run in {folder} has other settings ({', '.join(differences)}): resume it with the earlier values"
        )


def _shown(value: Any) -> Any:
    return "its default" if value is None else value
