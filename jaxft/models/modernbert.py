"""The layers of ModernBERT: norms before the parts, rotations for positions, and attention to near tokens.

Axes: B batch, T time, H hidden, N heads, D features of a head, S tokens of a block, K blocks of a text.

References:
    Warner et al., Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder, 2024; Su et al., RoFormer, 2021, for
    the rotations; Shazeer, GLU Variants Improve Transformer, 2020.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxft.models.activations import ACTIVATIONS
from jaxft.models.attention import attention, by_text
from jaxft.models.dropout import dropout
from jaxft.models.encoder_layers import activation_dtype, dense, linear, norm, saved, split_key
from jaxft.models.modernbert_config import ModernBertConfig
from jaxft.models.options import Precision


class Embeddings(nnx.Module):
    """Word embeddings, normalized."""

    def __init__(self, config: ModernBertConfig, rngs: nnx.Rngs):
        self.config = config
        init = nnx.initializers.normal(config.initializer_range)
        self.word = nnx.Embed(config.vocab_size, config.hidden_size, embedding_init=init, rngs=rngs)
        self.norm = norm(config, config.hidden_size, rngs, bias=config.norm_bias)

    def __call__(self, ids: jax.Array, token_types: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """(B, T) ids -> (B, T, H); there are no embeddings of token types."""
        return dropout(self.norm(self.word(ids)), self.config.embedding_dropout, key)

    def distances(self, length: int) -> None:
        """Nothing: queries and keys are rotated instead."""


class Attention(nnx.Module):
    """Multi-head self-attention of rotated queries and keys, to all tokens or to the near ones."""

    def __init__(self, config: ModernBertConfig, is_global: bool, rngs: nnx.Rngs):
        self.config = config
        self.theta = config.global_theta if is_global else config.local_theta
        self.reach = None if is_global else config.reach
        layer = partial(dense, config, config.hidden_size, rngs=rngs, bias=config.attention_bias)
        self.qkv, self.output = layer(3 * config.hidden_size), layer(config.hidden_size)

    def __call__(self, x: jax.Array, valid: jax.Array, key: jax.Array | None) -> jax.Array:
        """(B, T, H) -> (B, T, H); tokens where `valid` (B, T) is False are not attended to."""
        dtype = activation_dtype(self.config.precision)
        projected = saved(linear(self.config, x, self.qkv, dtype=dtype))  # (B, T, 3H)
        attended = by_text(self._attend, projected, valid, key)
        return linear(self.config, attended.reshape(x.shape), self.output, dtype=dtype)

    def _attend(self, projected: jax.Array, valid: jax.Array, key: jax.Array | None) -> jax.Array:
        """The attention of one text, (T, 3H) -> (T, N, D)."""
        heads = self.config.num_heads
        parts = projected.reshape(len(projected), 3 * heads, -1)
        q, k = jnp.split(rotated(parts[:, : 2 * heads], self.theta), 2, axis=1)
        q, v = q * q.shape[-1] ** -0.5, parts[:, 2 * heads :]
        precision, p = self.config.precision, self.config.attention_dropout
        if self.reach is not None:
            return near_attention(q, k, v, valid, self.reach, precision=precision, p=p, key=key)
        return attention(q, k, v, valid[None, :], precision=precision, p=p, key=key)


def rotated(x: jax.Array, theta: float) -> jax.Array:
    """(T, N, D) with each pair of features, i and i + D / 2, turned by the position times theta ** (-2i / D).

    Examples:
        >>> rotated(jnp.ones((3, 1, 2)), 10_000.0)[1, 0].tolist()  # cos(1) - sin(1) and cos(1) + sin(1)
        [-0.301..., 1.381...]
    """
    half = x.shape[-1] // 2
    frequencies = 1 / theta ** (np.arange(half, dtype=np.float32) / np.float32(half))
    angles = np.arange(len(x), dtype=np.float32)[:, None, None] * frequencies.astype(np.float32)
    cos, sin = jnp.asarray(np.cos(angles)), jnp.asarray(np.sin(angles))  # (T, 1, D / 2)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def near_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    valid: jax.Array,
    reach: int,
    *,
    precision: Precision,
    p: float,
    key: jax.Array | None,
) -> jax.Array:
    """Attention of one text to the tokens at most `reach` away.

    A text that is longer than three blocks of `reach` tokens is cut into such blocks, each of which only meets itself
    and its neighbours, so that the cost grows with the length and not with its square.

    Args:
        q, k, v: (T, N, D); see `jaxft.models.attention.attention`.
        valid: (T,) bool, which tokens are none of padding.
        reach: at least 1.
        precision: of the products; see `attention`.
        p: probability of dropping an attention weight.
        key: for the dropout; None for none.

    Returns:
        (T, N, D).

    References:
        Beltagy, Peters & Cohan, Longformer: The Long-Document Transformer, 2020, section 3.
    """
    attend, length = partial(attention, precision=precision, p=p), len(q)
    if length <= 3 * reach:
        places = np.arange(length)
        near = np.abs(places[:, None] - places[None, :]) <= reach
        return attend(q, k, v, valid[None, :] & near, key=key)
    count = -(-length // reach)

    def blocks(x: jax.Array, around: int) -> jax.Array:
        """(T, ...) -> (K + 2 around, S, ...), with blocks of zeros around the text."""
        before, after = around * reach, around * reach + count * reach - length
        return jnp.pad(x, ((before, after), *((0, 0),) * (x.ndim - 1))).reshape(-1, reach, *x.shape[1:])

    def neighbours(x: jax.Array) -> jax.Array:
        """(T, ...) -> (K, 3S, ...)."""
        x = blocks(x, 1)
        return jnp.concatenate([x[i : count + i] for i in range(3)], axis=1)

    places = np.arange(3 * reach)
    near = np.abs(places[None, :] - places[reach : 2 * reach, None]) <= reach  # (S, 3S)
    mask = neighbours(valid)[:, None, :] & near[None]
    keys = None if key is None else jax.random.split(key, count)
    attended = jax.vmap(lambda q, k, v, mask, key: attend(q, k, v, mask, key=key))(
        blocks(q, 0), neighbours(k), neighbours(v), mask, keys
    )
    return attended.reshape(-1, *q.shape[1:])[:length]


class Layer(nnx.Module):
    """Attention and a gated two-layer network, each with a norm before it and a residual connection."""

    def __init__(self, config: ModernBertConfig, number: int, rngs: nnx.Rngs):
        self.config = config
        if number > 0:  # the embeddings are normalized already
            self.attention_norm = norm(config, config.hidden_size, rngs, bias=config.norm_bias)
        self.attention = Attention(config, config.global_layers[number], rngs)
        self.mlp_norm = norm(config, config.hidden_size, rngs, bias=config.norm_bias)
        inner, layer = config.intermediate_size, partial(dense, config, rngs=rngs, bias=config.mlp_bias)
        self.intermediate, self.output = layer(config.hidden_size, 2 * inner), layer(inner, config.hidden_size)

    def __call__(self, x: jax.Array, valid: jax.Array, distances: None, key: jax.Array | None) -> jax.Array:
        """(B, T, H) -> (B, T, H); see `Attention`."""
        keys, dtype = split_key(key, 3), activation_dtype(self.config.precision)
        normed = self.attention_norm(x) if hasattr(self, "attention_norm") else x
        attended = dropout(self.attention(normed, valid, keys[0]), self.config.attention_dropout, keys[1])
        x = saved(x + attended.astype(x.dtype))
        hidden = saved(linear(self.config, self.mlp_norm(x), self.intermediate, dtype=dtype))
        inner, gate = jnp.split(hidden.astype(x.dtype), 2, axis=-1)
        hidden = dropout(ACTIVATIONS[self.config.activation](inner) * gate, self.config.mlp_dropout, keys[2])
        return saved(x + linear(self.config, hidden.astype(dtype), self.output, dtype=dtype).astype(x.dtype))


class Pooler(nnx.Module):
    """A dense layer with an activation and a norm, on the first token's output or the mean of all."""

    def __init__(self, config: ModernBertConfig, rngs: nnx.Rngs):
        self.config = config
        self.dense = dense(config, config.hidden_size, config.hidden_size, rngs, bias=config.pooler_bias)
        self.norm = norm(config, config.hidden_size, rngs, bias=config.norm_bias)

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """(B, H) -> (B, H)."""
        return self.norm(ACTIVATIONS[self.config.pooler_activation](linear(self.config, x, self.dense)))
