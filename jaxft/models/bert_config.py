"""The configuration of BERT and its relatives, and its reader from config.json of a Hugging Face checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax

from jaxft.errors import InputError
from jaxft.models.options import Pooling, Precision

Kind = Literal["bert", "roberta", "distilbert", "electra"]
KINDS: dict[str, Kind] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
}
"""the architecture, and the names of weights, for each `model_type` that a checkpoint may have"""


def gelu(x: jax.Array) -> jax.Array:
    """x times the standard normal distribution function at x, by erf, which XLA computes faster than JAX's erfc.

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
    """Sizes and dropout probabilities of an encoder, its pooler and its head.

    Attributes:
        kind: the architecture.
        position_offset: position of a text's first token; RoBERTa's positions begin after that of padding.
        pooler: whether there is a dense layer on the first token's output.
        num_labels: outputs of the head; None without a head.
        precision: of matrix products.
        pooling: what the head reads. With "cls" there is a pooler or a dense layer between the first token and the
            output layer, as in transformers; otherwise the output layer reads the pooled features.
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
    pooling: Pooling = "cls"

    @property
    def longest(self) -> int:
        """The largest number of tokens in a text that the position embeddings allow."""
        return self.max_positions - self.position_offset


def bert_config(
    settings: Mapping[str, Any], kind: Kind, name: str, pooler: bool, num_labels: int | None, precision: Precision
) -> BertConfig:
    """The configuration that config.json describes; DistilBERT has other keys than the rest.

    Args:
        settings: content of config.json.
        kind: the architecture.
        name: of the checkpoint, for errors.
        pooler, num_labels, precision: as in `BertConfig`.

    Raises:
        InputError: a value is missing, of the wrong type, or out of range.
    """
    distilbert = kind == "distilbert"

    def get(bert_key: str, distilbert_key: str | None = None, default: Any = None, value_type: type = int) -> Any:
        key = distilbert_key if distilbert and distilbert_key else bert_key
        value = settings.get(key)
        value = default if value is None else value
        if value is None:
            raise InputError(f"{name} has a config.json without {key}: download it again")
        typed = isinstance(value, value_type | int) and not isinstance(value, bool)
        if not typed or (not isinstance(value, str) and value < 0):
            raise InputError(f"{name} has a config.json with {key} {value!r}: download it again")
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
        token_types=0 if distilbert else get("type_vocab_size"),
        activation=get("hidden_act", "activation", "gelu", str),
        hidden_dropout=dropout,
        attention_dropout=get("attention_probs_dropout_prob", "attention_dropout", 0.1, float),
        head_dropout=get("classifier_dropout", "seq_classif_dropout", dropout, float),
        layer_norm_eps=get("layer_norm_eps", default=1e-12, value_type=float),
        initializer_range=get("initializer_range", default=0.02, value_type=float),
        pad_id=pad,
        position_offset=pad + 1 if kind == "roberta" else 0,
        pooler=pooler,
        num_labels=num_labels,
        precision=precision,
    )
    if not config.num_heads or config.hidden_size % config.num_heads:
        raise InputError(f"{name} has {config.num_heads} heads for {config.hidden_size} features: download it again")
    if config.activation not in ACTIVATIONS:
        raise InputError(
            f"{name} uses the activation {config.activation!r}: name a checkpoint with one of "
            f"{', '.join(sorted(ACTIVATIONS))}"
        )
    return config
