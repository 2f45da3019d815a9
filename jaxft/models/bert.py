"""BERT and its relatives as Flax modules: BERT, RoBERTa and XLM-R, DistilBERT, ELECTRA. `load` reads a checkpoint.

The modules hold parameters only; the PRNG key is an argument, and `key=None` means evaluation.

Axes: B batch, T time, H hidden, N heads, C classes.

References:
    Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019; Liu et al., RoBERTa, 2019; Sanh et
    al., DistilBERT, 2019; Clark et al., ELECTRA, ICLR 2020.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from jaxft.errors import InputError
from jaxft.models.bert_config import ACTIVATIONS, KINDS, BertConfig, Kind, bert_config
from jaxft.models.dropout import dropout
from jaxft.models.hugging_face import fill_encoder, read_checkpoint, read_config, to_parameters
from jaxft.models.options import Precision
from jaxft.models.products import matmul

HEAD_ACTIVATIONS: dict[Kind, Callable[[jax.Array], jax.Array]] = {
    "roberta": jnp.tanh,
    "distilbert": jax.nn.relu,
    "electra": ACTIVATIONS["gelu"],
}


class Embeddings(nnx.Module):
    """Words, positions and token types, added and normalized."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        init, size = nnx.initializers.normal(config.initializer_range), config.embedding_size
        embed = partial(nnx.Embed, features=size, embedding_init=init, rngs=rngs)
        self.word, self.position = embed(config.vocab_size), embed(config.max_positions)
        if config.token_types:
            self.token_type = embed(config.token_types)
        self.norm = _norm(config, size, rngs)
        if size != config.hidden_size:
            self.project = _dense(config, size, config.hidden_size, rngs)

    def __call__(self, ids: jax.Array, types: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """(B, T) ids and token types -> (B, T, H)."""
        if self.config.kind == "roberta":
            real = (ids != self.config.pad_id).astype(jnp.int32)
            positions = jnp.cumsum(real, axis=1) * real + self.config.position_offset - 1
        else:
            positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
        x = self.word(ids) + self.position(positions)
        if self.config.token_types:
            x = x + self.token_type(jnp.zeros_like(ids) if types is None else types)
        x = dropout(self.norm(x), self.config.hidden_dropout, key)
        return _linear(self.config, x, self.project) if self.config.embedding_size != self.config.hidden_size else x


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        self.query, self.key, self.value, self.output = (
            _dense(config, config.hidden_size, config.hidden_size, rngs) for _ in range(4)
        )

    def __call__(self, x: jax.Array, valid: jax.Array, key: jax.Array | None) -> jax.Array:
        """(B, T, H) -> (B, T, H); `valid` (B, T) says which words may be looked at."""
        projected = _linear(self.config, x, self.query, self.key, self.value)  # (B, T, 3H)
        if key is None:
            mask = valid[:, None, None, :]
            attended = jax.nn.dot_product_attention(*_heads(projected, self.config.num_heads), mask=mask)
        else:  # which has no dropout
            attended = _attend(projected, valid, self.config.num_heads, self.config.attention_dropout, key)
        return _linear(self.config, attended.reshape(x.shape), self.output)


class Layer(nnx.Module):
    """Attention and a two-layer network, each with its residual normalized after it."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        self.attention = Attention(config, rngs)
        self.attention_norm = _norm(config, config.hidden_size, rngs)
        self.intermediate = _dense(config, config.hidden_size, config.intermediate_size, rngs)
        self.output = _dense(config, config.intermediate_size, config.hidden_size, rngs)
        self.output_norm = _norm(config, config.hidden_size, rngs)

    def __call__(self, x: jax.Array, valid: jax.Array, key: jax.Array | None) -> jax.Array:
        """(B, T, H) -> (B, T, H)."""
        keys = _split(key, 3)
        attended = dropout(self.attention(x, valid, keys[0]), self.config.hidden_dropout, keys[1])
        x = _normalized(self.attention_norm, x + attended)
        hidden = ACTIVATIONS[self.config.activation](_linear(self.config, x, self.intermediate))
        hidden = _linear(self.config, hidden, self.output)
        return _normalized(self.output_norm, x + dropout(hidden, self.config.hidden_dropout, keys[2]))


class Head(nnx.Module):
    """Outputs of a whole text: a linear layer, and all but BERT have another one with an activation before it."""

    def __init__(self, config: BertConfig, num_labels: int, rngs: nnx.Rngs):
        self.config = config
        if config.kind != "bert":
            self.dense = _dense(config, config.hidden_size, config.hidden_size, rngs)
        self.out = _dense(config, config.hidden_size, num_labels, rngs)

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """(B, H) -> logits (B, C)."""
        keys = _split(key, 2)
        if self.config.kind != "bert":
            if self.config.kind != "distilbert":
                x = dropout(x, self.config.head_dropout, keys[0])
            x = HEAD_ACTIVATIONS[self.config.kind](_linear(self.config, x, self.dense))
        return _linear(self.config, dropout(x, self.config.head_dropout, keys[1]), self.out)


class Bert(nnx.Module):
    """The encoder, its pooler and its head, where there are any."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        self.embeddings = Embeddings(config, rngs)
        for i in range(config.num_layers):
            setattr(self, f"layer_{i}", Layer(config, rngs))
        if config.pooler:
            self.pooler = _dense(config, config.hidden_size, config.hidden_size, rngs)
        if config.num_labels is not None:
            self.head = Head(config, config.num_labels, rngs)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> dict[str, Any]:
        """Encodes texts.

        Args:
            input_ids: (B, T) int.
            attention_mask: (B, T) bool or int, 0 on padding.
            token_type_ids: (B, T) int, 0 for the first text of a pair and 1 for the second; None for all 0.
            key: for the dropouts; None for evaluation.

        Returns:
            `hidden_states`, a list of (B, T, H): the embeddings and what every layer makes of them; `pooled` (B, H),
            the pooler's output, or the first word's where there is none; and, with a head, `logits` (B, C) float32.
        """
        valid = jnp.asarray(attention_mask).astype(bool)
        keys = _split(key, self.config.num_layers + 2)
        states = [self.embeddings(jnp.asarray(input_ids), token_type_ids, keys[0])]
        for i in range(self.config.num_layers):
            states.append(getattr(self, f"layer_{i}")(states[-1], valid, keys[i + 1]))
        first = states[-1][:, 0]
        pooled = jnp.tanh(_linear(self.config, first, self.pooler)) if self.config.pooler else first
        outputs: dict[str, Any] = {"hidden_states": states, "pooled": pooled}
        if self.config.num_labels is not None:
            outputs["logits"] = self.head(pooled if self.config.kind == "bert" else first, keys[-1])
        return outputs


@dataclass(frozen=True)
class Encoder:
    """A checkpoint that has been read.

    Attributes:
        config: its sizes.
        settings: the content of its config.json.
        params: nested dict of float32 arrays.
    """

    config: BertConfig
    settings: Mapping[str, Any]
    params: Any

    def apply(
        self,
        params: Any,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> dict[str, Any]:
        """The results of `Bert.__call__`, as a pure function of the parameters."""
        return nnx.merge(self._graphdef, params)(input_ids, attention_mask, token_type_ids, key)

    @cached_property
    def _graphdef(self) -> nnx.GraphDef:
        return nnx.graphdef(nnx.eval_shape(lambda: Bert(self.config, nnx.Rngs(0))))


def load(
    folder: str | Path, num_labels: int | None = None, *, precision: Precision = "f32", seed: int = 0
) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """An encoder from a Hugging Face checkpoint, as a pure function and its parameters; see `open_checkpoint`.

    Returns:
        `apply(params, input_ids, attention_mask, token_type_ids=None, key=None)`, with the results of `Bert.__call__`,
        and the parameters, a nested dict.
    """
    encoder = open_checkpoint(folder, num_labels, precision=precision, seed=seed)
    return encoder.apply, encoder.params


def open_checkpoint(
    folder: str | Path,
    num_labels: int | None = None,
    *,
    precision: Precision = "f32",
    seed: int = 0,
    dropout: float | None = None,
    new_head: bool = False,
) -> Encoder:
    """Reads a Hugging Face checkpoint.

    Args:
        folder: with config.json and model.safetensors, single or in shards, or pytorch_model.bin, which is read without
            running what is in it.
        num_labels: outputs of the head. A head that the file lacks is drawn anew, and so is the pooler below that of
            BERT; None takes the file's head, if it has one.
        precision: of the products; see `jaxft.models.products`.
        seed: of what is drawn anew.
        dropout: in place of every dropout in config.json.
        new_head: draw the head anew even if the file has one.

    Raises:
        InputError: a missing or damaged file, a model of another kind, or weights that do not fit; one sentence names
            all that is wrong.
    """
    folder = Path(folder)
    settings, state = read_config(folder), read_checkpoint(folder)
    name = str(folder)
    kind = KINDS.get(str(settings.get("model_type")))
    if kind is None:
        raise InputError(f"{name} holds a model of type {settings.get('model_type')!r}, and not one of {sorted(KINDS)}")
    found, problems = to_parameters(state, kind)
    if new_head:
        found = {path: array for path, array in found.items() if not path.startswith("head/")}
    stored = found["head/out/bias"].shape[0] if "head/out/bias" in found else None
    if num_labels is not None and stored is not None and stored != num_labels:
        raise InputError(f"{name} has a head of {stored} outputs where {num_labels} are wanted: name a base checkpoint")
    pooler = "pooler/kernel" in found
    if num_labels is not None:  # a head reads the pooler or never does
        pooler = kind == "bert"
        found = {path: array for path, array in found.items() if pooler or not path.startswith("pooler/")}
    config = bert_config(settings, kind, name, pooler, stored if num_labels is None else num_labels, precision)
    if dropout is not None:
        config = replace(config, hidden_dropout=dropout, attention_dropout=dropout, head_dropout=dropout)
    template = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0)))))
    new = [part for part in ("pooler", "head") if part in template and not any(p.startswith(f"{part}/") for p in found)]
    if new and num_labels is not None:
        found |= _flat({part: _drawn(config, seed)[part] for part in new})
    return Encoder(config, settings, fill_encoder(found, template, problems, name))


