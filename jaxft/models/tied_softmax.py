"""Cross-entropy of a softmax tied to the embedding, computed block by block: the language model's loss.

A window of N tokens over V words has N x V logits, too many to hold at once. One pass over blocks of rows computes the
loss and, where one is needed, the gradient, so that no logits are stored or computed twice.

Axes: N tokens, H features of the embedding, V vocabulary, R rows of a block.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxft.models.options import Precision
from jaxft.models.products import matmul_nn, matmul_nt, matmul_tn, on_accelerator, operand


def tied_cross_entropy(
    hidden: jax.Array,
    embedding: jax.Array,
    bias: jax.Array,
    targets: jax.Array,
    rows: int | None = None,
    precision: Precision = "f32",
) -> jax.Array:
    """Mean negative log-likelihood in nats of `targets` under `softmax(hidden @ embedding.T + bias)`.

    Args:
        hidden: (N, H) float.
        embedding: (V, H), the weight that also embeds the inputs.
        bias: (V,).
        targets: (N,) int; negative targets are ignored.
        rows: rows of a block, of which all logits are held; affects memory and speed only. None takes what a fast
            product needs: 512 on a CPU and 4,096 elsewhere, which are 1 GB of logits over 60,000 words.
        precision: of the matrix products; see `jaxft.models.products`.

    Returns:
        A scalar: the mean over the other targets.

    Examples:
        >>> uniform = tied_cross_entropy(jnp.zeros((3, 2)), jnp.zeros((7, 2)), jnp.zeros(7), jnp.array([1, 2, -1]))
        >>> bool(jnp.isclose(uniform, jnp.log(7.0)))
        True

    References:
        Press & Wolf, Using the Output Embedding to Improve Language Models, EACL 2017.
    """
    if rows is None:
        rows = 4096 if on_accelerator() else 512
    return _cross_entropy(hidden, embedding, bias, targets, rows, precision)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _cross_entropy(
    hidden: jax.Array, embedding: jax.Array, bias: jax.Array, targets: jax.Array, rows: int, precision: Precision
) -> jax.Array:
    blocks, weights = _blocks(hidden, targets, rows)
    table = operand(embedding, precision)

    def add(total: jax.Array, block: tuple) -> tuple[jax.Array, None]:
        h, target, weight = block
        logits = matmul_nt(h, table, precision) + bias[None, :]  # (R, V)
        return total + _negative_log_likelihood(logits, target, weight), None

    return jax.lax.scan(add, jnp.zeros((), hidden.dtype), (*blocks, weights))[0]


def _blocks(hidden: jax.Array, targets: jax.Array, rows: int) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """Cuts the tokens into blocks, padded with tokens of weight 0; the weights (blocks, R) add up to 1."""
    tokens = hidden.shape[0]
    blocks = max(1, -(-tokens // rows))
    rows = -(-tokens // blocks)
    padding = blocks * rows - tokens
    hidden = jnp.pad(hidden, ((0, padding), (0, 0))).reshape(blocks, rows, -1)
    targets = jnp.pad(targets, (0, padding), constant_values=-1).reshape(blocks, rows)
    counts = (targets >= 0).astype(hidden.dtype)
    return (hidden, jnp.maximum(targets, 0)), counts / jnp.maximum(counts.sum(), 1)


def _negative_log_likelihood(logits: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    chosen = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    return jnp.sum(weights * (jax.nn.logsumexp(logits, axis=1) - chosen))


def _forward(
    hidden: jax.Array, embedding: jax.Array, bias: jax.Array, targets: jax.Array, rows: int, precision: Precision
) -> tuple[jax.Array, tuple]:
    blocks, weights = _blocks(hidden, targets, rows)
    table = operand(embedding, precision)

    def add(totals: tuple, block: tuple) -> tuple[tuple, jax.Array]:
        loss, d_table, d_bias = totals
        h, target, weight = block
        logits = matmul_nt(h, table, precision) + bias[None, :]  # (R, V)
        top = jnp.max(logits, axis=1, keepdims=True)
        exponentials = jnp.exp(logits - top)
        normalizer = jnp.sum(exponentials, axis=1, keepdims=True)
        chosen = jnp.take_along_axis(logits, target[:, None], axis=1)
        loss = loss + jnp.sum(weight[:, None] * (jnp.log(normalizer) + top - chosen))
        # This is the gradient of each row times its normalizer. Normalizing the narrow operand or result of each
        # product saves a pass over all the logits.
        d_logits = exponentials.at[jnp.arange(len(target)), target].add(-normalizer[:, 0], unique_indices=True)
        d_logits_operand, scale = operand(d_logits, precision), weight[:, None] / normalizer
        d_table = d_table + matmul_tn(h * scale, d_logits_operand, precision)  # (H, V)
        d_bias = d_bias + scale[:, 0] @ d_logits
        return (loss, d_table, d_bias), matmul_nn(d_logits_operand, table, precision) * scale

    zeros = (jnp.zeros((), hidden.dtype), jnp.zeros_like(embedding.T), jnp.zeros_like(bias))
    (loss, d_table, d_bias), d_hidden = jax.lax.scan(add, zeros, (*blocks, weights))
    return loss, (d_hidden.reshape(-1, hidden.shape[1])[: hidden.shape[0]], d_table.T, d_bias)


def _backward(rows: int, precision: Precision, gradients: tuple, cotangent: jax.Array) -> tuple:
    del rows, precision
    return (*jax.tree.map(lambda g: g * cotangent, gradients), None)


_cross_entropy.defvjp(_forward, _backward)
