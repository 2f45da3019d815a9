"""Reads the files of a Hugging Face checkpoint folder: the configuration, and the weights in each of their formats.

`jaxft.models.hugging_face` gives the weights the names that they have here.

References:
    `transformers/modeling_utils.py`, for the names of the files.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxft.base.files import require_file
from jaxft.errors import InputError, reason_of
from jaxft.models.torch_file import is_state, read_tensors
from jaxft.models.weight_table import some_of

SINGLE, PICKLED = "model.safetensors", "pytorch_model.bin"
INDEX, PICKLED_INDEX = f"{SINGLE}.index.json", f"{PICKLED}.index.json"
CONFIG = "config.json"
POINTER = b"version https://git-lfs"
_MERGE = "merge it into its encoder with merge_and_unload() of PEFT"
OTHER_FILES: Mapping[str, tuple[str, str]] = {
    "adapter_config.json": ("an adapter such as LoRA", _MERGE),
    "*.h5": ("weights of TensorFlow", "save them as safetensors with transformers and from_tf=True"),
    "*.msgpack": ("weights of Flax", "save them as safetensors with transformers and from_flax=True"),
    "*.ckpt.index": ("a checkpoint of TensorFlow 1", "convert it with convert_bert_original_tf_checkpoint_to_pytorch"),
    "*.ckpt": ("a checkpoint of Lightning", "save the state_dict of the encoder with save_pretrained"),
    "*.gguf": ("a model for llama.cpp", "name the checkpoint that it was made from"),
    "*.onnx": ("a program of ONNX", "name the checkpoint that it was made from"),
    "onnx/*.onnx": ("a program of ONNX", "name the checkpoint that it was made from"),
}
"""what a folder without weights may hold in their place, and what to do"""
_WRAPPERS = re.compile(r"(?:(?:base_model|auto_model|model|0)\.)+")
"""what training code puts before the names of weights: PEFT, sentence-transformers, Lightning and modules of users"""
_WRAPPERS_INSIDE = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)\.")
"""what data parallelism and torch.compile put anywhere in them"""


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json.

    Raises:
        InputError: it is missing or not a JSON object, or the folder holds a checkpoint in a folder of its own.
    """
    if not (_has_weights(folder) and (folder / CONFIG).exists()):
        raise InputError(f"{folder} {_instead_of_checkpoint(folder)}")
    return read_object(folder / CONFIG)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).exists() for name in (SINGLE, INDEX, PICKLED, PICKLED_INDEX))


def _instead_of_checkpoint(folder: Path) -> str:
    """What a folder without weights or configuration holds, and the remedy."""
    inner = [path.parent for depth in ("*", "*/*") for path in sorted(folder.glob(f"{depth}/{CONFIG}"))]
    if inner := [path for path in inner if _has_weights(path)]:
        return f"is no checkpoint and holds one in {inner[0].relative_to(folder)}: name {inner[0]}"
    for pattern, (content, remedy) in OTHER_FILES.items():
        if found := sorted(folder.glob(pattern)):
            return f"holds {content} ({found[0].relative_to(folder)}), which jaxft does not read: {remedy}"
    if any((folder / name).exists() for name in ("model.json", "model/model.json")):
        return "holds a model of jaxft that has no encoder: name a checkpoint of BERT or of its relatives"
    if _has_weights(folder):
        return f"holds weights and no {CONFIG}: download the whole checkpoint"
    return f"holds neither {SINGLE} nor {PICKLED}, in one file or in shards: name a folder with a checkpoint"


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Raises:
        InputError: the file is missing, or its content is not a JSON object.
    """
    require_file(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name a folder with a checkpoint") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({reason_of(error)}): download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object: download it again")
    return content


def read_checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """The weights in a folder by name, without what training code puts before the names.

    Raises:
        InputError: the folder has no weights, a shard is missing, or a file is damaged.
    """
    readers: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
        SINGLE: _read_safetensors,
        INDEX: _read_shards,
        PICKLED: _read_pickled,
        PICKLED_INDEX: _read_shards,
    }
    name = next((name for name in readers if (folder / name).exists()), None)
    if name is None:
        raise InputError(f"{folder} {_instead_of_checkpoint(folder)}")
    state = readers[name](folder / name)
    if any(".lora_" in key for key in state):
        raise InputError(f"{folder / name} holds an adapter beside the weights that it changes: {_MERGE}")
    return _unwrapped(state, folder / name)


def _unwrapped(state: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The weights by their names alone.

    Examples:
        >>> list(_unwrapped({"_orig_mod.module.model.bert.pooler.dense.bias": np.ones(1)}, Path("model.safetensors")))
        ['bert.pooler.dense.bias']
    """
    result: dict[str, np.ndarray] = {}
    for key, array in state.items():
        name = _WRAPPERS_INSIDE.sub("", key)
        name = name[match.end() :] if (match := _WRAPPERS.match(name)) else name
        if name in result:
            raise InputError(f"{path} holds {name} twice, once as {key}: save the model again")
        result[name] = array
    return result


def _read_shards(path: Path) -> dict[str, np.ndarray]:
    try:
        shards = read_object(path)["weight_map"]
        names = sorted({Path(shard).name for shard in shards.values()})
    except (KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not an index of shards ({reason_of(error)}): download it again") from error
    state: dict[str, np.ndarray] = {}
    for name in names:
        shard = path.parent / name
        if not shard.exists():
            raise InputError(f"{path.parent} lacks the shard {name} that {path.name} names: download it again")
        state |= _read_pickled(shard) if path.name == PICKLED_INDEX else _read_safetensors(shard)
    missing = sorted(set(shards) - set(state))
    if missing:
        raise InputError(f"the shards in {path.parent} lack {some_of(missing, ', ')}: download them again")
    return state


def _read_pickled(path: Path) -> dict[str, np.ndarray]:
    _refuse_pointer(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    tree = read_tensors(content, str(path))
    if isinstance(tree, dict):  # a training program may have saved more than the weights
        tree = next((tree[name] for name in ("state_dict", "model_state_dict") if name in tree), tree)
    if not is_state(tree):
        raise InputError(f"{path} holds no state_dict of tensors: convert it to safetensors")
    return tree


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    _refuse_pointer(path)
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file handle is not a mapping)
    except SafetensorError as error:
        raise InputError(
            f"{path} is damaged or not a safetensors file ({reason_of(error)}): download it again"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or reason_of(error)}): check its permissions"
        ) from error


def _refuse_pointer(path: Path) -> None:
    """Refuses what Git leaves in place of a large file, and what is no file."""
    require_file(path)
    with suppress(OSError), open(path, "rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise InputError(f"{path} is a pointer of Git LFS and not the weights: fetch them with git lfs pull")
