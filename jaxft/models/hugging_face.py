"""Reads Hugging Face checkpoint folders: the configuration, and the weights by a table of their names.

References:
  `transformers/models/{bert,roberta,distilbert,electra}/modeling_*.py`, for the names.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxft.errors import InputError
from jaxft.models.torch_file import is_state, read_tensors
from jaxft.models.weight_table import Arrays, Row, assemble, fill

SINGLE, INDEX, PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"


def _dense(theirs: str, ours: str) -> tuple[Row, Row]:
    return Row(rf"{theirs}\.weight", f"{ours}/kernel", "transpose"), Row(rf"{theirs}\.bias", f"{ours}/bias")


def _norm(theirs: str, ours: str) -> tuple[Row, Row]:
    return Row(rf"{theirs}\.(?:weight|gamma)", f"{ours}/scale"), Row(rf"{theirs}\.(?:bias|beta)", f"{ours}/bias")


_PREFIX = r"(?:bert\.|roberta\.|distilbert\.|electra\.)?"
_EMBEDDINGS = _PREFIX + r"embeddings\."
_BERT_LAYER = _PREFIX + r"encoder\.layer\.(\d+)\."
_DISTIL_LAYER = _PREFIX + r"transformer\.layer\.(\d+)\."
_OURS = r"layer_\1/"
_COMMON = (
    *(Row(rf"{_EMBEDDINGS}{n}_embeddings\.weight", f"embeddings/{n}/embedding") for n in ("word", "position")),
    Row(rf"{_EMBEDDINGS}token_type_embeddings\.weight", "embeddings/token_type/embedding"),
    *_norm(rf"{_EMBEDDINGS}LayerNorm", "embeddings/norm"),
    Row(rf"{_EMBEDDINGS}(?:position|token_type)_ids", how="ignore"),
    # what a model is pretrained with and no task uses
    Row(r"(?:cls|lm_head|generator_predictions|generator_lm_head|discriminator_predictions)\..*", how="ignore"),
    Row(r"vocab_(?:transform|layer_norm|projector)\..*", how="ignore"),
)
_BERT = (
    *_COMMON,
    *_dense(_PREFIX + "embeddings_project", "embeddings/project"),
    *(
        row
        for name in ("query", "key", "value")
        for row in _dense(rf"{_BERT_LAYER}attention\.self\.{name}", f"{_OURS}attention/{name}")
    ),
    *_dense(rf"{_BERT_LAYER}attention\.output\.dense", f"{_OURS}attention/output"),
    *_norm(rf"{_BERT_LAYER}attention\.output\.LayerNorm", f"{_OURS}attention_norm"),
    *_dense(rf"{_BERT_LAYER}intermediate\.dense", f"{_OURS}intermediate"),
    *_dense(rf"{_BERT_LAYER}output\.dense", f"{_OURS}output"),
    *_norm(rf"{_BERT_LAYER}output\.LayerNorm", f"{_OURS}output_norm"),
    *_dense(rf"{_PREFIX}pooler\.dense", "pooler"),
)
_DENSE_HEAD = (*_dense(r"classifier\.dense", "head/dense"), *_dense(r"classifier\.out_proj", "head/out"))
_DISTIL = (
    *_COMMON,
    *(
        row
        for theirs, ours in (("q_lin", "query"), ("k_lin", "key"), ("v_lin", "value"), ("out_lin", "output"))
        for row in _dense(rf"{_DISTIL_LAYER}attention\.{theirs}", f"{_OURS}attention/{ours}")
    ),
    *_norm(rf"{_DISTIL_LAYER}sa_layer_norm", f"{_OURS}attention_norm"),
    *_dense(rf"{_DISTIL_LAYER}ffn\.lin1", f"{_OURS}intermediate"),
    *_dense(rf"{_DISTIL_LAYER}ffn\.lin2", f"{_OURS}output"),
    *_norm(rf"{_DISTIL_LAYER}output_layer_norm", f"{_OURS}output_norm"),
    *_dense("pre_classifier", "head/dense"),
    *_dense("classifier", "head/out"),
)
TABLES: Mapping[str, Sequence[Row]] = {
    "bert": (*_BERT, *_dense("classifier", "head/out")),
    "roberta": (*_BERT, *_DENSE_HEAD),
    "electra": (*_BERT, *_DENSE_HEAD),
    "distilbert": _DISTIL,
}


def to_parameters(state: Arrays, kind: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Our parameters by path, and what is wrong with the names; see `jaxft.models.weight_table.assemble`."""
    return assemble(state, TABLES[kind])


def fill_encoder(found: Arrays, template: Any, problems: Sequence[str], name: str) -> dict[str, Any]:
    """`template` with the arrays found; see `jaxft.models.weight_table.fill`."""
    complaint = f"the weights in {name} do not fit its config.json"
    return fill(found, template, problems, complaint, "name a checkpoint of BERT, RoBERTa, DistilBERT or ELECTRA")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json.

    Raises:
      InputError: it is missing or no JSON object.
    """
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name a folder with a checkpoint") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings: download it again")
    return content


def read_checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """The weights of a folder by their names there.

    Raises:
      InputError: no weights, a missing shard, or a damaged file.
    """
    if (folder / SINGLE).exists():
        return _read_safetensors(folder / SINGLE)
    if (folder / INDEX).exists():
        return _read_shards(folder)
    if (folder / PICKLED).exists():
        tree = read_tensors((folder / PICKLED).read_bytes(), str(folder / PICKLED))
        if not is_state(tree):
            raise InputError(f"{folder / PICKLED} holds no state_dict of tensors: convert it to safetensors")
        return tree
    raise InputError(f"{folder} holds neither {SINGLE} nor {INDEX} nor {PICKLED}: name a folder with a checkpoint")


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    try:
        shards = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        names = sorted({Path(shard).name for shard in shards.values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{folder / INDEX} is no index of shards ({error}): download it again") from error
    state: dict[str, np.ndarray] = {}
    for name in names:
        if not (folder / name).exists():
            raise InputError(f"{folder} lacks the shard {name} that {INDEX} names: download it again")
        state |= _read_safetensors(folder / name)
    missing = sorted(set(shards) - set(state))
    if missing:
        raise InputError(f"the shards in {folder} lack {', '.join(missing)}: download them again")
    return state


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file handle is not a mapping)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or not a safetensors file ({error}): download it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
