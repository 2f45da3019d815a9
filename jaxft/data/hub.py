"""Checkpoint folders by path or by their name on the Hugging Face hub, from where they are downloaded once.

`$HF_ENDPOINT`, `$HF_HOME` and the other variables of `huggingface_hub` name mirror and cache.
"""

import hashlib
import re
from pathlib import Path

from jaxft.data.files import expanded, file_hash
from jaxft.data.pieces import TOKENIZER_FILES
from jaxft.errors import InputError

NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
TEXTS = ["*.json", "*.txt", "*.model"]


def checkpoint_folder(model: str, flag: str = "--model") -> Path:
    """The folder of a checkpoint: `model` itself, or what the hub has under that name; `flag` is what gave it.

    Weights are downloaded as safetensors, or as pytorch_model.bin where there are no others; nothing else is.

    Raises:
        InputError: neither a folder nor a name on the hub, or no network.
    """
    path = expanded(model)
    if path.is_dir():
        return path
    if path.exists() or not NAME.fullmatch(model):
        raise InputError(f"{flag} {model} is no folder; name one with a checkpoint, or a model on the Hugging Face hub")
    from huggingface_hub import snapshot_download

    def download(*weights: str) -> Path:
        return Path(snapshot_download(model, allow_patterns=[*TEXTS, *weights]))

    try:
        folder = download("model*.safetensors")
        return folder if any(folder.glob("model*.safetensors")) else download("pytorch_model.bin")
    except Exception as error:  # of the hub, of HTTP, of the network or of the disk
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{flag} {model} is no folder here and could not be downloaded ({reason}): check the name and the "
            "network, or name a folder with a checkpoint"
        ) from error


def checkpoint_fingerprint(folder: Path) -> str:
    """What changes with a checkpoint: its weights, its configuration or its tokenizer; hexadecimal."""
    names = ("*.safetensors", "pytorch_model.bin", "config.json", *TOKENIZER_FILES)
    files = sorted({file for name in names for file in folder.glob(name)})
    return hashlib.sha256(" ".join(file_hash(file, file.name) for file in files).encode()).hexdigest()
