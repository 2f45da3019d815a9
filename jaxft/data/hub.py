"""Checkpoint folders by path or by their name on the Hugging Face hub, from where they are downloaded once.

`$HF_ENDPOINT`, `$HF_HOME` and the other variables of `huggingface_hub` name mirror and cache.
"""

import re
from pathlib import Path

from jaxft.data.files import expanded
from jaxft.errors import InputError

NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
TEXTS = ["*.json", "*.txt", "*.model"]


def checkpoint_folder(model: str) -> Path:
    """The folder of a checkpoint: `model` itself, or what the hub has under that name.

    Weights are downloaded as safetensors, or as pytorch_model.bin where there are no others; nothing else is.

    Raises:
      InputError: neither a folder nor a name on the hub, or no network.
    """
    path = expanded(model)
    if path.is_dir():
        return path
    if path.exists() or not NAME.fullmatch(model):
        raise InputError(
            f"--model {model} is no folder; name one with a checkpoint, or a model on the Hugging Face hub"
        )
    from huggingface_hub import snapshot_download

    def download(*weights: str) -> Path:
        return Path(snapshot_download(model, allow_patterns=[*TEXTS, *weights]))

    try:
        folder = download("model*.safetensors")
        return folder if any(folder.glob("model*.safetensors")) else download("pytorch_model.bin")
    except Exception as error:  # of the hub, of HTTP, of the network or of the disk
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--model {model} is no folder here and could not be downloaded ({reason}): check the name and the "
            "network, or name a folder with a checkpoint"
        ) from error
