"""Concat pooling of the outputs of documents, with a derivative that reads them twice and writes their gradient once.

Axes: B batch, T time, E encoder features.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018, section 3.3.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def concat_pool(outputs: jax.Array, valid: jax.Array) -> jax.Array:
    """The last, the largest and the mean output of each document, concatenated.

    Args:
        outputs: (T, B, E) float, with padding on the left, so that the last step is the last word of every document.
        valid: (T, B) bool, False on padding; every document has at least one word.

    Returns:
        (B, 3E).

    Examples:
        >>> outputs = jnp.array([9.0, 1.0, 3.0]).reshape(3, 1, 1)
        >>> concat_pool(outputs, jnp.array([[False], [True], [True]])).tolist()
        [[3.0, 3.0, 2.0]]
    """
    return concatenated(*pools(outputs, valid), valid.sum(axis=0))


def pools(outputs: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The last, the largest and the sum of the outputs, (B, E) each; see `concat_pool`."""
    return outputs[-1], *_largest_and_total(outputs, valid)


def pools_with(
    largest: jax.Array, total: jax.Array, output: jax.Array, words: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The largest and the sum of the outputs of some steps and of one more.

    Args:
        largest, total, output: (B, E) or (E, B) float.
        words: (B, 1) or (1, B) bool, False where the step is padding.
    """
    largest = jnp.maximum(largest, jnp.where(words, output, jnp.full_like(output, -jnp.inf)))
    return largest, total + jnp.where(words, output, jnp.zeros_like(output))


def concatenated(last: jax.Array, largest: jax.Array, total: jax.Array, words: jax.Array) -> jax.Array:
    """What `concat_pool` returns, of what `pools` returns and the number of words (B,)."""
    return jnp.concatenate([last, largest, total / words[:, None].astype(total.dtype)], axis=1)


@jax.custom_vjp
def _largest_and_total(outputs: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    lowest = jnp.full(outputs.shape[1:], -jnp.inf, outputs.dtype)

    def add(sofar: tuple[jax.Array, jax.Array], output: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        return pools_with(*sofar, output, valid[:, None])

    def at_once(outputs: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        words = valid[:, :, None]
        largest = jnp.where(words, outputs, lowest[None]).max(axis=0)
        return largest, jnp.where(words, outputs, jnp.zeros_like(outputs)).sum(axis=0)

    return _over_time(add, (lowest, jnp.zeros_like(lowest)), at_once, outputs, valid)


def _forward(outputs: jax.Array, valid: jax.Array) -> tuple:
    largest, total = _largest_and_total(outputs, valid)
    return (largest, total), (outputs, valid, largest)


def _backward(residuals: tuple, gradients: tuple[jax.Array, jax.Array]) -> tuple:
    outputs, valid, largest = residuals
    d_largest, d_total = gradients

    def add(ties: jax.Array, output: jax.Array, valid: jax.Array) -> jax.Array:
        return ties + (valid[:, None] & (output == largest)).astype(ties.dtype)

    def at_once(outputs: jax.Array, valid: jax.Array) -> jax.Array:
        return (valid[:, :, None] & (outputs == largest[None])).astype(largest.dtype).sum(axis=0)

    share = d_largest / _over_time(add, jnp.zeros_like(largest), at_once, outputs, valid)
    zero = jnp.zeros_like(outputs)
    d_words = d_total[None] + jnp.where(outputs == largest[None], share[None], zero)
    return jnp.where(valid[:, :, None], d_words, zero), None


_largest_and_total.defvjp(_forward, _backward)


def _over_time(add: Callable[..., Any], start: Any, at_once: Callable[..., Any], *arrays: jax.Array) -> Any:
    """`at_once(*arrays)`; on a CPU, where XLA's sums over the first axis take 20 times as long, by a loop of `add`."""

    def loop(*arrays: jax.Array) -> Any:
        return jax.lax.scan(lambda sofar, step: (add(sofar, *step), None), start, arrays)[0]

    return jax.lax.platform_dependent(*arrays, cpu=loop, default=at_once)
