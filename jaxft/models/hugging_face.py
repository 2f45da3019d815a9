"""Weights of Hugging Face checkpoints by a table of their names, and what the head and the pooling of a checkpoint are.

References:
    `transformers/models/{bert,roberta,distilbert,electra,albert,mpnet,deberta_v2,modernbert}/modeling_*.py`, for the
    names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flax import traverse_util

from jaxft.models.checkpoint_files import read_object
from jaxft.models.encoder_kinds import POOLERS, architecture_of
from jaxft.models.options import Pooling
from jaxft.models.weight_table import Arrays, Row, assemble, fill

POOLING_FILE = "1_Pooling/config.json"


@dataclass(frozen=True)
class ParameterName:
    """A parameter's name in a checkpoint (`theirs`) and here (`ours`); `{}` is the number of a layer in both."""

    theirs: str
    ours: str
    how: Literal["same", "transpose"] = "same"

    def row(self, prefix: str = "") -> Row:
        """The row of a table that reads it; `prefix` is a pattern for the start of the key."""
        pattern = re.escape(self.theirs).replace(re.escape("{}"), r"(\d+)")
        return Row(prefix + pattern, self.ours.replace("{}", r"\1"), self.how)


def _dense(theirs: str, ours: str) -> tuple[ParameterName, ...]:
    kernel = ParameterName(f"{theirs}.weight", f"{ours}/kernel", "transpose")
    return kernel, ParameterName(f"{theirs}.bias", f"{ours}/bias")


def _norm(theirs: str, ours: str) -> tuple[ParameterName, ...]:
    current = ParameterName(f"{theirs}.weight", f"{ours}/scale"), ParameterName(f"{theirs}.bias", f"{ours}/bias")
    old = ParameterName(f"{theirs}.gamma", f"{ours}/scale"), ParameterName(f"{theirs}.beta", f"{ours}/bias")
    return (*current, *old)


