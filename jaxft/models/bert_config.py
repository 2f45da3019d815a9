"""The configuration of BERT and its relatives, and its reader from config.json of a Hugging Face checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax

from jaxft.errors import InputError
from jaxft.models.options import Pooling, Precision

Kind = Literal["bert", "roberta", "distilbert", "electra", "albert", "mpnet"]
KINDS: dict[str, Kind] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "distilbert": "distilbert",
    "electra": "electra",
    "albert": "albert",
    "mpnet": "mpnet",
}
"""the architecture, and the names of weights, for each `model_type` that a checkpoint may have"""


ARCHITECTURES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "albert": "Albert",
    "mpnet": "MPNet",
}
"""what the names of the classes of `transformers` begin with"""
POOLER_KINDS: tuple[Kind, ...] = ("bert", "albert")
"""architectures whose head for texts reads the pooler"""
POSITIONS_AFTER_PADDING: tuple[Kind, ...] = ("roberta", "mpnet")
"""architectures whose first position is the one after the padding piece's number"""
MPNET_BUCKETS = 32
"""groups of distances, whatever config.json says: transformers counts them so"""
MOST_LAYERS = 1000
"""layers that are too many to be meant"""


def architecture_of(settings: Mapping[str, Any]) -> str:
    """The class of `transformers` that config.json names, such as BertForMaskedLM; empty without one."""
    names = settings.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def model_type_of(settings: Mapping[str, Any], name: str) -> str:
    """The type of the model, by `model_type` in config.json or else by the class that it names.

    Examples:
        >>> model_type_of({"architectures": ["XLMRobertaForMaskedLM"]}, "xlm")
        'xlm-roberta'

    Raises:
        InputError: there is neither.
    """
    if (model_type := settings.get("model_type")) is not None:
        return str(model_type)
    classes = {f"{start}{end}": kind for kind, start in ARCHITECTURES.items() for end in ("For", "Model")}
    architecture = architecture_of(settings)
    found = next((kind for start, kind in classes.items() if architecture.startswith(start)), None)
    if found is None:
        raise InputError(
            f"the config.json in {name} names no model_type: add what the model is, one of {', '.join(sorted(KINDS))}"
        )
    return found


def kind_of(settings: Mapping[str, Any], name: str) -> Kind:
    """The architecture that config.json names.

    Args:
        settings: content of config.json.
        name: of the checkpoint, for errors.

    Raises:
        InputError: it is none of ours.
    """
    model_type = model_type_of(settings, name)
    if model_type not in KINDS:
        raise InputError(
            f"the model in {name} is of type {model_type!r}: name a checkpoint of a type among "
            f"{', '.join(sorted(KINDS))}"
        )
    return KINDS[model_type]


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
        layer_groups: sets of layer weights, each used by `num_layers / layer_groups` layers in turn; as many as layers
            except in ALBERT.
        position_buckets: groups of distances between tokens that have an attention bias of their own; 0 except in
            MPNet.
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
    layer_groups: int
    position_buckets: int
    pooler: bool
    num_labels: int | None
    precision: Precision = "f32"
    pooling: Pooling = "cls"

    @property
    def head_reads_pooler(self) -> bool:
        """Whether the head for texts reads the pooler's output; the others have a dense layer of their own."""
        return self.kind in POOLER_KINDS and self.pooling == "cls"

    @property
    def projects_embeddings(self) -> bool:
        """Whether a linear layer leads from the embeddings to the first layer."""
        return self.kind == "albert" or self.embedding_size != self.hidden_size

    @property
    def longest(self) -> int:
        """The largest number of tokens in a text that the position embeddings allow."""
        return self.max_positions - self.position_offset


