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
from jaxft.models.options import Precision
from jaxft.models.products import batch_matmul, operand, transposed


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
    precision: Precision = "f32",
    p: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Attention with dropout of its weights, of one text or a part of it.

    Args:
        query: (Q, N, D) float32 or bfloat16, already divided by what the scores are divided by.
        keys, values: (K, N, D), of the same dtype.
        mask: (Q, K) or (1, K) bool, False where nothing is attended to; a row without any True weighs all keys alike.
        bias: (N, Q, K) float32, added to the scores.
        precision: "bf16" rounds the operands of all products, as in `matmul`.
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
    return _attention(query, keys, values, mask, bias, key, precision, p)


def heads_first(x: jax.Array, precision: Precision) -> jax.Array:
    """(T, N, D) -> (N, T, D) in the dtype of a product's operands."""
    return operand(x, precision).swapaxes(0, 1)


def _forward(
    query: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array,
    bias: jax.Array | None,
    key: jax.Array | None,
    precision: Precision,
    p: float,
) -> tuple[jax.Array, tuple]:
    q, k, v = (heads_first(x, precision) for x in (query, keys, values))
    scores = _scores(q, k, mask, bias)
    largest = saved(scores.max(axis=-1))
    exponentials = jnp.exp(scores - largest[:, :, None])
    total = saved(exponentials.sum(axis=-1))
    dropped = dropout(exponentials, p, key, has_rows=False)
    attended = batch_matmul(dropped.astype(v.dtype), v) / total[:, :, None]
    attended = saved(attended.swapaxes(0, 1).astype(query.dtype))
    return attended, (query, keys, values, mask, bias, key, largest, total, attended)


def _backward(precision: Precision, p: float, residuals: tuple, d_attended: jax.Array) -> tuple:
    query, keys, values, mask, bias, key, largest, total, attended = residuals
    # The sum over keys of weights * d_weights, from arrays with D features where those have K keys; (N, Q).
    inner = (d_attended.astype(jnp.float32) * attended.astype(jnp.float32)).sum(axis=-1).T
    q, k, v, d_result = (heads_first(x, precision) for x in (query, keys, values, d_attended))
    weights = jnp.exp(_scores(q, k, mask, bias) - largest[:, :, None]) / total[:, :, None]
    d_weights = dropout(batch_matmul(d_result, transposed(v)), p, key, has_rows=False)
    d_scores = jnp.where(mask[None], weights * (d_weights - inner[:, :, None]), jnp.zeros_like(weights))
    dropped, rounded = dropout(weights, p, key, has_rows=False).astype(q.dtype), d_scores.astype(q.dtype)
    d_query = batch_matmul(rounded, k).swapaxes(0, 1)
    d_keys, d_values = (
        batch_matmul(transposed(x), y).transpose(2, 0, 1) for x, y in ((q, rounded), (d_result, dropped))
    )
    gradients = (part.astype(query.dtype) for part in (d_query, d_keys, d_values))
    return *gradients, None, None if bias is None else d_scores, None


_attention = jax.custom_vjp(lambda *arguments: _forward(*arguments)[0], nondiff_argnums=(6, 7))
_attention.defvjp(_forward, _backward)


def _scores(query: jax.Array, keys: jax.Array, mask: jax.Array, bias: jax.Array | None) -> jax.Array:
    """(N, Q, D) and (N, K, D) -> (N, Q, K) float32, the lowest finite number where nothing is attended to."""
    scores = batch_matmul(query, transposed(keys))
    scores = scores if bias is None else scores + bias
    return jnp.where(mask[None], scores, jnp.finfo(scores.dtype).min)
