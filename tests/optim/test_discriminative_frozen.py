"""Frozen groups: no backward pass, no state, no decay and no changed byte; FLOPs and bytes are counted."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxft.optim.discriminative import discriminative
from jaxft.optim.groups import decay_mask, label_params
from tests.optim.toy_model import LABELS, assert_same_bytes, gradients, parameters, relaxed, run


def mlp(frozen_layers=3, width=64):
    params = {f"layer_{i}": {"kernel": jnp.eye(width), "bias": jnp.zeros(width)} for i in range(4)}
    rates = {f"layer_{i}": None if i < frozen_layers else 0.1 for i in range(4)}
    labels = label_params(params, [(f"layer_{i}/.*", f"layer_{i}") for i in range(4)])

    def loss(params, x):
        for i in range(4):
            x = jnp.tanh(x @ params[f"layer_{i}"]["kernel"] + params[f"layer_{i}"]["bias"][None])
        return (x**2).mean()

    return params, labels, rates, loss


def flops(tx: Any, params: Any, loss: Any) -> float:
    def step(params, state, x):
        updates, state = tx.update(jax.grad(loss)(params, x), state, params)
        return optax.apply_updates(params, updates), state

    arguments = (params, tx.init(params), jnp.ones((256, 64)))
    cost: Any = jax.jit(step).lower(*arguments).compile().cost_analysis()
    return cost["flops"]


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_frozen_layers_cost_no_backward_pass(clip_norm):
    params, labels, rates, loss = mlp(frozen_layers=3)
    all_rates = dict.fromkeys(rates, 0.1)
    optimizer = optax.adamw(1.0, weight_decay=0.01, mask=decay_mask())
    part = flops(discriminative(optimizer, labels, rates, clip_norm=clip_norm), params, loss)
    whole = flops(discriminative(optimizer, labels, all_rates, clip_norm=clip_norm), params, loss)
    assert part / whole <= 0.5


def test_trap_clip_outside_partition_pays_for_frozen_layers():
    params, labels, rates, loss = mlp(frozen_layers=3)
    inner: Any = {g: optax.set_to_zero() if rate is None else optax.adam(rate) for g, rate in rates.items()}
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.partition(inner, labels))
    assert flops(relaxed(tx), params, loss) / flops(relaxed(optax.adam(0.1)), params, loss) > 0.9


def test_frozen_groups_hold_no_state():
    params, labels, rates, _ = mlp(frozen_layers=3)
    state: Any = discriminative(optax.adam(1.0), labels, rates).init(params)
    assert not jax.tree.leaves([state.inner.inner_states[f"layer_{i}"] for i in range(3)])
    moments, count = 2 * (64 * 64 + 64) * 4, 4
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state.inner)) == moments + count


def test_trap_frozen_weights_do_not_decay_and_keep_every_bit():
    odd = jnp.array([0.0, -0.0, 1e-40, -1e-40, jnp.inf, jnp.nan, 3.0, 1e38])
    params = {"body": odd, "half": odd.astype(jnp.bfloat16), "head": jnp.ones(2)}
    labels = {"body": "body", "half": "body", "head": "head"}
    grads = {"body": jnp.ones(8), "half": jnp.ones(8, jnp.bfloat16), "head": jnp.ones(2)}
    decaying = optax.chain(optax.freeze({"body": True, "half": True, "head": False}), optax.adamw(0.1))
    moved, _, _ = run(relaxed(decaying), params, grads, steps=3)
    assert float(moved["body"][6]) != 3.0
    tx = discriminative(optax.adamw(1.0), labels, {"body": None, "head": 0.1}, clip_norm=1.0)
    kept, _, _ = run(tx, params, grads, steps=3)
    assert_same_bytes((kept["body"], kept["half"]), (params["body"], params["half"]))
    assert (kept["head"] != params["head"]).all()


def test_everything_frozen_is_a_step_that_does_nothing():
    tx = discriminative(optax.adam(1.0), LABELS, {"body": None, "head": None}, clip_norm=1.0)
    params, state, _ = run(tx, parameters(), gradients(), steps=2)
    assert_same_bytes(params, parameters())
    assert float(state.grad_norm) == 0.0
