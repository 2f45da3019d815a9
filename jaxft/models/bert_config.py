"""The configuration of BERT and its relatives, and its reader from config.json of a Hugging Face checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from jaxft.errors import InputError
from jaxft.models.config_values import MOST_LAYERS, check_activation, check_sizes, flag_of, value_reader
from jaxft.models.deberta_config import Disentangled, check_deberta, disentangled
from jaxft.models.encoder_kinds import POOLERS, Kind
from jaxft.models.options import Pooling, Precision

POSITIONS_AFTER_PADDING: tuple[Kind, ...] = ("roberta", "mpnet")
"""architectures whose first position is the one after the padding piece's number"""
SMALL_EMBEDDINGS: tuple[Kind, ...] = ("electra", "albert")
"""architectures whose embeddings have a size of their own"""
MPNET_BUCKETS = 32
"""groups of distances, whatever config.json says: transformers counts them so"""


@dataclass(frozen=True)
class BertConfig:
    """Sizes and dropout probabilities of an encoder, its pooler and its head.

    Attributes:
        kind: the architecture.
        position_offset: position of a text's first token; RoBERTa's positions begin after that of padding.
        layer_groups: sets of layer weights, each used by `num_layers / layer_groups` layers in turn; as many as layers
            except in ALBERT.
        bias_buckets: groups of distances between tokens that have an attention bias of their own; 0 except in MPNet.
        pooler: whether there is a dense layer on the first token's output.
        num_labels: outputs of the head; None without a head.
        precision: of matrix products.
        pooling: what the head reads. With "cls" there is a pooler or a dense layer between the first token and the
            output layer, as in transformers; otherwise the output layer reads the pooled features.
        embeds_positions: whether the embeddings have a vector for each position.
        disentangled: attention to the distances between tokens; None except in DeBERTa.
        pooler_activation: after the pooler's dense layer.
        pooler_dropout: probability before the pooler's dense layer.
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
    layer_groups: int
    bias_buckets: int
    pooler: bool
    num_labels: int | None
    precision: Precision = "f32"
    pooling: Pooling = "cls"
    embeds_positions: bool = True
    disentangled: Disentangled | None = None
    pooler_activation: str = "tanh"
    pooler_dropout: float = 0.0

    @property
    def head_reads_pooler(self) -> bool:
        """Whether the head for texts reads the pooler's output; the others have a dense layer of their own."""
        return self.pooling in POOLERS.get(self.kind, ())

    @property
    def projects_embeddings(self) -> bool:
        """Whether a linear layer leads from the embeddings to the first layer."""
        return self.kind == "albert" or self.embedding_size != self.hidden_size

    @property
    def longest(self) -> int:
        """The largest number of tokens in a text that max_position_embeddings in config.json allows."""
        return self.max_positions - self.position_offset

    def with_dropout(self, p: float) -> "BertConfig":
        """The configuration with `p` in place of every dropout probability."""
        dropouts = dict.fromkeys(("hidden_dropout", "attention_dropout", "head_dropout", "pooler_dropout"), p)
        return replace(self, **dropouts)


