"""What config.json says of DeBERTa's disentangled attention, and which rows its embeddings of distances have.

References:
    He et al., DeBERTa: Decoding-enhanced BERT with Disentangled Attention, ICLR 2021, section 3.1; He et al.,
    DeBERTaV3, ICLR 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxft.errors import InputError
from jaxft.models.config_values import flag_of, value_reader

PARTS = ("c2p", "p2c")
"""the parts of the attention scores beside content to content: content to position and position to content"""


@dataclass(frozen=True)
class Disentangled:
    """How attention scores depend on the distances between tokens.

    Attributes:
        parts: those of `PARTS` that the scores have.
        shares_keys: whether distances go through the layers that make queries and keys of tokens, and not through
            layers of their own.
        span: rows of the embeddings of distances for each side.
        buckets: groups of distances on each side, whose widths grow exponentially; 0 where each distance up to `span`
            is one.
        longest: the distance up to which buckets grow; `longest - 1` and all beyond are in the last, except that
            negative distances beyond have one more.
        normalizes: whether the embeddings of distances go through a norm.
    """

    parts: tuple[str, ...]
    shares_keys: bool
    span: int
    buckets: int
    longest: int
    normalizes: bool

    def rows(self, length: int) -> np.ndarray:
        """The row of the embeddings for each distance from -(length - 1) to length - 1, int64.

        Examples:
            >>> Disentangled(PARTS, True, span=4, buckets=4, longest=16, normalizes=False).rows(7).tolist()
            [1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7]
        """
        distances = np.arange(1 - length, length)
        groups = _log_buckets(distances, self.buckets, self.longest) if self.buckets else distances
        return np.clip(groups + self.span, 0, 2 * self.span - 1)


def _log_buckets(distances: np.ndarray, buckets: int, longest: int) -> np.ndarray:
    """The bucket of each distance: near ones, up to half of the buckets, have one each."""
    exact, away = buckets // 2, np.abs(distances)
    if away.max() <= exact:
        return distances
    # In float32, as transformers computes them: a bucket may begin where the logarithm is a whole number.
    far = np.log(np.maximum(away, exact).astype(np.float32) / np.float32(exact))
    far = np.ceil(far / np.log(np.float32((longest - 1) / exact)) * np.float32(exact - 1)) + exact
    return np.where(away <= exact, distances, far * np.sign(distances)).astype(np.int64)


def disentangled(settings: Mapping[str, Any], name: str) -> Disentangled:
    """The attention that config.json describes.

    Args:
        settings: content of config.json.
        name: of the checkpoint, for errors.

    Raises:
        InputError: a value is of the wrong type or out of range, or attention is not disentangled.
    """
    get = value_reader(settings, name)
    if not flag_of(settings, name, "relative_attention"):
        raise InputError(
            f"{name} has a config.json without relative_attention true: name a checkpoint of DeBERTa with it, as all "
            "published ones"
        )
    buckets = max(0, get("position_buckets", default=-1, least=-1))
    longest, positions = get("max_relative_positions", default=-1, least=-1), get("max_position_embeddings", least=1)
    longest = longest if longest > 0 else positions
    if buckets and (buckets < 4 or longest - 1 <= buckets // 2 < positions - 1):
        raise InputError(
            f"{name} has a config.json with position_buckets {buckets} for max_relative_positions {longest}: "
            "download config.json and the weights of the same checkpoint again"
        )
    return Disentangled(
        parts=_parts(settings, name),
        shares_keys=flag_of(settings, name, "share_att_key"),
        span=buckets or longest,
        buckets=buckets,
        longest=longest,
        normalizes="layer_norm" in _listed(get("norm_rel_ebd", default="none", value_type=str)),
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.lower().split("|")]


def _parts(settings: Mapping[str, Any], name: str) -> tuple[str, ...]:
    given = settings.get("pos_att_type") or []
    parts = _listed(given) if isinstance(given, str) else given
    if not isinstance(parts, list) or not set(map(str, parts)) <= set(PARTS):
        raise InputError(
            f"{name} has a config.json with pos_att_type {given!r}: name a checkpoint of DeBERTa with parts among "
            f"{', '.join(PARTS)}"
        )
    return tuple(part for part in PARTS if part in parts)


def check_deberta(settings: Mapping[str, Any], name: str) -> None:
    """Refuses a convolution beside the first layer, and sizes of parts that differ from those of the layers.

    Raises:
        InputError: naming the value.
    """
    get = value_reader(settings, name)
    if kernel := get("conv_kernel_size", default=0):
        raise InputError(
            f"{name} has a config.json with conv_kernel_size {kernel}, a convolution that jaxft does not have: name a "
            "checkpoint of DeBERTa without one, such as those of version 3"
        )
    hidden, heads = get("hidden_size", least=1), get("num_attention_heads", least=1)
    usual = {"embedding_size": hidden, "pooler_hidden_size": hidden, "attention_head_size": hidden // heads}
    for key, size in usual.items():
        if get(key, default=size) != size:
            raise InputError(
                f"{name} has a config.json with {key} {settings[key]} where {size} fits the layers: name a checkpoint "
                "of DeBERTa with it, as all published ones"
            )
