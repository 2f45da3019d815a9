"""Attention of encoders, with a hand-written derivative, and its computation text after text.

JAX's derivative of a softmax keeps the weights, or seeks the largest score of every row and sums again. This one saves
both numbers of every row, as FlashAttention saves one: where a row is all padding, they do not fit into one float32.
The forward pass divides the result by the sums, which is smaller than the weights.

Axes: B batch, T time, H hidden, N heads, D features of a head, Q queries, K keys.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxft.base.sharding import own_rows, shards
from jaxft.models.dropout import dropout
from jaxft.models.encoder_layers import save_only_saved, saved
from jaxft.models.products import float32_einsum, stored, transposed


def split_heads(projected: jax.Array, heads: int) -> list[jax.Array]:
    """(..., 3H) -> query, key and value of each head, (..., N, D)."""
    return [part.reshape(*part.shape[:-1], heads, -1) for part in jnp.split(projected, 3, axis=-1)]


def by_text(
    attend: Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array],
    projected: jax.Array,
    valid: jax.Array,
    key: jax.Array | None,
) -> jax.Array:
    """Attention of each text alone: (B, T, 3H) and (B, T) -> (B, T, N, D).

    A CPU computes text after text, so that the attention weights of one fit its caches. Those of all texts would be
    most of a layer's memory, so the backward pass computes them again.

    Args:
        attend: the attention of one text, (T, 3H), (T,) and a key -> (T, N, D).
        projected: queries, keys and values.
        valid: which tokens are none of padding.
        key: for the dropout; None for none.
    """

    @partial(jax.checkpoint, policy=save_only_saved)
    def one(text: tuple[jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        return attend(*text)

    keys = None if key is None else own_rows(jax.random.split(key, len(projected) * shards()))
    texts = (projected, valid, keys)
    return jax.lax.platform_dependent(texts, cpu=partial(jax.lax.map, one), default=jax.vmap(one))


def attention(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array,
    bias: jax.Array | None = None,
    *,
    p: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Attention with dropout of its weights, of one text or a part of it.

    Args:
        query: (Q, N, D) float32 or bfloat16, already divided by what the scores are divided by.
        keys, values: (K, N, D), of the same dtype.
        mask: (Q, K) or (1, K) bool, False where nothing is attended to; a row without any True weighs all keys alike.
        bias: (N, Q, K) float32, added to the scores.
        p: probability of dropping a weight.
        key: for the dropout; None for none.

    Returns:
        (Q, N, D) in the dtype of `query`.

    Examples:
        >>> query, keys = jnp.zeros((1, 1, 2)), jnp.zeros((3, 1, 2))
        >>> values = jnp.array([[[1.0, 2.0]], [[3.0, 4.0]], [[9.0, 9.0]]])
        >>> attention(query, keys, values, jnp.array([[True, True, False]])).tolist()
        [[[2.0, 3.0]]]

    References:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017, section 3.2; for the derivative Dao et al.,
        FlashAttention, NeurIPS 2022, appendix B.
    """
    return _attention(query, keys, values, mask, bias, key, p)


def _forward(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array,
    bias: jax.Array | None,
    key: jax.Array | None,
    p: float,
) -> tuple[jax.Array, tuple]:
    scores = _scores(_heads_first(query), _heads_first(keys), mask, bias)
    largest = saved(scores.max(axis=-1))
    exponentials = jnp.exp(scores - largest[:, :, None])
    total = saved(exponentials.sum(axis=-1))
    dropped = dropout(exponentials, p, key, has_rows=False).astype(values.dtype)
    attended = float32_einsum("nqk,nkd->nqd", dropped, _heads_first(values)) / total[:, :, None]
    attended = saved(attended.swapaxes(0, 1).astype(values.dtype))
    return attended, (query, keys, values, mask, bias, key, largest, total, attended)


def _backward(p: float, residuals: tuple, d_attended: jax.Array) -> tuple:
    query, keys, values, mask, bias, key, largest, total, attended = residuals
    # The sum over keys of weights * d_weights, from arrays with D features where those have K keys; (N, Q).
    inner = (d_attended.astype(jnp.float32) * attended.astype(jnp.float32)).sum(axis=-1).T
    query, keys, values, d_attended = (_heads_first(x) for x in (query, keys, values, d_attended))
    weights = jnp.exp(_scores(query, keys, mask, bias) - largest[:, :, None]) / total[:, :, None]
    d_weights = dropout(float32_einsum("nqd,ndk->nqk", d_attended, transposed(values)), p, key, has_rows=False)
    d_scores = jnp.where(mask[None], weights * (d_weights - inner[:, :, None]), jnp.zeros_like(weights))
    dropped = stored(dropout(weights, p, key, has_rows=False).astype(query.dtype))
    rounded = stored(d_scores.astype(query.dtype))  # once for the two products that read it
    d_query = float32_einsum("nqk,nkd->nqd", rounded, keys)
    d_keys, d_values = (
        float32_einsum("ndq,nqk->ndk", transposed(x), y) for x, y in ((query, rounded), (d_attended, dropped))
    )
    parts = (d_query.swapaxes(0, 1), d_keys.transpose(2, 0, 1), d_values.transpose(2, 0, 1))
    return *(part.astype(query.dtype) for part in parts), None, None if bias is None else d_scores, None


_attention = jax.custom_vjp(lambda *arguments: _forward(*arguments)[0], nondiff_argnums=(6,))
_attention.defvjp(_forward, _backward)


def _scores(query: jax.Array, keys: jax.Array, mask: jax.Array, bias: jax.Array | None) -> jax.Array:
    """(N, Q, D) and (N, K, D) -> (N, Q, K) float32, the lowest finite number where nothing is attended to."""
    scores = float32_einsum("nqd,ndk->nqk", query, transposed(keys))
    scores = scores if bias is None else scores + bias
    return jnp.where(mask[None], scores, jnp.finfo(scores.dtype).min)


def _heads_first(x: jax.Array) -> jax.Array:
    """(T, N, D) -> (N, T, D)."""
    return x.swapaxes(0, 1)