def reinitialized(encoder: Encoder, top_layers: int, seed: int) -> Any:
    """The parameters with the top layers and the pooler drawn anew: normal weights, biases 0, norms 1.

    Args:
        encoder: a checkpoint.
        top_layers: how many layers, from the top.
        seed: of the draw.

    References:
        Zhang et al., Revisiting Few-sample BERT Fine-tuning, ICLR 2021, section 5.

    Raises:
        ValueError: more layers than there are.
    """
    layers = encoder.config.num_layers
    if not 0 <= top_layers <= layers:
        raise ValueError(f"{top_layers} layers of {layers} cannot be drawn anew")
    names = [f"layer_{i}" for i in range(layers - top_layers, layers)] + ["pooler"] * bool(top_layers)
    drawn = _drawn(encoder.config, seed)
    return {**encoder.params, **{name: drawn[name] for name in names if name in encoder.params}}


def _drawn(config: BertConfig, seed: int) -> dict[str, Any]:
    """Random parameters of everything above the embeddings."""
    small = replace(config, vocab_size=1, max_positions=1)
    return nnx.to_pure_dict(nnx.state(Bert(small, nnx.Rngs(seed)), nnx.Param))


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return traverse_util.flatten_dict(tree, sep="/")


def encoder_rules(num_layers: int) -> list[tuple[str, str]]:
    """Rules for `jaxft.label_params`: a group of parameters for the embeddings, one for each layer, and the head.

    Examples:
        >>> [group for _, group in encoder_rules(2)]
        ['embeddings', 'layer_0', 'layer_1', 'head']
    """
    layers = [f"layer_{i}" for i in range(num_layers)]
    return [(f"{part}/.*", part) for part in ("embeddings", *layers)] + [("(pooler|head)/.*", "head")]