def bert_config(
    settings: Mapping[str, Any], kind: Kind, name: str, pooler: bool, num_labels: int | None, precision: Precision
) -> BertConfig:
    """The configuration that config.json describes; DistilBERT, ALBERT and DeBERTa have keys of their own.

    Args:
        settings: content of config.json.
        kind: the architecture.
        name: of the checkpoint, for errors.
        pooler, num_labels, precision: as in `BertConfig`.

    Raises:
        InputError: a value is missing, of the wrong type, or out of range; or the model is no plain encoder.
    """
    _check_encoder(settings, name)
    distilbert, deberta, small = kind == "distilbert", kind == "deberta", kind in SMALL_EMBEDDINGS
    if deberta:
        check_deberta(settings, name)

    get = value_reader(settings, name, distilbert)
    size = partial(get, least=1)
    probability = partial(get, value_type=float, below=1)
    usual_dropout = 0.0 if kind == "albert" else 0.1
    dropout = probability("hidden_dropout_prob", "dropout", usual_dropout)
    # MPNet's positions follow piece 1, whatever config.json says of padding
    pad = 1 if kind == "mpnet" else get("pad_token_id", default=1 if kind == "roberta" else 0)
    config = BertConfig(
        kind=kind,
        vocab_size=size("vocab_size"),
        embedding_size=size("embedding_size", default=128) if small else size("hidden_size", "dim"),
        hidden_size=size("hidden_size", "dim"),
        num_layers=size("num_hidden_layers", "n_layers", below=MOST_LAYERS),
        num_heads=size("num_attention_heads", "n_heads"),
        intermediate_size=size("intermediate_size", "hidden_dim"),
        max_positions=size("max_position_embeddings"),
        token_types=0 if kind in ("distilbert", "mpnet") else get("type_vocab_size", default=0 if deberta else None),
        activation=get("hidden_act", "activation", "gelu_new" if kind == "albert" else "gelu", str),
        hidden_dropout=dropout,
        attention_dropout=probability("attention_probs_dropout_prob", "attention_dropout", usual_dropout),
        head_dropout=probability(
            {"albert": "classifier_dropout_prob", "deberta": "cls_dropout"}.get(kind, "classifier_dropout"),
            "seq_classif_dropout",
            {"albert": 0.1, "distilbert": 0.2}.get(kind, dropout),
        ),
        layer_norm_eps=get("layer_norm_eps", default=1e-7 if deberta else 1e-12, value_type=float),
        initializer_range=get("initializer_range", default=0.02, value_type=float),
        pad_id=pad,
        position_offset=pad + 1 if kind in POSITIONS_AFTER_PADDING else 0,
        layer_groups=size("num_hidden_groups", default=1)
        if kind == "albert"
        else size("num_hidden_layers", "n_layers"),
        bias_buckets=MPNET_BUCKETS if kind == "mpnet" else 0,
        pooler=pooler,
        num_labels=num_labels,
        precision=precision,
        embeds_positions=not deberta or flag_of(settings, name, "position_biased_input", default=True),
        disentangled=disentangled(settings, name) if deberta else None,
        pooler_activation=get("pooler_hidden_act", default="gelu", value_type=str) if deberta else "tanh",
        pooler_dropout=probability("pooler_dropout", default=0.0) if deberta else 0.0,
    )
    _check_numbers(config, name)
    return config


def _check_encoder(settings: Mapping[str, Any], name: str) -> None:
    """Refuses decoders, other positions than absolute ones, and layers of several parts."""
    for key in ("is_decoder", "add_cross_attention"):
        if settings.get(key):
            raise InputError(
                f"{name} has a config.json with {key} true, and jaxft trains encoders, whose tokens see all others: "
                "name the checkpoint of an encoder"
            )
    if settings.get("inner_group_num", 1) != 1:
        raise InputError(
            f"{name} has a config.json with inner_group_num {settings['inner_group_num']!r}: name a checkpoint of "
            "ALBERT whose groups have one layer, as all published ones"
        )
    if settings.get("relative_attention_num_buckets", MPNET_BUCKETS) != MPNET_BUCKETS:
        raise InputError(
            f"{name} has a config.json with relative_attention_num_buckets "
            f"{settings['relative_attention_num_buckets']!r}: name a checkpoint of MPNet with {MPNET_BUCKETS}"
        )
    positions = settings.get("position_embedding_type")
    if positions not in (None, "absolute"):
        raise InputError(
            f"{name} has positions of the type {positions!r}: name a checkpoint whose position_embedding_type is "
            "'absolute'"
        )


def _check_numbers(config: BertConfig, name: str) -> None:
    """Refuses numbers that do not fit each other, and activations that jaxft does not have."""
    check_sizes(config, name, "layer_norm_eps")
    if config.num_layers % config.layer_groups:
        raise InputError(
            f"{name} has a config.json with {config.num_layers} layers in {config.layer_groups} groups: correct "
            "num_hidden_groups to a divisor of num_hidden_layers"
        )
    if config.longest < 1:
        raise InputError(
            f"{name} has a config.json with max_position_embeddings {config.max_positions}, of which the first "
            f"{config.position_offset} are for padding: download it again"
        )
    check_activation(config.activation, name)
    check_activation(config.pooler_activation, name)