_EMBEDDINGS = (
    *(ParameterName(f"embeddings.{n}_embeddings.weight", f"embeddings/{n}/embedding") for n in ("word", "position")),
    ParameterName("embeddings.token_type_embeddings.weight", "embeddings/token_type/embedding"),
    *_norm("embeddings.LayerNorm", "embeddings/norm"),
)
_FEED_FORWARD = (
    *_dense("encoder.layer.{}.intermediate.dense", "layer_{}/intermediate"),
    *_dense("encoder.layer.{}.output.dense", "layer_{}/output"),
    *_norm("encoder.layer.{}.output.LayerNorm", "layer_{}/output_norm"),
)
_POOLER = _dense("pooler.dense", "pooler/dense")
_BERT_ENCODER = (
    *_EMBEDDINGS,
    *_dense("embeddings_project", "embeddings/project"),
    *(
        name
        for part in ("query", "key", "value")
        for name in _dense(f"encoder.layer.{{}}.attention.self.{part}", f"layer_{{}}/attention/{part}")
    ),
    *_dense("encoder.layer.{}.attention.output.dense", "layer_{}/attention/output"),
    *_norm("encoder.layer.{}.attention.output.LayerNorm", "layer_{}/attention_norm"),
    *_FEED_FORWARD,
    *_POOLER,
)
_DISTIL_ENCODER = (
    *_EMBEDDINGS,
    *(
        name
        for theirs, ours in (("q_lin", "query"), ("k_lin", "key"), ("v_lin", "value"), ("out_lin", "output"))
        for name in _dense(f"transformer.layer.{{}}.attention.{theirs}", f"layer_{{}}/attention/{ours}")
    ),
    *_norm("transformer.layer.{}.sa_layer_norm", "layer_{}/attention_norm"),
    *_dense("transformer.layer.{}.ffn.lin1", "layer_{}/intermediate"),
    *_dense("transformer.layer.{}.ffn.lin2", "layer_{}/output"),
    *_norm("transformer.layer.{}.output_layer_norm", "layer_{}/output_norm"),
)
_MPNET_ENCODER = (
    *_EMBEDDINGS,
    ParameterName("encoder.relative_attention_bias.weight", "embeddings/distance/embedding"),
    *(
        name
        for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))
        for name in _dense(f"encoder.layer.{{}}.attention.attn.{theirs}", f"layer_{{}}/attention/{ours}")
    ),
    *_norm("encoder.layer.{}.attention.LayerNorm", "layer_{}/attention_norm"),
    *_FEED_FORWARD,
    *_POOLER,
)
_ALBERT_LAYER = "encoder.albert_layer_groups.{}.albert_layers.0"
_ALBERT_ENCODER = (
    *_EMBEDDINGS,
    *_dense("encoder.embedding_hidden_mapping_in", "embeddings/project"),
    *(
        name
        for theirs, ours in (("query", "query"), ("key", "key"), ("value", "value"), ("dense", "output"))
        for name in _dense(f"{_ALBERT_LAYER}.attention.{theirs}", f"layer_{{}}/attention/{ours}")
    ),
    *_norm(f"{_ALBERT_LAYER}.attention.LayerNorm", "layer_{}/attention_norm"),
    *_dense(f"{_ALBERT_LAYER}.ffn", "layer_{}/intermediate"),
    *_dense(f"{_ALBERT_LAYER}.ffn_output", "layer_{}/output"),
    *_norm(f"{_ALBERT_LAYER}.full_layer_layer_norm", "layer_{}/output_norm"),
    *_dense("pooler", "pooler/dense"),
)
_DEBERTA_ENCODER = (
    *_EMBEDDINGS,
    ParameterName("encoder.rel_embeddings.weight", "embeddings/distance/embedding"),
    *_norm("encoder.LayerNorm", "embeddings/distance_norm"),
    *(
        name
        for theirs, ours in (
            *((f"{part}_proj", part) for part in ("query", "key", "value")),
            *((f"pos_{part}_proj", f"position_{part}") for part in ("query", "key")),
        )
        for name in _dense(f"encoder.layer.{{}}.attention.self.{theirs}", f"layer_{{}}/attention/{ours}")
    ),
    *_dense("encoder.layer.{}.attention.output.dense", "layer_{}/attention/output"),
    *_norm("encoder.layer.{}.attention.output.LayerNorm", "layer_{}/attention_norm"),
    *_FEED_FORWARD,
)
_MODERNBERT_ENCODER = (
    ParameterName("embeddings.tok_embeddings.weight", "embeddings/word/embedding"),
    *_norm("embeddings.norm", "embeddings/norm"),
    *_norm("layers.{}.attn_norm", "layer_{}/attention_norm"),
    *_dense("layers.{}.attn.Wqkv", "layer_{}/attention/qkv"),
    *_dense("layers.{}.attn.Wo", "layer_{}/attention/output"),
    *_norm("layers.{}.mlp_norm", "layer_{}/mlp_norm"),
    *_dense("layers.{}.mlp.Wi", "layer_{}/intermediate"),
    *_dense("layers.{}.mlp.Wo", "layer_{}/output"),
    *_norm("final_norm", "final_norm"),
)
_TWO_LAYER_HEAD = (*_dense("classifier.dense", "head/dense"), *_dense("classifier.out_proj", "head/out"))
ENCODERS: Mapping[str, Sequence[ParameterName]] = {
    "bert": _BERT_ENCODER,
    "roberta": _BERT_ENCODER,
    "electra": _BERT_ENCODER,
    "distilbert": _DISTIL_ENCODER,
    "albert": _ALBERT_ENCODER,
    "mpnet": _MPNET_ENCODER,
    "deberta": _DEBERTA_ENCODER,
    "modernbert": _MODERNBERT_ENCODER,
}
"""names within the base model; a checkpoint with a head prefixes them with the architecture and a dot"""
_PREFIXES = {"modernbert": "model"}
"""what a checkpoint with a head prefixes names with in place of the architecture"""
HEADS: Mapping[str, Sequence[ParameterName]] = {
    "bert": _dense("classifier", "head/out"),
    "roberta": _TWO_LAYER_HEAD,
    "electra": _TWO_LAYER_HEAD,
    "distilbert": (*_dense("pre_classifier", "head/dense"), *_dense("classifier", "head/out")),
    "albert": _dense("classifier", "head/out"),
    "mpnet": _TWO_LAYER_HEAD,
    "deberta": _dense("classifier", "head/out"),
    "modernbert": _dense("classifier", "head/out"),
}
POOLERS_OUTSIDE: Mapping[str, Sequence[ParameterName]] = {
    "deberta": _POOLER,
    "modernbert": (*_dense("head.dense", "pooler/dense"), *_norm("head.norm", "pooler/norm")),
}
"""poolers that do not belong to the base model, so that their names have no prefix"""
POOLED_HEAD = _dense("classifier", "head/out")
"""the head that reads the mean or the maximum of the last layer, which transformers does not have"""
_BASE = rf"(?:{'|'.join(ENCODERS)}|xlm_roberta|camembert)\."
_PREFIX = rf"(?:{_BASE})?"
_ENCODER = re.compile(rf"{_BASE}|(?:embeddings|embeddings_project|encoder|transformer|pooler|layers|final_norm)\.")
_UNUSED = (Row(rf"{_PREFIX}embeddings\.(?:position|token_type)_ids", how="ignore"),)
_HEADS = re.compile(
    r"(?:cls|lm_head|predictions|generator_predictions|generator_lm_head|discriminator_predictions|vocab_transform"
    r"|vocab_layer_norm|vocab_projector|lm_predictions|mask_predictions|decoder|qa_outputs|sequence_summary|sop_classifier|classifier|pre_classifier)\."
)
"""heads of any task; where the names of the encoder begin with that of its kind, all the others are of heads"""


def _outside(kind: str, pooling: Pooling) -> Sequence[ParameterName]:
    """The names beside those of the base model."""
    return (*POOLERS_OUTSIDE.get(kind, ()), *(HEADS[kind] if pooling == "cls" else POOLED_HEAD))


