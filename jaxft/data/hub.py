"""Checkpoint folders, given by path or by the name of a model on the Hugging Face hub, which is downloaded once.

`$HF_ENDPOINT`, `$HF_HOME` and the other variables of `huggingface_hub` set the mirror and the cache.
"""

import hashlib
import re
from pathlib import Path

from jaxft.data.files import expanded, file_hash
from jaxft.data.pieces import TOKENIZER_FILES
from jaxft.errors import InputError, reason_of

MODEL_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""a name of a user's model; a relative path of two parts may look like one"""
TEXT_FILES = ["*.json", "*.txt", "*.model"]


def checkpoint_folder(model: str, flag: str = "--model") -> Path:
    """The folder of a checkpoint, downloaded first if `model` is the name of a model on the hub.

    The download has the configuration, the tokenizer, and the weights as safetensors or, if there are none, as
    pytorch_model.bin, in one file or in shards.

    Args:
        model: a folder, or a name on the hub.
        flag: the flag that gave `model`, for error messages.

    Raises:
        InputError: `model` is neither a folder nor a name on the hub, or the download failed.
    """
    path = expanded(model)
    if path.is_dir():
        return path
    if path.exists() or not MODEL_NAME.fullmatch(model):
        raise InputError(
            f"{flag} {model} is not a folder or the name of a model: name a folder with a checkpoint, or a model on "
            "the Hugging Face hub"
        )
    from huggingface_hub import snapshot_download

    def download(*weights: str) -> Path:
        return Path(snapshot_download(model, allow_patterns=[*TEXT_FILES, *weights]))

    try:
        folder = download("model*.safetensors")
        return folder if any(folder.glob("model*.safetensors")) else download("pytorch_model*.bin")
    except Exception as error:  # of the hub, of HTTP, of the network or of the disk
        raise InputError(
            f"{flag} {model} is not a folder and could not be downloaded ({reason_of(error)}): check the name and the "
            "network, or name a folder with a checkpoint"
        ) from error


def downloaded_model(name: str, revision: str | None = None) -> Path:
    """The folder of a model of jaxft on the hub, which is downloaded once.

    Args:
        name: such as "user/model".
        revision: branch, tag or commit; None for main.

    Raises:
        InputError: it could not be downloaded.
    """
    from huggingface_hub import snapshot_download

    patterns = [*TEXT_FILES, "*.safetensors"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # of the hub, of HTTP, of the network or of the disk
        raise InputError(
            f"there is no folder {name}, and no model of this name could be downloaded ({reason_of(error)}): check the "
            "name and the network"
        ) from error


def checkpoint_fingerprint(folder: Path) -> str:
    """A hexadecimal hash of the weights, the configuration and the tokenizer of a checkpoint."""
    names = ("*.safetensors", "pytorch_model*.bin", "config.json", *TOKENIZER_FILES)
    files = sorted({file for name in names for file in folder.glob(name)})
    return hashlib.sha256(" ".join(file_hash(file, file.name) for file in files).encode()).hexdigest()