def _dense(config: BertConfig, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    init = nnx.initializers.normal(config.initializer_range)
    return nnx.Linear(inputs, outputs, kernel_init=init, rngs=rngs)


def _norm(config: BertConfig, size: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


def _normalized(norm: nnx.LayerNorm, x: jax.Array) -> jax.Array:
    return jax.checkpoint(norm)(x)  # the backward pass keeps x alone


def _linear(config: BertConfig, x: jax.Array, *layers: nnx.Linear) -> jax.Array:
    """The layers' outputs side by side, of one product in the precision of the configuration, plus their biases."""
    kernel = jnp.concatenate([dense.kernel[...] for dense in layers], axis=1)
    bias = jnp.concatenate([dense.bias[...] for dense in layers if dense.bias is not None])
    return matmul(x, kernel, config.precision) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _heads(projected: jax.Array, heads: int) -> list[jax.Array]:
    """(..., 3H) -> query, key and value of each head, (..., N, H / N)."""
    return [part.reshape(*part.shape[:-1], heads, -1) for part in jnp.split(projected, 3, axis=-1)]


def _attend(projected: jax.Array, valid: jax.Array, heads: int, p: float, key: jax.Array) -> jax.Array:
    """Attention with dropout of its weights: (B, T, 3H) and (B, T) -> (B, T, N, H / N).

    A CPU takes text after text, whose weights stay in its caches.
    """

    # Kept for the backward pass, the weights of all layers would be most of a step's memory.
    @jax.checkpoint
    def attend(text: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        projected, valid, key = text
        q, k, v = _heads(projected, heads)
        scores = jnp.einsum("qnh,knh->nqk", q * q.shape[-1] ** -0.5, k)
        weights = jax.nn.softmax(jnp.where(valid[None, None, :], scores, jnp.finfo(scores.dtype).min))
        return jnp.einsum("nqk,knh->qnh", dropout(weights, p, key), v)

    texts = (projected, valid, jax.random.split(key, len(projected)))
    return jax.lax.platform_dependent(texts, cpu=partial(jax.lax.map, attend), default=jax.vmap(attend))


def _split(key: jax.Array | None, count: int) -> list[Any]:
    return [None] * count if key is None else list(jax.random.split(key, count))
