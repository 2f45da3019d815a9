"""Averages: closed forms, parity with torch, and the promises about copies, dtypes and donation."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.optim.averaging import Average, ema, nt_asgd, swa

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "averages.json").read_text())
WALK = jnp.array(GOLDEN["walk"], jnp.float32)  # (steps, 4)
AVERAGES = {"ema": ema(0.9), "swa": swa(3, every=2), "nt_asgd": nt_asgd(2)}


def follow(average: Average, walk: jax.Array, state: Any = None) -> np.ndarray:
    """The average after each step of the walk."""
    state = average.init({"w": jnp.zeros_like(walk[0])}) if state is None else state
    values = []
    for step, params in enumerate(walk):
        state = average.update(state, {"w": params}, step)
        values.append(average.value(state)["w"])
    return np.stack(values)


@settings(max_examples=20, deadline=None)
@given(decay=st.floats(0.0, 0.9999), seed=st.integers(0, 99))
def test_ema_is_the_weighted_mean_without_the_start(decay, seed):
    walk = np.random.default_rng(seed).normal(size=(30, 2))
    weights = decay ** np.arange(29, -1, -1.0)
    expected = (weights[:, None] * walk).sum(0) / weights.sum()
    ours = follow(ema(decay), jnp.array(walk, jnp.float32))
    np.testing.assert_allclose(ours[-1], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours[0], walk[0], rtol=1e-6)


@pytest.mark.parametrize("case", GOLDEN["swa"], ids=lambda case: f"from-{case['start_step']}-every-{case['every']}")
def test_swa_equals_torch_averaged_model(case):
    ours = follow(swa(case["start_step"], case["every"]), WALK)
    np.testing.assert_allclose(ours, case["values"], rtol=1e-6, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 29), every=st.integers(1, 40))
def test_swa_is_the_mean_of_the_steps_it_names(start, every):
    ours = follow(swa(start, every), WALK)
    np.testing.assert_allclose(ours[-1], WALK[start::every].mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ours[:start], WALK[:start])


def trigger_of_awd_lstm(losses: list[float], nonmono: int) -> int | None:
    """After which validation the published training script switches to averaging."""
    logs: list[float] = []
    for i, loss in enumerate(losses):
        if len(logs) > nonmono and loss > min(logs[:-nonmono]):
            return i
        logs.append(loss)
    return None


@settings(max_examples=50, deadline=None)
@given(losses=st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]), max_size=20), patience=st.integers(1, 6))
def test_nt_asgd_triggers_as_awd_lstm_does(losses, patience):
    average = nt_asgd(patience)
    state = average.init(jnp.zeros(()))
    expected = trigger_of_awd_lstm(losses, patience)
    for i, loss in enumerate(losses):
        state = average.observe(state, loss)
        assert bool(state.triggered) == (expected is not None and i >= expected)


def test_nt_asgd_averages_as_torch_asgd_from_the_trigger_on():
    start = GOLDEN["asgd"]["start"]
    average = nt_asgd(patience=1)
    state = average.init({"w": WALK[0]})
    for loss in (1.0, 2.0, 3.0):
        state = average.observe(state, loss)
    assert bool(state.triggered)
    np.testing.assert_allclose(follow(average, WALK[start:], state)[-1], WALK[start:].mean(0), rtol=1e-5)
    # torch's ASGD forgets the first iterate that it averages.
    theirs = GOLDEN["asgd"]["values"][start + 1 :]
    np.testing.assert_allclose(follow(average, WALK[start + 1 :], state), theirs, rtol=1e-5, atol=1e-6)


def test_nt_asgd_survives_a_nan_loss():
    average = nt_asgd(patience=1)
    state = average.init(jnp.zeros(()))
    for loss in (1.0, float("nan"), 0.5, 0.9):
        state = average.observe(state, loss)
    assert not bool(state.triggered)
    for loss in (0.8, 0.9):
        state = average.observe(state, loss)
    assert bool(state.triggered)


@pytest.mark.parametrize("name", AVERAGES)
def test_trap_start_is_a_copy_so_that_both_can_be_donated(name):
    average = AVERAGES[name]
    params = {"w": jnp.arange(4.0)}

    def step(params, state):
        params = jax.tree.map(lambda p: p + 1.0, params)
        return params, average.update(state, params, 0)

    donating = jax.jit(step, donate_argnums=(0, 1))
    moved, state = donating(params, average.init(params))
    np.testing.assert_array_equal(average.value(state)["w"], moved["w"])
    params = {"w": jnp.arange(4.0)}
    with pytest.raises(Exception, match="donate"):
        jax.jit(lambda a, b: (a["w"] + 1.0, b["w"] + 1.0), donate_argnums=(0, 1))(params, params)


@pytest.mark.parametrize("name", AVERAGES)
def test_value_before_any_update_is_the_start(name):
    average = AVERAGES[name]
    params = {"w": jnp.arange(4.0), "n": jnp.int32(3)}
    jax.tree.map(np.testing.assert_array_equal, average.value(average.init(params)), params)


@pytest.mark.parametrize("name", AVERAGES)
def test_parameters_that_stand_still_average_to_themselves(name):
    average = AVERAGES[name]
    params = {"w": jnp.array([0.1, 3e-30, -jnp.inf, 1 / 3])}  # infinite as in an additive mask among the parameters
    ours = follow(average, jnp.broadcast_to(params["w"], (20, 4)))
    np.testing.assert_array_equal(ours[-1], params["w"])


def test_steps_that_swa_leaves_out_do_not_touch_it():
    average = swa(0, every=2)
    state = average.init({"w": jnp.zeros(3)})
    state = average.update(state, {"w": jnp.ones(3)}, 0)
    state = average.update(state, {"w": jnp.array([jnp.inf, jnp.nan, 5.0])}, 1)
    np.testing.assert_array_equal(average.value(state)["w"], 1.0)


@pytest.mark.parametrize("name", AVERAGES)
def test_bfloat16_is_averaged_in_float32_and_given_back_as_it_came(name):
    average = AVERAGES[name]
    params = {"w": jnp.ones(2, jnp.bfloat16), "n": jnp.int32(1)}
    state = average.init(params)
    wide = state.average if name == "nt_asgd" else state
    assert wide.mean["w"].dtype == jnp.float32
    assert jax.tree.map(lambda x: x.dtype, average.value(state)) == jax.tree.map(lambda x: x.dtype, params)


def test_bfloat16_average_does_not_stall():
    # In bfloat16, 256 + 1/n (257 - 256) would stay at 256 for ever.
    average = swa(0)
    state = average.init(jnp.bfloat16(0))
    for step in range(200):
        state = average.update(state, jnp.bfloat16(256 + 2 * (step % 2)), step)
    np.testing.assert_allclose(state.mean, 257.0, rtol=1e-6)


def test_swa_ends_nearer_the_minimum_than_the_weights_it_averages():
    tx, average = optax.sgd(0.5), swa(start_step=20)
    params: Any = jnp.ones(8)
    opt_state, state = tx.init(params), average.init(params)
    for step in range(200):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (8,))
        updates, opt_state = tx.update(params + noise, opt_state)
        params = optax.apply_updates(params, updates)
        state = average.update(state, params, step)
    assert float(jnp.linalg.norm(average.value(state))) < 0.5 * float(optax.tree.norm(params))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ema(1.0), "decay"),
        (lambda: ema(-0.1), "decay"),
        (lambda: swa(-1), "start_step"),
        (lambda: swa(0, every=0), "every"),
        (lambda: nt_asgd(0), "patience"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