def to_parameters(state: Arrays, kind: str, pooling: Pooling = "cls") -> tuple[dict[str, np.ndarray], list[str]]:
    """Our parameters by path, and a list of problems; see `jaxft.models.weight_table.assemble`."""
    rows = [
        name.row(prefix)
        for prefix, names in ((_PREFIX, ENCODERS[kind]), ("", _outside(kind, pooling)))
        for name in names
    ]
    return assemble(state, [*rows, *_UNUSED])


def to_checkpoint(params: Any, kind: str, pooling: Pooling = "cls") -> dict[str, np.ndarray]:
    """The weights of a checkpoint with a head, float32, by name: the way back from `to_parameters`.

    Raises:
        KeyError: a parameter has no name in such a checkpoint.
    """
    # Reversed, so that the first of two names for a parameter is written.
    table = {
        name.ours: (prefix + name.theirs, name.how)
        for prefix, names in ((f"{_PREFIXES.get(kind, kind)}.", ENCODERS[kind]), ("", _outside(kind, pooling)))
        for name in reversed(names)
    }
    state = {}
    for path, array in traverse_util.flatten_dict(params, sep="/").items():
        number = re.search(r"layer_(\d+)/", path)
        theirs, how = table[path if number is None else path.replace(number[0], "layer_{}/", 1)]
        value = np.asarray(array, np.float32)
        key = theirs.format(*() if number is None else (number[1],))
        state[key] = np.ascontiguousarray(value.T if how == "transpose" else value)
    return state


def fill_encoder(arrays: Arrays, template: Any, problems: Sequence[str], name: str) -> dict[str, Any]:
    """`template` with the arrays in place of its leaves; see `jaxft.models.weight_table.fill`."""
    complaint = f"the weights in {name} do not fit its config.json"
    remedy = (
        "download config.json and the weights of the same checkpoint again, or name one of an architecture that jaxft "
        "knows"
    )
    return fill(arrays, template, problems, complaint, remedy)


POOLINGS: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
"""the poolings in 1_Pooling/config.json of sentence-transformers"""


def read_pooling(folder: Path) -> Pooling | None:
    """The pooling in 1_Pooling/config.json; None without such a file, or if it names another pooling or several.

    Early checkpoints of sentence-transformers have it beside the folder of the encoder, 0_Transformer.

    Raises:
        InputError: the file is not a JSON object.
    """
    path = (folder.parent if folder.name == "0_Transformer" else folder) / POOLING_FILE
    if not path.is_file():
        return None
    content = read_object(path)
    mode = content.get("pooling_mode")
    named: list[Pooling] = [
        pooling for name, pooling in POOLINGS.items() if content.get(name) is True or mode == pooling
    ]
    others = {name for name, on in content.items() if name.startswith("pooling_mode_") and on is True} - set(POOLINGS)
    return named[0] if len(named) == 1 and not others else None


def reads_first_token(state: Arrays, kind: str) -> bool:
    """Whether a checkpoint has a trained layer on the first token: a classifier, or with some kinds a pooler.

    The poolers of the others come without training, and their classifiers do not read them.
    """
    layers = "pooler|classifier" if kind in POOLERS else "classifier|pre_classifier"
    return any(re.match(rf"{_PREFIX}({layers})\.", name) for name in state)


def without_other_heads(
    state: Arrays, kind: str, settings: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The weights without heads of other tasks than the classification of texts, and the names of these heads.

    Args:
        state: weights by name.
        kind: the architecture.
        settings: content of config.json.
    """
    own = ("classifier", "pre_classifier") if _classifies_texts(state, kind, settings) else ()
    has_base = any(re.match(_BASE, name) for name in state)
    kept, dropped = {}, {}
    for name, array in state.items():
        is_head = not _ENCODER.match(name) and (has_base or _HEADS.match(name))
        (dropped if is_head and name.partition(".")[0] not in own else kept)[name] = array
    return kept, sorted({name.partition(".")[0] for name in dropped})


def _classifies_texts(state: Arrays, kind: str, settings: Mapping[str, Any]) -> bool:
    """Whether the classifier of a checkpoint, if it has one, is for whole texts and not for tokens or choices.

    The class that config.json names says so, or else `problem_type`, which heads for texts alone have. Without both, a
    layer that only heads for texts have; with ModernBERT there is none.
    """
    if task := re.search(r"For(\w+)$", architecture_of(settings)):
        return task[1] == "SequenceClassification"
    if settings.get("problem_type"):
        return True
    pooler = rf"{_PREFIX}pooler\."
    layers = {"bert": pooler, "albert": pooler, "distilbert": r"pre_classifier\.", "deberta": pooler}
    layer = layers.get(kind, r"classifier\.dense\.")
    return any(re.match(layer, name) for name in state)


def without_head(state: Arrays) -> tuple[dict[str, np.ndarray], list[str]]:
    """The weights of a checkpoint without those of its classifier, and the names of what is left out."""
    kept = {name: array for name, array in state.items() if not re.match(r"(pre_)?classifier\.", name)}
    return kept, sorted({name.partition(".")[0] for name in state if name not in kept})
