"""Discriminative fine-tuning: closed-form updates, one clip over all groups, and what is refused."""

import os
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.optim.adam import bert_adamw
from jaxft.optim.discriminative import DiscriminativeState, applied_metrics, discriminative, rescale
from jaxft.optim.groups import decay_mask, label_params
from jaxft.optim.schedules import slanted_triangular_schedule, swa_schedule
from tests.optim.toy_model import LABELS, first_update, gradients, parameters, relaxed, run

# --- learning rates ---


def test_sgd_update_is_rate_times_schedule_times_gradient():
    schedule = slanted_triangular_schedule(1.0, 10, cut_frac=0.5)
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.2}, schedule)
    params, state, metrics = run(tx, parameters(), gradients(), steps=4)
    shape = np.asarray(jax.vmap(schedule)(jnp.arange(4)))
    total = shape.sum()
    np.testing.assert_allclose(
        params["body"]["kernel"], [[1.0 - 0.1 * total * 0.3, -2.0 - 0.1 * total * 0.1]], rtol=1e-6
    )
    np.testing.assert_allclose(params["head"]["kernel"], [3.0 - 0.2 * total * 0.4], rtol=1e-6)
    np.testing.assert_allclose(metrics["lr/body"], 0.1 * shape, rtol=1e-6)
    np.testing.assert_allclose(metrics["lr/head"], 2 * metrics["lr/body"], rtol=1e-6)
    assert int(state.step) == 4


def test_each_group_equals_plain_adam_with_its_own_rate():
    rates = {"body": 0.01, "head": 0.1}
    params, _, _ = run(discriminative(optax.adam(1.0, b1=0.7), LABELS, rates), parameters(), gradients(), steps=5)
    for group, rate in rates.items():
        plain, _, _ = run(relaxed(optax.adam(rate, b1=0.7)), parameters()[group], gradients()[group], steps=5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params[group], plain)


def test_scaling_gradients_would_not_be_discriminative_for_adam():
    small, _, _ = run(relaxed(optax.adam(0.1)), parameters(), gradients(scale=1e-3))
    whole, _, _ = run(relaxed(optax.adam(0.1)), parameters(), gradients())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), small, whole)
    ours, _, _ = run(discriminative(optax.adam(1.0), LABELS, {"body": 1e-4, "head": 0.1}), parameters(), gradients())
    np.testing.assert_allclose(ours["body"]["bias"], [0.5 + 1e-4], rtol=1e-5)


def test_each_group_may_have_its_own_optimizer_and_schedule():
    tx = discriminative(
        {"body": optax.sgd(1.0), "head": optax.sign_sgd(1.0)},
        LABELS,
        {"body": 1e-5, "head": 1e-4},
        # One absolute averaging rate for every group, as the torch recipes have it.
        {
            "body": swa_schedule(optax.constant_schedule(1.0), 2, 2e-6 / 1e-5),
            "head": swa_schedule(optax.constant_schedule(1.0), 2, 2e-6 / 1e-4),
        },
    )
    _, _, metrics = run(tx, parameters(), gradients(), steps=3)
    np.testing.assert_allclose(metrics["lr/body"], [1e-5, 1e-5, 2e-6], rtol=1e-5)
    np.testing.assert_allclose(metrics["lr/head"], [1e-4, 1e-4, 2e-6], rtol=1e-5)


def test_decoupled_decay_moves_weights_towards_zero_and_spares_biases():
    tx = discriminative(optax.adamw(1.0, weight_decay=0.5, mask=decay_mask()), LABELS, {"body": 0.1, "head": 0.2})
    params, _, _ = run(tx, parameters(), jax.tree.map(jnp.zeros_like, gradients()))
    np.testing.assert_allclose(params["body"]["kernel"], [[0.95, -1.9]], rtol=1e-6)
    np.testing.assert_allclose(params["body"]["bias"], [0.5])
    np.testing.assert_allclose(params["head"]["kernel"], [2.7], rtol=1e-6)


