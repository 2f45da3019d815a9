"""Runs the layers of an encoder one after another, in loops, which compile one layer instead of all of them."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.models.encoder_layers import recomputed

LayerParts = tuple[Any, Any]
"""what a layer is made of, without its parameters, and its parameters"""


def run_layers(
    layers: Sequence[LayerParts],
    call: Callable[[Any, Any, jax.Array, jax.Array | None], jax.Array],
    x: jax.Array,
    keys: Sequence[Any],
    remat: bool = False,
) -> list[jax.Array]:
    """The outputs of layers that are applied one after another to `x`.

    Without keys, as in evaluation, loops are unrolled: that compiles as fast at the sizes of real encoders, and does
    not copy the weights into a stack at every call, which takes longer than to read a single text.

    Args:
        layers: may hold the same parameters several times, one after another, which are not copied then.
        call: one layer, `(graphdef, params, x, key) -> x`.
        x: input of the first layer.
        keys: one for each layer, or None for each.
        remat: whether the backward pass computes whole layers again; see `recomputed`.
    """
    uses = Counter(id(params) for _, params in layers)
    kinds = [(graphdef, id(params) if uses[id(params)] > 1 else None) for graphdef, params in layers]
    states: list[jax.Array] = []
    start = 0
    for length, repeats in loops(kinds):
        end = start + length * repeats
        x, outputs = _loop(layers[start:end], length, partial(recomputed, whole=remat), call, x, keys[start:end])
        states, start = [*states, *outputs], end
    # The last output comes from the carry, so that XLA drops `outputs` where nobody reads the others.
    return [*states[:-1], x] if states else []


def loops(kinds: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Splits layers into loops: the number of layers in each loop's body, and how often it runs.

    Args:
        kinds: of the layers, those of one kind being equal.

    Examples:
        >>> loops("aaaa"), loops("abbcbbcbb")
        ([(1, 4)], [(1, 1), (3, 2), (1, 2)])
    """
    result: list[tuple[int, int]] = []
    start = 0
    while start < len(kinds):
        rest = len(kinds) - start
        candidates = [(length, _repeats(kinds[start:], length)) for length in range(1, rest // 2 + 1)]
        looping = [one for one in candidates if one[1] > 1]
        best = max(looping, key=lambda one: one[0] * one[1], default=(1, 1))
        result.append(best)
        start += best[0] * best[1]
    return result


def _repeats(kinds: Sequence[Hashable], length: int) -> int:
    """How often the first `length` of the kinds come, one after another, from the start."""
    count = 1
    while list(kinds[count * length : (count + 1) * length]) == list(kinds[:length]):
        count += 1
    return count


def _loop(
    layers: Sequence[LayerParts],
    length: int,
    remat: Callable[..., Any],
    call: Callable[..., jax.Array],
    x: jax.Array,
    keys: Sequence[Any],
) -> tuple[jax.Array, list[jax.Array]]:
    """The last output and all outputs of layers whose kinds repeat after each `length` of them."""
    bodies = [remat(partial(call, graphdef)) for graphdef, _ in layers[:length]]
    shared = length < len(layers) and layers[0][1] is layers[length][1]
    stacked = None if shared else [_stacked([params for _, params in layers[i::length]]) for i in range(length)]
    stacked_keys = None if keys[0] is None else [jnp.stack(keys[i::length]) for i in range(length)]

    def step(x: jax.Array, parts: tuple[Any, Any]) -> tuple[jax.Array, list[jax.Array]]:
        outputs = []
        for i, body in enumerate(bodies):
            params, key = (None if part is None else part[i] for part in parts)
            x = body(layers[i][1] if shared else params, x, key)
            outputs.append(x)
        return x, outputs

    repeats = len(layers) // length
    x, outputs = jax.lax.scan(step, x, (stacked, stacked_keys), length=repeats, unroll=stacked_keys is None)
    return x, [output[i] for i in range(repeats) for output in outputs]


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
