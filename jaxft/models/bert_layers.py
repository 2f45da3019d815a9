"""The layers of BERT and its relatives: embeddings, attention, encoder layer and head. `jaxft.models.bert` joins them.

Axes: B batch, T time, H hidden, N heads, C classes.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxft.models.bert_config import ACTIVATIONS, POSITIONS_AFTER_PADDING, BertConfig, Kind
from jaxft.models.dropout import dropout
from jaxft.models.options import Pooling, Precision
from jaxft.models.products import matmul, on_accelerator
from jaxft.sharding import own_rows, shards

HEAD_ACTIVATIONS: dict[Kind, Callable[[jax.Array], jax.Array]] = {
    "roberta": jnp.tanh,
    "mpnet": jnp.tanh,
    "distilbert": jax.nn.relu,
    "electra": ACTIVATIONS["gelu"],
}


class Embeddings(nnx.Module):
    """The sum of word, position and token type embeddings, normalized."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        init, size = nnx.initializers.normal(config.initializer_range), config.embedding_size
        embed = partial(nnx.Embed, features=size, embedding_init=init, rngs=rngs)
        self.word, self.position = embed(config.vocab_size), embed(config.max_positions)
        if config.token_types:
            self.token_type = embed(config.token_types)
        self.norm = _norm(config, size, rngs)
        if config.projects_embeddings:
            self.project = dense(config, size, config.hidden_size, rngs)
        if config.position_buckets:
            init = nnx.initializers.normal(config.initializer_range)
            self.distance = nnx.Embed(config.position_buckets, config.num_heads, embedding_init=init, rngs=rngs)

    def __call__(self, ids: jax.Array, token_types: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """(B, T) ids and token types -> (B, T, H)."""
        if self.config.kind in POSITIONS_AFTER_PADDING:
            valid = (ids != self.config.pad_id).astype(jnp.int32)
            positions = jnp.cumsum(valid, axis=1) * valid + self.config.position_offset - 1
        else:
            positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
        x = self.word(ids) + self.position(positions)
        if self.config.token_types:
            x = x + self.token_type(jnp.zeros_like(ids) if token_types is None else token_types)
        x = dropout(self.norm(x), self.config.hidden_dropout, key)
        return linear(self.config, x, self.project) if self.config.projects_embeddings else x

    def attention_bias(self, length: int) -> jax.Array | None:
        """(N, T, T): what is added to the attention scores for the distance of two tokens; None for nothing."""
        if not self.config.position_buckets:
            return None
        positions = jnp.arange(length)
        distances = positions[None, :] - positions[:, None]
        return jnp.moveaxis(self.distance(distance_buckets(distances, self.config.position_buckets)), -1, 0)


def distance_buckets(distances: jax.Array, buckets: int, longest: int = 128) -> jax.Array:
    """The bucket of each distance from a token to another, int32: half of them for those ahead of the token.

    The nearest quarter of the distances on each side have buckets of their own; the others share buckets whose widths
    grow exponentially, up to the distance `longest`.

    Examples:
        >>> distance_buckets(jnp.array([0, -1, 1, -8, -12, 200]), 32).tolist()
        [0, 1, 17, 8, 9, 31]

    References:
        Raffel et al., Exploring the Limits of Transfer Learning, JMLR 2020, section 2.1.
    """
    side = buckets // 2
    exact, away = side // 2, jnp.abs(distances).astype(jnp.int32)
    share = jnp.log(jnp.maximum(away, 1).astype(jnp.float32) / exact) / math.log(longest / exact)
    far = jnp.minimum(exact + (share * (side - exact)).astype(jnp.int32), side - 1)
    return jnp.where(distances > 0, side, 0) + jnp.where(away < exact, away, far)


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        self.query, self.key, self.value, self.output = (
            dense(config, config.hidden_size, config.hidden_size, rngs) for _ in range(4)
        )

    def __call__(self, x: jax.Array, valid: jax.Array, bias: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """(B, T, H) -> (B, T, H); tokens where `valid` (B, T) is False are not attended to, `bias` is (N, T, T)."""
        dtype = activation_dtype(self.config.precision)
        projected = _saved(linear(self.config, x, self.query, self.key, self.value, dtype=dtype))  # (B, T, 3H)
        if key is None:
            mask = valid[:, None, None, :]
            bias = None if bias is None else bias[None].astype(dtype)
            attended = jax.nn.dot_product_attention(*_heads(projected, self.config.num_heads), bias=bias, mask=mask)
        else:  # JAX's function has no dropout
            attended = _attend(projected, valid, bias, self.config.num_heads, self.config.attention_dropout, key)
        return linear(self.config, _saved(attended.reshape(x.shape)), self.output, dtype=dtype)


class Layer(nnx.Module):
    """Attention and a two-layer network, each with a residual connection and a norm after it."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        self.attention = Attention(config, rngs)
        self.attention_norm = _norm(config, config.hidden_size, rngs)
        self.intermediate = dense(config, config.hidden_size, config.intermediate_size, rngs)
        self.output = dense(config, config.intermediate_size, config.hidden_size, rngs)
        self.output_norm = _norm(config, config.hidden_size, rngs)

    def __call__(self, x: jax.Array, valid: jax.Array, bias: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """(B, T, H) -> (B, T, H); see `Attention`."""
        keys, dtype = split_key(key, 3), activation_dtype(self.config.precision)
        attended = dropout(self.attention(x, valid, bias, keys[0]), self.config.hidden_dropout, keys[1])
        x = self.attention_norm(_saved(x + attended.astype(x.dtype)))
        hidden = _saved(linear(self.config, x, self.intermediate, dtype=dtype))
        hidden = ACTIVATIONS[self.config.activation](hidden.astype(x.dtype)).astype(dtype)
        hidden = linear(self.config, hidden, self.output, dtype=dtype)
        if self.config.kind != "albert":
            hidden = dropout(hidden, self.config.hidden_dropout, keys[2])
        return self.output_norm(_saved(x + hidden.astype(x.dtype)))


class Head(nnx.Module):
    """The head for whole texts: a linear layer; some kinds read the first token through a dense layer."""

    def __init__(self, config: BertConfig, num_labels: int, rngs: nnx.Rngs):
        self.config = config
        self.has_dense = config.pooling == "cls" and not config.head_reads_pooler
        if self.has_dense:
            self.dense = dense(config, config.hidden_size, config.hidden_size, rngs)
        self.out = dense(config, config.hidden_size, num_labels, rngs)

    def __call__(self, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """(B, H) -> the features of the output layer, (B, H), and logits (B, C)."""
        keys = split_key(key, 2)
        if self.has_dense:
            if self.config.kind != "distilbert":
                x = dropout(x, self.config.head_dropout, keys[0])
            x = HEAD_ACTIVATIONS[self.config.kind](linear(self.config, x, self.dense))
        return x, linear(self.config, dropout(x, self.config.head_dropout, keys[1]), self.out)


def pool(x: jax.Array, valid: jax.Array, pooling: Pooling) -> jax.Array:
    """(B, T, H) and (B, T) bool -> (B, H), over the tokens where `valid` is True.

    References:
        Reimers & Gurevych, Sentence-BERT, EMNLP 2019, section 3.
    """
    mask = valid[:, :, None]
    match pooling:
        case "cls":
            return x[:, 0]
        case "mean":
            counts = jnp.maximum(mask.sum(axis=1), 1).astype(x.dtype)
            return jnp.where(mask, x, jnp.zeros_like(x)).sum(axis=1) / counts
        case "max":
            return jnp.where(mask, x, jnp.full_like(x, jnp.finfo(x.dtype).min)).max(axis=1)


def dense(config: BertConfig, inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer with a normal kernel, whose standard deviation is the configuration's."""
    init = nnx.initializers.normal(config.initializer_range)
    return nnx.Linear(inputs, outputs, kernel_init=init, rngs=rngs)


def _norm(config: BertConfig, size: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


def _saved(x: jax.Array) -> jax.Array:
    """Marks `x` as an activation that `recomputed` saves."""
    return checkpoint_name(x, "saved")


def recomputed(layer: Callable[..., Any]) -> Callable[..., Any]:
    """A call of a `Layer` whose backward pass computes the norms, activations and dropout masks again.

    Of every layer it saves the input and the results of matrix products, which are what takes time. `layer` has to run
    in a loop, where XLA cannot merge the second computation with the first.
    """
    return jax.checkpoint(layer, policy=jax.checkpoint_policies.save_only_these_names("saved"), prevent_cse=False)


def linear(
    config: BertConfig, x: jax.Array, *layers: nnx.Linear, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """The outputs of linear layers side by side, in `dtype`, by one product in the configuration's precision."""
    kernel = jnp.concatenate([layer.kernel[...] for layer in layers], axis=1)
    bias = jnp.concatenate([layer.bias[...] for layer in layers if layer.bias is not None])
    return _add_bias(matmul(x, kernel, config.precision, dtype), bias)


@jax.custom_vjp
def _add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """`x + bias` in the dtype of `x`; the derivative sums in float32, which JAX would do in the dtype of `x`."""
    return x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


_add_bias.defvjp(
    lambda x, bias: (_add_bias(x, bias), None),
    lambda _, d: (d, d.astype(jnp.float32).sum(axis=tuple(range(d.ndim - 1)))),
)


def activation_dtype(precision: Precision) -> jax.typing.DTypeLike:
    """The dtype of the arrays between two products of a layer.

    On an accelerator it is that of the operands, since reading and writing them takes longer than the products. A CPU
    multiplies bfloat16 faster into float32.
    """
    return jnp.bfloat16 if precision == "bf16" and on_accelerator() else jnp.float32


def _heads(projected: jax.Array, heads: int) -> list[jax.Array]:
    """(..., 3H) -> query, key and value of each head, (..., N, H / N)."""
    return [part.reshape(*part.shape[:-1], heads, -1) for part in jnp.split(projected, 3, axis=-1)]


def _attend(
    projected: jax.Array, valid: jax.Array, bias: jax.Array | None, heads: int, p: float, key: jax.Array
) -> jax.Array:
    """Attention with dropout of its weights: (B, T, 3H), (B, T) and (N, T, T) -> (B, T, N, H / N).

    A CPU computes text after text, so that the attention weights of one fit its caches.
    """

    # The attention weights of all texts would be most of a layer's memory, so the backward pass computes them again.
    @jax.checkpoint
    def attend(text: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        projected, valid, key = text
        q, k, v = _heads(projected, heads)
        scores = jnp.einsum("qnh,knh->nqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
        scores = scores if bias is None else scores + bias
        weights = jax.nn.softmax(jnp.where(valid[None, None, :], scores, jnp.finfo(scores.dtype).min))
        return jnp.einsum("nqk,knh->qnh", dropout(weights, p, key, has_rows=False).astype(v.dtype), v)

    texts = (projected, valid, own_rows(jax.random.split(key, len(projected) * shards())))
    return jax.lax.platform_dependent(texts, cpu=partial(jax.lax.map, attend), default=jax.vmap(attend))


def split_key(key: jax.Array | None, count: int) -> list[Any]:
    """`count` keys, or as many None where there is no key."""
    return [None] * count if key is None else list(jax.random.split(key, count))