def test_each_group_may_decay_on_its_own():
    decays = {"body": 0.5, "head": 0.25}
    optimizers = {group: optax.adamw(1.0, weight_decay=decay, mask=decay_mask()) for group, decay in decays.items()}
    tx = discriminative(optimizers, LABELS, {"body": 0.1, "head": 0.2})
    params, _, _ = run(tx, parameters(), jax.tree.map(jnp.zeros_like, gradients()))
    np.testing.assert_allclose(params["body"]["kernel"], [[0.95, -1.9]], rtol=1e-6)  # 1 - 0.1 * 0.5
    np.testing.assert_allclose(params["body"]["bias"], [0.5])
    np.testing.assert_allclose(params["head"]["kernel"], [2.85], rtol=1e-6)  # 1 - 0.2 * 0.25


def test_grouped_rates_of_the_article():
    """Three blocks of layers and the head, each with its rate, as a mapping from group to rate."""
    params = {"embeddings": jnp.ones(2), "layer": [jnp.ones(2) for _ in range(12)], "head": jnp.ones(2)}
    rules = [("embeddings|layer/[0-3]", "low"), ("layer/[4-7]", "middle"), ("layer/.*", "high"), ("head", "head")]
    rates = {"low": 1e-6, "middle": 1.75e-6, "high": 3.5e-6, "head": 3.6e-6}
    labels = label_params(params, rules)
    tx = discriminative(optax.sgd(1.0), labels, rates, lambda step: 0.5)
    updates, state = first_update(tx, jax.tree.map(jnp.ones_like, params), params)
    blocks = ["low"] * 4 + ["middle"] * 4 + ["high"] * 4
    assert labels == {"embeddings": "low", "layer": blocks, "head": "head"}
    expected = [-0.5 * rates[group] * np.ones(2) for group in jax.tree.leaves(labels)]
    np.testing.assert_allclose(jax.tree.leaves(updates), expected, rtol=1e-6)
    assert {name: round(float(rate), 9) for name, rate in state.rates.items()} == {
        group: round(0.5 * rate, 9) for group, rate in rates.items()
    }


def test_rates_of_a_skipped_step_are_zero():
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": None, "head": 0.2}, lambda step: 1.0)
    _, skipped = first_update(tx, gradients(jnp.nan), parameters())
    assert {name: float(rate) for name, rate in skipped.rates.items()} == {"body": 0.0, "head": 0.0}
    after: Any = tx.update(gradients(), skipped, parameters())[1]
    np.testing.assert_allclose(after.rates["head"], 0.2)
    np.testing.assert_allclose(after.scale, 1.0)


def test_schedules_that_strict_promotion_refuses_are_taken():
    cycle = optax.cosine_onecycle_schedule(100, 1.0, div_factor=4.0)
    _, state = first_update(
        discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.2}, cycle), gradients(), parameters()
    )
    np.testing.assert_allclose([state.rates["body"], state.rates["head"]], [0.025, 0.05], rtol=1e-6)
    updates, _ = first_update(bert_adamw(cycle, weight_decay=0.0), gradients(), parameters())
    np.testing.assert_allclose(updates["head"]["kernel"], [-0.25 * 0.1 / 0.001**0.5], rtol=1e-4)


def test_float64_parameters_keep_their_digits():
    with jax.enable_x64(True):
        params = {"w": jnp.array([1.0 + 2.0**-40], jnp.float64)}
        tx = discriminative(optax.sgd(1.0), {"w": "all"}, {"all": 1.0}, clip_norm=1e3)
        updates, _ = first_update(tx, params, params)
        assert updates["w"].dtype == jnp.float64
        assert float(updates["w"][0]) == -(1.0 + 2.0**-40)


def test_rescale_changes_the_rates_and_nothing_else():
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.2})
    _, once = first_update(tx, gradients(), parameters())
    _, scaled = first_update(
        optax.GradientTransformation(lambda params: rescale((tx.init(params),), 0.5)[0], tx.update),
        gradients(),
        parameters(),
    )
    np.testing.assert_allclose(scaled.rates["head"], 0.5 * once.rates["head"])
    with pytest.raises(ValueError, match="this optimizer state has no DiscriminativeState"):
        rescale(optax.sgd(0.1).init(parameters()), 0.5)


