"""Checkpoint folders, given by path or by the name of a model on the Hugging Face hub, which is downloaded once.

`$HF_ENDPOINT`, `$HF_HOME` and the other variables of `huggingface_hub` set the mirror and the cache.
"""

import glob
import hashlib
import json
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

from safetensors import SafetensorError, safe_open

from jaxft.data.checksums import CHECKSUMS, check_checksums, damaged_files, read_checksums
from jaxft.data.files import expanded, file_hash
from jaxft.data.pieces import TOKENIZER_FILES, TOKENIZER_PARTS
from jaxft.errors import InputError, reason_of

MODEL_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""a name of a user's model; a relative path of two parts may look like one"""
REVISION = re.compile(r"(?!/|.*\.\.)[^\s\\]+")
"""what Git takes for a branch, a tag or a commit; the cache of the hub has a file of this name"""
TEXT_FILES = ("config.json", "1_Pooling/config.json", "adapter_config.json", "model.json", *TOKENIZER_PARTS)
"""the files of a checkpoint beside its weights"""
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin")
ALL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""the files of a model of jaxft that does not list them, as old ones do not"""


def checkpoint_folder(model: str, flag: str = "--model", revision: str | None = None) -> Path:
    """The folder of a checkpoint, downloaded first if `model` is the name of a model on the hub.

    The download has the configuration, the tokenizer, and the weights as safetensors or, if there are none, as
    pytorch_model.bin, in one file or in shards; nothing else of what lies on the hub.

    Args:
        model: a folder, or a name on the hub.
        flag: the flag that gave `model`, for error messages.
        revision: branch, tag or commit of a model on the hub; None for main.

    Raises:
        InputError: `model` is neither a folder nor a name on the hub, or the download failed or is damaged.
    """
    path = expanded(model)
    if path.is_dir():
        refuse_revision(f"{flag} {model}", revision)
        if (path / "model.json").exists():
            check_checksums(path)
        return path
    if path.exists() or not MODEL_NAME.fullmatch(model):
        raise InputError(
            f"{flag} {model} is not a folder or the name of a model: name a folder with a checkpoint, or a model on "
            "the Hugging Face hub"
        )
    failure = f"{flag} {model} is not a folder and could not be downloaded"
    folder = _download(model, revision, (*TEXT_FILES, *SAFETENSORS), failure)
    if not any(folder.glob("model*.safetensors")):
        return _download(model, folder.name, (*TEXT_FILES, *PICKLES), failure)
    if (folder / "model.json").exists():
        _download(model, folder.name, (CHECKSUMS,), failure)
        _refuse_damaged({path for path in damaged_files(folder) if path.exists()}, folder, model)
    return folder


def downloaded_model(name: str, revision: str | None = None) -> Path:
    """The folder of a model of jaxft on the hub, which is downloaded once.

    Args:
        name: such as "user/model".
        revision: branch, tag or commit; None for main.

    Raises:
        InputError: it could not be downloaded, or is damaged.
    """
    failure = f"there is no folder {name}, and no model of this name could be downloaded"
    lists = [f"{folder}{file}" for folder in ("", "*/") for file in (CHECKSUMS, "model.json")]
    folder = _download(name, revision, lists, failure)
    parts = [path.parent for path in folder.rglob(CHECKSUMS)]
    files = {part / file for part in parts for file in read_checksums(part)}
    patterns = [glob.escape(file.relative_to(folder).as_posix()) for file in files] or ALL_FILES
    folder = _download(name, folder.name, (*lists, *patterns), failure)  # of the same commit
    _refuse_damaged({path for part in parts for path in damaged_files(part)}, folder, name)
    return folder


def refuse_revision(what: str, revision: str | None) -> None:
    """Refuses the revision of what is not on the hub.

    Raises:
        InputError: there is one.
    """
    if revision is not None:
        raise InputError(f"{what} is not on the hub, so it has no --revision: leave it out")


def _download(name: str, revision: str | None, patterns: Collection[str], failure: str) -> Path:
    """The folder with the files of a model on the hub; `failure` begins the error where they cannot be had."""
    if revision is not None and not REVISION.fullmatch(revision):
        raise InputError(f"--revision {revision!r} is not a branch, a tag or a commit: give one of those of the model")
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # of the hub, of HTTP, of the network or of the disk
        raise InputError(f"{failure} ({reason_of(error)}): check the name and the network, or name a folder") from error
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    asked = {path for file, path in files.items() if any(fnmatchcase(file, pattern) for pattern in patterns)}
    _refuse_damaged({path for path in asked if not _is_whole(path)}, folder, name)
    return folder


def _refuse_damaged(damaged: set[Path], folder: Path, name: str) -> None:
    """Removes damaged files of a model from the cache of the hub, which would keep them, and names them in an error."""
    if not damaged:
        return
    files = ", ".join(sorted(path.relative_to(folder).as_posix() for path in damaged))
    try:
        for path in damaged:
            path.resolve().unlink(missing_ok=True)  # a link's target
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{files} of {name} in {folder} is damaged and cannot be removed ({error.strerror}): remove it, or name a "
            "folder"
        ) from error
    raise InputError(
        f"{files} of {name} from the hub is damaged and is removed from the cache: run the command again to download "
        "it, or name a folder"
    )


def _is_whole(path: Path) -> bool:
    """Whether a file is what its name says; of the weights, the header and the size alone are read."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".safetensors":
            with safe_open(path, framework="np"):
                pass
        elif path.name == CHECKSUMS:
            read_checksums(path.parent)
    except (ValueError, RecursionError, SafetensorError):
        return False
    return True


def checkpoint_fingerprint(folder: Path) -> str:
    """A hexadecimal hash of the weights, the configuration and the tokenizer of a checkpoint."""
    names = ("*.safetensors", "pytorch_model*.bin", "config.json", *TOKENIZER_FILES)
    files = sorted({file for name in names for file in folder.glob(name)})
    return hashlib.sha256(" ".join(file_hash(file, file.name) for file in files).encode()).hexdigest()