def bert_config(
    settings: Mapping[str, Any], kind: Kind, name: str, pooler: bool, num_labels: int | None, precision: Precision
) -> BertConfig:
    """The configuration that config.json describes; DistilBERT and ALBERT have keys of their own.

    Args:
        settings: content of config.json.
        kind: the architecture.
        name: of the checkpoint, for errors.
        pooler, num_labels, precision: as in `BertConfig`.

    Raises:
        InputError: a value is missing, of the wrong type, or out of range; or the model is no plain encoder.
    """
    _check_encoder(settings, name)
    distilbert = kind == "distilbert"

    get = _value_reader(settings, name, distilbert)
    size = partial(get, least=1)
    probability = partial(get, value_type=float, below=1)
    usual_dropout = 0.0 if kind == "albert" else 0.1
    dropout = probability("hidden_dropout_prob", "dropout", usual_dropout)
    # MPNet's positions follow piece 1, whatever config.json says of padding
    pad = 1 if kind == "mpnet" else get("pad_token_id", default=1 if kind == "roberta" else 0)
    config = BertConfig(
        kind=kind,
        vocab_size=size("vocab_size"),
        embedding_size=size("embedding_size", default=128 if kind == "albert" else size("hidden_size", "dim")),
        hidden_size=size("hidden_size", "dim"),
        num_layers=size("num_hidden_layers", "n_layers", below=MOST_LAYERS),
        num_heads=size("num_attention_heads", "n_heads"),
        intermediate_size=size("intermediate_size", "hidden_dim"),
        max_positions=size("max_position_embeddings"),
        token_types=0 if kind in ("distilbert", "mpnet") else get("type_vocab_size"),
        activation=get("hidden_act", "activation", "gelu_new" if kind == "albert" else "gelu", str),
        hidden_dropout=dropout,
        attention_dropout=probability("attention_probs_dropout_prob", "attention_dropout", usual_dropout),
        head_dropout=probability(
            "classifier_dropout_prob" if kind == "albert" else "classifier_dropout",
            "seq_classif_dropout",
            0.1 if kind == "albert" else dropout,
        ),
        layer_norm_eps=get("layer_norm_eps", default=1e-12, value_type=float),
        initializer_range=get("initializer_range", default=0.02, value_type=float),
        pad_id=pad,
        position_offset=pad + 1 if kind in POSITIONS_AFTER_PADDING else 0,
        layer_groups=size("num_hidden_groups", default=1)
        if kind == "albert"
        else size("num_hidden_layers", "n_layers"),
        position_buckets=MPNET_BUCKETS if kind == "mpnet" else 0,
        pooler=pooler,
        num_labels=num_labels,
        precision=precision,
    )
    _check_numbers(config, name)
    return config


def _value_reader(settings: Mapping[str, Any], name: str, distilbert: bool) -> Callable[..., Any]:
    """Makes the function that reads and checks one value of config.json, by its key in BERT and in DistilBERT."""

    def get(
        bert_key: str,
        distilbert_key: str | None = None,
        default: Any = None,
        value_type: type = int,
        least: int = 0,
        below: int = 2**31,
    ) -> Any:
        key = distilbert_key if distilbert and distilbert_key else bert_key
        value = settings.get(key)
        value = default if value is None else value
        if value is None:
            raise InputError(f"{name} has a config.json without {key}: download it again")
        if not isinstance(value, value_type | int) or isinstance(value, bool):
            raise InputError(f"{name} has a config.json with {key} {value!r}: download it again")
        if not isinstance(value, str) and not least <= value < below:
            raise InputError(
                f"{name} has a config.json with {key} {value!r}: correct it to a number from {least}, below {below}"
            )
        return value

    return get


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
    """Refuses numbers that do not fit each other, and an epsilon of 0."""
    if config.layer_norm_eps <= 0:
        raise InputError(f"{name} has a config.json with layer_norm_eps 0, which divides by 0: correct it, to 1e-12")
    if config.hidden_size % config.num_heads:
        raise InputError(
            f"{name} has a config.json with {config.num_heads} heads for {config.hidden_size} features: download it "
            "again"
        )
    if config.num_layers % config.layer_groups:
        raise InputError(
            f"{name} has a config.json with {config.num_layers} layers in {config.layer_groups} groups: correct "
            "num_hidden_groups to a divisor of num_hidden_layers"
        )
    if config.pad_id >= config.vocab_size:
        raise InputError(
            f"{name} has a config.json with pad_token_id {config.pad_id} and {config.vocab_size} pieces: correct it to "
            "the number of the padding piece"
        )
    if config.longest < 1:
        raise InputError(
            f"{name} has a config.json with max_position_embeddings {config.max_positions}, of which the first "
            f"{config.position_offset} are for padding: download it again"
        )
    if config.activation not in ACTIVATIONS:
        raise InputError(
            f"{name} uses the activation {config.activation!r}: name a checkpoint with one of "
            f"{', '.join(sorted(ACTIVATIONS))}"
        )