def test_metrics_are_found_inside_other_transforms_and_absent_elsewhere():
    tx = optax.chain(optax.identity(), discriminative(optax.adam(1.0), LABELS, {"body": 0.1, "head": 0.2}))
    assert set(applied_metrics(tx.init(parameters()))) == {
        "lr/body", "lr/head", "grad_norm", "skipped", "skipped_in_a_row",
    }  # fmt: skip
    assert applied_metrics(optax.adam(0.1).init(parameters())) == {}


# --- clipping ---


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-3, 1e3), clip_norm=st.floats(0.01, 10.0))
def test_one_clip_over_all_groups(scale, clip_norm):
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": 1.0, "head": 1.0}, clip_norm=clip_norm)
    grads = gradients(scale)
    updates, state = first_update(tx, grads, parameters())
    norm = float(optax.tree.norm(grads))
    np.testing.assert_allclose(float(optax.tree.norm(updates)), min(norm, clip_norm), rtol=1e-5)
    np.testing.assert_allclose(state.grad_norm, norm, rtol=1e-5)


def test_trap_frozen_gradients_have_no_share_in_the_clip():
    params = {"body": jnp.zeros(1), "head": jnp.zeros(1)}
    grads = {"body": jnp.array([30.0]), "head": jnp.array([0.5])}
    labels = {"body": "body", "head": "head"}
    outside = optax.chain(
        optax.clip_by_global_norm(1.0), optax.partition({"body": optax.set_to_zero(), "head": optax.sgd(1.0)}, labels)
    )
    updates, _ = first_update(outside, grads, params)
    np.testing.assert_allclose(updates["head"], [-0.0167], atol=1e-4)
    ours = discriminative(optax.sgd(1.0), labels, {"body": None, "head": 1.0}, clip_norm=1.0)
    updates, state = first_update(ours, grads, params)
    np.testing.assert_allclose(updates["head"], [-0.5])
    np.testing.assert_allclose(state.grad_norm, 0.5)


# --- programs and pytrees ---


@pytest.mark.slow
def test_program_is_the_same_in_every_process():
    code = (
        "import jax, optax, jaxft; p = {k: jax.numpy.ones(2) for k in 'abcdef'};"
        "tx = jaxft.discriminative(optax.adam(1.0), {k: k for k in p}, dict.fromkeys(p, 0.1), clip_norm=1.0);"
        "print(jax.jit(tx.update).lower(p, tx.init(p), p).as_text())"
    )
    programs = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(programs) == 1


def test_works_on_nnx_state_and_on_a_callable_equinox_module():
    state = nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))[1]
    module = eqx.filter(eqx.nn.Linear(2, 3, key=jax.random.key(0)), eqx.is_array)
    for params in (state, module):
        labels = label_params(params, [(".*bias", "bias"), (".*", "kernel")])
        tx = discriminative(optax.adam(1.0), labels, {"bias": None, "kernel": 0.1})
        updates, _ = first_update(tx, params, params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)


# --- refusals ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1}), "rates miss the groups head"),
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.1, "hed": 0.1}), "no parameter: hed"),
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": -0.1, "head": 0.1}), "rate of group 'body'"),
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.1}, clip_norm=0.0), "clip_norm"),
        (lambda: discriminative({"body": optax.sgd(1.0)}, LABELS, {"body": 0.1, "head": 0.1}), "optimizers miss"),
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.1}, {"head": abs}), "schedules miss"),
        (
            lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.1}).init({"body": jnp.ones(1)}),
            "differ in structure",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_optimizers_and_schedules_of_frozen_groups_may_be_left_out():
    tx = discriminative({"head": optax.adam(1.0)}, LABELS, {"body": None, "head": 0.1}, {"head": lambda step: 1.0})
    assert isinstance(tx.init(parameters()), DiscriminativeState)
