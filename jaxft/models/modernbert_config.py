"""The configuration of ModernBERT, and its reader from config.json of a Hugging Face checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jaxft.errors import InputError
from jaxft.models.config_values import MOST_LAYERS, check_activation, check_sizes, flag_of, value_reader
from jaxft.models.encoder_kinds import POOLERS, Kind
from jaxft.models.options import Pooling, Precision

GLOBAL, LOCAL = "full_attention", "sliding_attention"
"""the kinds of layers, as config.json names them"""
THETAS = {GLOBAL: ("global_rope_theta", 160_000.0), LOCAL: ("local_rope_theta", 10_000.0)}
"""for each kind of layers, the key of the base of its rotations in older files, and its usual value"""
USUAL_SCALING = (("rope_type", "default"), ("type", "default"))
"""entries of rope_scaling that scale nothing"""


@dataclass(frozen=True)
class ModernBertConfig:
    """Sizes and dropout probabilities of an encoder, its pooler and its head; more are as in `BertConfig`.

    Attributes:
        global_layers: for each layer whether its tokens see all others, and not only those that are near.
        reach: largest distance between two tokens that see each other in the other layers.
        global_theta, local_theta: bases of the rotations by positions in both kinds of layers.
        attention_bias, mlp_bias, norm_bias, pooler_bias: whether layers of these kinds have biases.
        pooler: whether there are a dense layer and a norm between the pooled features and the output layer;
            transformers calls them the head, and masked language models have them as well.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    activation: str
    pooler_activation: str
    embedding_dropout: float
    attention_dropout: float
    mlp_dropout: float
    head_dropout: float
    layer_norm_eps: float
    initializer_range: float
    pad_id: int
    global_layers: tuple[bool, ...]
    reach: int
    global_theta: float
    local_theta: float
    attention_bias: bool
    mlp_bias: bool
    norm_bias: bool
    pooler_bias: bool
    pooler: bool
    num_labels: int | None
    precision: Precision = "f32"
    pooling: Pooling = "cls"

    @property
    def kind(self) -> Kind:
        """The architecture."""
        return "modernbert"

    @property
    def layer_groups(self) -> int:
        """Sets of layer weights: one for each layer."""
        return self.num_layers

    @property
    def head_reads_pooler(self) -> bool:
        """Whether the head for texts reads the pooler's output."""
        return self.pooling in POOLERS["modernbert"]

    @property
    def longest(self) -> int:
        """The largest number of tokens in a text that max_position_embeddings in config.json allows."""
        return self.max_positions

    def with_dropout(self, p: float) -> "ModernBertConfig":
        """The configuration with `p` in place of every dropout probability."""
        dropouts = dict.fromkeys(("embedding_dropout", "attention_dropout", "mlp_dropout", "head_dropout"), p)
        return replace(self, **dropouts)


def modernbert_config(
    settings: Mapping[str, Any], name: str, pooler: bool, num_labels: int | None, precision: Precision
) -> ModernBertConfig:
    """The configuration that config.json describes.

    Args:
        settings: content of config.json.
        name: of the checkpoint, for errors.
        pooler, num_labels, precision: as in `ModernBertConfig`.

    Raises:
        InputError: a value is missing, of the wrong type, or out of range.
    """
    get = value_reader(settings, name)
    size = partial(get, least=1)
    probability = partial(get, default=0.0, value_type=float, below=1)
    flag = partial(flag_of, settings, name)
    layers = size("num_hidden_layers", below=MOST_LAYERS)
    config = ModernBertConfig(
        vocab_size=size("vocab_size"),
        hidden_size=size("hidden_size"),
        num_layers=layers,
        num_heads=size("num_attention_heads"),
        intermediate_size=size("intermediate_size"),
        max_positions=size("max_position_embeddings"),
        activation=get("hidden_activation", default="gelu", value_type=str),
        pooler_activation=get("classifier_activation", default="gelu", value_type=str),
        embedding_dropout=probability("embedding_dropout"),
        attention_dropout=probability("attention_dropout"),
        mlp_dropout=probability("mlp_dropout"),
        head_dropout=probability("classifier_dropout"),
        layer_norm_eps=get("norm_eps", default=1e-5, value_type=float),
        initializer_range=get("initializer_range", default=0.02, value_type=float),
        pad_id=get("pad_token_id", default=50283),
        global_layers=_global_layers(settings, name, layers),
        reach=get("local_attention", default=128, least=2) // 2,
        global_theta=_theta(settings, name, GLOBAL),
        local_theta=_theta(settings, name, LOCAL),
        attention_bias=flag("attention_bias"),
        mlp_bias=flag("mlp_bias"),
        norm_bias=flag("norm_bias"),
        pooler_bias=flag("classifier_bias"),
        pooler=pooler,
        num_labels=num_labels,
        precision=precision,
    )
    check_sizes(config, name, "norm_eps")
    if config.hidden_size // config.num_heads % 2:
        raise InputError(
            f"{name} has a config.json with {config.num_heads} heads of {config.hidden_size // config.num_heads} "
            "features, which cannot be rotated in pairs: download it again"
        )
    check_activation(config.activation, name)
    check_activation(config.pooler_activation, name)
    return config


def _global_layers(settings: Mapping[str, Any], name: str, layers: int) -> tuple[bool, ...]:
    """Which layers are global, by the list of their kinds, or in older files by how many of them one is."""
    types = settings.get("layer_types")
    if types is None:
        every = value_reader(settings, name)("global_attn_every_n_layers", default=3, least=1)
        return tuple(i % every == 0 for i in range(layers))
    if not isinstance(types, list) or len(types) != layers or any(kind not in (GLOBAL, LOCAL) for kind in types):
        raise InputError(
            f"{name} has a config.json whose layer_types are not {layers} times {GLOBAL} or {LOCAL}: download it again"
        )
    return tuple(kind == GLOBAL for kind in types)


def _theta(settings: Mapping[str, Any], name: str, kind: str) -> float:
    """The base of the rotations in one kind of layers."""
    key, usual = THETAS[kind]
    parameters = settings.get("rope_parameters") or {}
    parameters = parameters.get(kind) if isinstance(parameters, Mapping) else None
    own = {} if parameters is None else parameters
    rope_type = own.get("rope_type", "default") if isinstance(own, Mapping) else own
    scaling = settings.get("rope_scaling")
    if isinstance(scaling, Mapping) and all(item in USUAL_SCALING for item in scaling.items()):
        scaling = None
    unusual = scaling or (rope_type if rope_type != "default" else None)
    if unusual:
        raise InputError(
            f"{name} has a config.json with rotations of the type {unusual!r}: name a checkpoint of ModernBERT with "
            "those of the type 'default', as all published ones"
        )
    found = value_reader({key: own.get("rope_theta", settings.get(key))}, name)
    return float(found(key, default=usual, value_type=float, least=1))
