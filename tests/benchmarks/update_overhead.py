"""Times a step of `discriminative(optax.adam)`, with 14 groups and the shapes of BERT-base, against `optax.adam`.

Run: python tests/benchmarks/update_overhead.py [rounds]

Three pairs are compared: `discriminative` without its guard against `optax.adam`; with the guard (the default), which
reads the gradients once more and makes the update in a branch of `lax.cond`, against `optax.adam`; and with guard and
clip against `optax.adam` after `optax.clip_by_global_norm`. The process is set up as that of a job, in which freed
memory stays with the process; elsewhere the kernel clears the memory of a step's updates at every step.

Two steps are timed: `update` and `apply_updates` with parameters and state donated, as in a training loop, and
`update` alone, with nothing donated. Both sides of a pair are jitted and take turns, so that other load on the machine
affects both. Each pair is set up `SETUPS` times, because where its arrays lie in memory makes a tenth of a step. The
script prints the shortest times and the median ratio of each set-up. The exit status is 1 if, in the median of the
set-ups, the donated step of the first or the second pair costs more than `LIMIT` times that of `optax.adam`.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxft
from jaxft.training.process import set_up

WIDTH, LAYERS, VOCABULARY = 768, 12, 30_522
SETUPS = 3
LIMIT = 1.6
"""the highest ratio of the time of a donated step to that of `optax.adam`"""


def bert_base() -> Any:
    """A tree with the shapes of BERT-base, about 110 million parameters."""

    def dense(rows: int, columns: int) -> Any:
        return {"kernel": jnp.full((rows, columns), 0.02), "bias": jnp.zeros(columns)}

    def norm() -> Any:
        return {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)}

    def layer() -> Any:
        attention = {name: dense(WIDTH, WIDTH) for name in ("query", "key", "value", "output")}
        return {
            "attention": attention | {"LayerNorm": norm()},
            "mlp": {"up": dense(WIDTH, 4 * WIDTH), "down": dense(4 * WIDTH, WIDTH), "LayerNorm": norm()},
        }

    embeddings = {"word": jnp.full((VOCABULARY, WIDTH), 0.02), "position": jnp.zeros((512, WIDTH)), "LayerNorm": norm()}
    return {"embeddings": embeddings, "head": dense(WIDTH, 2)} | {f"layer_{i}": layer() for i in range(LAYERS)}


def timer(tx: optax.GradientTransformation, params: Any, grads: Any, donated: bool) -> Callable[[], float]:
    """Makes a function that takes one donated step, or one update without donation, and returns its seconds."""

    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def update(params: Any, state: Any, grads: Any) -> Any:
        return tx.update(grads, state, params)

    jitted: Any = jax.jit(step, donate_argnums=(0, 1)) if donated else jax.jit(update)
    params = jax.tree.map(jnp.copy, params) if donated else params
    state = tx.init(params)

    def once() -> float:
        nonlocal params, state
        start = time.perf_counter()
        result, state = jax.block_until_ready(jitted(params, state, grads))
        seconds = time.perf_counter() - start
        params = result if donated else params
        return seconds

    once()  # compiles
    once()
    return once


def ratio(pair: tuple[optax.GradientTransformation, ...], params: Any, grads: Any, donated: bool, rounds: int) -> float:
    """The median ratio of the time of the second optimizer to that of the first; prints both times."""
    timers = [timer(tx, params, grads, donated) for tx in pair]
    turns = [(0, 1) if turn % 2 else (1, 0) for turn in range(rounds)]
    seconds = np.array([[s for _, s in sorted((i, timers[i]()) for i in order)] for order in turns])  # (rounds, 2)
    optax_ms, discriminative_ms = seconds.min(0) * 1e3
    median = float(np.median(seconds[:, 1] / seconds[:, 0]))
    print(f"optax {optax_ms:6.0f} ms   discriminative {discriminative_ms:6.0f} ms   ratio {median:.3f}", flush=True)
    return median


def main(rounds: int = 10) -> int:
    """Prints times and ratios; returns 1 if a donated step costs more than `LIMIT`, else 0."""
    set_up()
    params = bert_base()
    grads = jax.tree.map(lambda p: jnp.full_like(p, 1e-3), params)
    groups = ["embeddings", *(f"layer_{i}" for i in range(LAYERS)), "head"]
    labels = jaxft.label_params(params, [(f"{group}/.*", group) for group in groups])
    rates: dict[str, float | None] = dict(jaxft.discriminative_rates(groups, 1e-3))
    schedule = jaxft.slanted_triangular_schedule(1.0, 1000)
    discriminative = partial(jaxft.discriminative, optax.adam(1.0), labels, rates, schedule)
    adam, clipped_adam = optax.adam(1e-3), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    pairs = {
        "adam": (adam, discriminative(skip_not_finite=False)),
        "guard and adam": (adam, discriminative()),
        "guard, clip and adam": (clipped_adam, discriminative(clip_norm=1.0)),
    }
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(f"{size / 1e6:.1f} M parameters, {len(groups)} groups, {jax.devices()[0].device_kind}, {rounds} rounds")
    ratios = {}
    for name, pair in pairs.items():
        for donated in (True, False):
            setups = []
            for _ in range(SETUPS):
                print(f"{name:20s} {'donated step' if donated else 'update':13s}", end=" ")
                setups.append(ratio(pair, params, grads, donated, rounds))
            ratios[name, donated] = float(np.median(setups))
    return int(max(ratios["adam", True], ratios["guard and adam", True]) > LIMIT)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
