"""Sizes and shares of BERT and its relatives, and how config.json of a Hugging Face checkpoint tells them.

`jaxft.models.bert` builds its modules by it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax

from jaxft.errors import InputError
from jaxft.models.options import Precision

Kind = Literal["bert", "roberta", "distilbert", "electra"]
KINDS: dict[str, Kind] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
}
"""the `model_type` of a checkpoint, and what its layers are named and joined like"""


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution function at x, by erf, which XLA computes faster than JAX's erfc.

    Examples:
        >>> print(f"{gelu(jax.numpy.float32(1)):.4f} {gelu(jax.numpy.float32(-1)):.4f}")
        0.8413 -0.1587

    References:
        Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.
    """
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


@dataclass(frozen=True)
class BertConfig:
    """Sizes and shares of an encoder, and of what stands on it.

    Attributes:
        kind: which relative.
        position_offset: number of a text's first position; RoBERTa's begin behind the padding's.
        pooler: whether a dense layer pools the first word.
        num_labels: outputs of the head; None without a head.
    """

    kind: Kind
    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    token_types: int
    activation: str
    hidden_dropout: float
    attention_dropout: float
    head_dropout: float
    layer_norm_eps: float
    initializer_range: float
    pad_id: int
    position_offset: int
    pooler: bool
    num_labels: int | None
    precision: Precision = "f32"

    @property
    def longest(self) -> int:
        """Pieces of the longest text that there are positions for."""
        return self.max_positions - self.position_offset


def bert_config(
    settings: Mapping[str, Any], kind: Kind, name: str, pooler: bool, num_labels: int | None, precision: Precision
) -> BertConfig:
    """Our names for what config.json says; DistilBERT has its own.

    Args:
        settings: the content of config.json.
        kind: which relative.
        name: of the checkpoint, for errors.
        pooler, num_labels, precision: as in `BertConfig`.

    Raises:
        InputError: a value that is missing or no such value.
    """
    distil = kind == "distilbert"

    def get(key: str, other: str | None = None, default: Any = None, kind: type = int) -> Any:
        theirs = other if distil and other else key
        value = settings.get(theirs)
        value = default if value is None else value
        if value is None:
            raise InputError(f"{name} has a config.json without {theirs}: download it again")
        right = isinstance(value, kind | int) and not isinstance(value, bool) and (isinstance(value, str) or value >= 0)
        if not right:
            raise InputError(f"{name} has a config.json with {theirs} {value!r}: download it again")
        return value

    dropout = get("hidden_dropout_prob", "dropout", 0.1, float)
    pad = get("pad_token_id", default=1 if kind == "roberta" else 0)
    config = BertConfig(
        kind=kind,
        vocab_size=get("vocab_size"),
        embedding_size=get("embedding_size", default=get("hidden_size", "dim")),
        hidden_size=get("hidden_size", "dim"),
        num_layers=get("num_hidden_layers", "n_layers"),
        num_heads=get("num_attention_heads", "n_heads"),
        intermediate_size=get("intermediate_size", "hidden_dim"),
        max_positions=get("max_position_embeddings"),
        token_types=0 if distil else get("type_vocab_size"),
        activation=get("hidden_act", "activation", "gelu", str),
        hidden_dropout=dropout,
        attention_dropout=get("attention_probs_dropout_prob", "attention_dropout", 0.1, float),
        head_dropout=get("classifier_dropout", "seq_classif_dropout", dropout, float),
        layer_norm_eps=get("layer_norm_eps", default=1e-12, kind=float),
        initializer_range=get("initializer_range", default=0.02, kind=float),
        pad_id=pad,
        position_offset=pad + 1 if kind == "roberta" else 0,
        pooler=pooler,
        num_labels=num_labels,
        precision=precision,
    )
    if not config.num_heads or config.hidden_size % config.num_heads:
        raise InputError(f"{name} has {config.num_heads} heads for {config.hidden_size} features: download it again")
    if config.activation not in ACTIVATIONS:
        raise InputError(f"{name} uses the activation {config.activation!r}, and not one of {sorted(ACTIVATIONS)}")
    return config
