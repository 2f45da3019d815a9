"""The layers of BERT and its relatives: embeddings, attention and encoder layer.

Axes: B batch, T time, H hidden, N heads, R rows of the embeddings of distances.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jaxft.models.activations import ACTIVATIONS
from jaxft.models.attention import attention, by_text, split_heads
from jaxft.models.bert_config import POSITIONS_AFTER_PADDING, BertConfig
from jaxft.models.deberta import DisentangledAttention
from jaxft.models.dropout import dropout
from jaxft.models.encoder_layers import activation_dtype, dense, linear, norm, saved, split_key
from jaxft.models.products import on_accelerator


class Embeddings(nnx.Module):
    """The sum of word, position and token type embeddings, normalized, and what attention adds for distances."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        init, size = nnx.initializers.normal(config.initializer_range), config.embedding_size
        embed = partial(nnx.Embed, embedding_init=init, rngs=rngs)
        self.word = embed(config.vocab_size, size)
        if config.embeds_positions:
            self.position = embed(config.max_positions, size)
        if config.token_types:
            self.token_type = embed(config.token_types, size)
        self.norm = norm(config, size, rngs)
        if config.projects_embeddings:
            self.project = dense(config, size, config.hidden_size, rngs)
        if config.bias_buckets:
            self.distance = embed(config.bias_buckets, config.num_heads)
        if config.disentangled:
            self.distance = embed(2 * config.disentangled.span, config.hidden_size)
            if config.disentangled.normalizes:
                self.distance_norm = norm(config, config.hidden_size, rngs)

    def __call__(self, ids: jax.Array, token_types: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """(B, T) ids and token types -> (B, T, H); ValueError where there are more tokens than positions."""
        if self.config.embeds_positions and ids.shape[1] > self.config.longest:
            raise ValueError(f"the texts are {ids.shape[1]} tokens long: give at most {self.config.longest}")
        x = self.word(ids)
        if self.config.embeds_positions:
            x = x + self.position(self._positions(ids))
        if self.config.token_types:
            x = x + self.token_type(jnp.zeros_like(ids) if token_types is None else token_types)
        x = dropout(self.norm(x), self.config.hidden_dropout, key)
        return linear(self.config, x, self.project) if self.config.projects_embeddings else x

    def _positions(self, ids: jax.Array) -> jax.Array:
        if self.config.kind in POSITIONS_AFTER_PADDING:
            valid = (ids != self.config.pad_id).astype(jnp.int32)
            return jnp.cumsum(valid, axis=1) * valid + self.config.position_offset - 1
        return jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)

    def distances(self, length: int) -> jax.Array | None:
        """What the attention of every layer gets of the distances between tokens; None for nothing.

        In MPNet it is (N, T, T), added to the scores; in DeBERTa the embeddings of distances, (R, H).
        """
        if self.config.disentangled:
            rows = self.distance.embedding[...]
            return self.distance_norm(rows) if self.config.disentangled.normalizes else rows
        if not self.config.bias_buckets:
            return None
        positions = jnp.arange(length)
        distances = positions[None, :] - positions[:, None]
        return jnp.moveaxis(self.distance(distance_buckets(distances, self.config.bias_buckets)), -1, 0)


def distance_buckets(distances: jax.Array, buckets: int, longest: int = 128) -> jax.Array:
    """The bucket of each distance from a token to another, int32: half of them for those ahead of the token.

    On each side half of the buckets hold at most one distance each. The widths of the others grow exponentially, up to
    the distance `longest`; all beyond are in the last.

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
        precision, p, heads = self.config.precision, self.config.attention_dropout, self.config.num_heads
        dtype = activation_dtype(precision)
        projected = saved(linear(self.config, x, self.query, self.key, self.value, dtype=dtype))  # (B, T, 3H)

        def attend(projected: jax.Array, valid: jax.Array, key: jax.Array | None) -> jax.Array:
            q, k, v = split_heads(projected, heads)
            scale = q.shape[-1] ** -0.5
            return attention(q * scale, k, v, valid[None, :], bias, precision=precision, p=p, key=key)

        if key is None and on_accelerator():
            mask = valid[:, None, None, :]
            bias = None if bias is None else bias[None].astype(dtype)
            attended = saved(jax.nn.dot_product_attention(*split_heads(projected, heads), bias=bias, mask=mask))
        else:  # JAX's function has no dropout, and holds the weights of all texts at once on a CPU
            attended = by_text(attend, projected, valid, key)
        return linear(self.config, attended.reshape(x.shape), self.output, dtype=dtype)


class Layer(nnx.Module):
    """Attention and a two-layer network, each with a residual connection and a norm after it."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        self.attention = (DisentangledAttention if config.disentangled else Attention)(config, rngs)
        self.attention_norm = norm(config, config.hidden_size, rngs)
        self.intermediate = dense(config, config.hidden_size, config.intermediate_size, rngs)
        self.output = dense(config, config.intermediate_size, config.hidden_size, rngs)
        self.output_norm = norm(config, config.hidden_size, rngs)

    def __call__(self, x: jax.Array, valid: jax.Array, distances: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """(B, T, H) -> (B, T, H); see `Attention`, and for `distances` `Embeddings.distances`."""
        keys, dtype = split_key(key, 3), activation_dtype(self.config.precision)
        attended = dropout(self.attention(x, valid, distances, keys[0]), self.config.hidden_dropout, keys[1])
        x = self.attention_norm(saved(x + attended.astype(x.dtype)))
        hidden = saved(linear(self.config, x, self.intermediate, dtype=dtype))
        hidden = ACTIVATIONS[self.config.activation](hidden.astype(x.dtype)).astype(dtype)
        hidden = linear(self.config, hidden, self.output, dtype=dtype)
        if self.config.kind != "albert":
            hidden = dropout(hidden, self.config.hidden_dropout, keys[2])
        return self.output_norm(saved(x + hidden.astype(x.dtype)))
