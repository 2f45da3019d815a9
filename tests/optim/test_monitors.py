"""Monitors: the same decisions as Keras' callbacks on any sequence of evaluations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxft.optim.discriminative import applied_metrics, discriminative, rescale
from jaxft.optim.monitors import early_stopping, plateau

# Multiples of a quarter and a min_delta of a tenth: no decision hangs on rounding.
VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, float("nan")]), max_size=30)


def keras_plateau(values, rate, factor, patience, min_delta, cooldown, min_lr, sign):
    """ReduceLROnPlateau's bookkeeping in plain Python: the rate after each evaluation."""
    best, wait, cooling, rates = float("inf"), 0, 0, []
    for value in values:
        if cooling > 0:
            cooling -= 1
            wait = 0
        if sign * value < best - min_delta:
            best, wait = sign * value, 0
        elif cooling <= 0:
            wait += 1
            if wait >= patience and rate > min_lr:
                rate = max(rate * factor, min_lr)
                cooling, wait = cooldown, 0
        rates.append(rate)
    return rates


@settings(max_examples=60, deadline=None)
@given(
    values=VALUES,
    patience=st.integers(1, 4),
    cooldown=st.integers(0, 3),
    min_lr=st.sampled_from([0.0, 0.25]),
    mode=st.sampled_from(["min", "max"]),
)
def test_plateau_decides_as_keras_does(values, patience, cooldown, min_lr, mode):
    monitor = plateau(0.5, patience, min_delta=0.1, cooldown=cooldown, min_lr=min_lr, mode=mode)
    state, rates = monitor.init(1.0), []
    for value in values:
        state = monitor.update(state, value)
        rates.append(float(state.rate))
    sign = 1 if mode == "min" else -1
    assert rates == keras_plateau(values, 1.0, 0.5, patience, 0.1, cooldown, min_lr, sign)


def test_plateau_of_the_article():
    """min_delta 4e-4, patience 2, factor 0.1, min_lr 1e-6, on a loss that stalls."""
    monitor = plateau(0.1, patience=2, min_delta=4e-4, min_lr=1e-6)
    state = monitor.init(1e-4)
    for loss in (0.5, 0.4998, 0.4997, 0.4, 0.41, 0.42, 0.43, 0.44):
        state = monitor.update(state, loss)
    np.testing.assert_allclose(state.rate, 1e-6, rtol=1e-6)


def test_trap_a_plateau_updated_at_every_step_lowers_the_rate_too_early():
    """One metric per epoch, given at each of 10 steps: optax's transform lowers the rate before the second epoch."""
    monitor = plateau(patience=3)
    per_epoch, per_step = monitor.init(1.0), monitor.init(1.0)
    reduce = optax.contrib.reduce_on_plateau(factor=0.1, patience=3)
    reduce_update: Any = jax.jit(reduce.update)
    reduce_state = reduce.init({"w": jnp.ones(1)})
    for epoch in range(2):
        loss = jnp.float32(1.0 - 0.1 * epoch)
        for _ in range(10):
            with jax.numpy_dtype_promotion("standard"):
                _, reduce_state = reduce_update({"w": jnp.ones(1)}, reduce_state, value=loss)
            per_step = monitor.update(per_step, loss)
        per_epoch = monitor.update(per_epoch, loss)
    assert float(per_epoch.rate) == 1.0
    assert float(per_step.rate) < 1e-4
    assert float(optax.tree.get(reduce_state, "scale")) < 1e-4


def test_plateau_lowers_the_rates_of_a_discriminative_optimizer_without_recompiling():
    tx = discriminative(optax.sgd(1.0), {"w": "all"}, {"all": 0.1})
    params = {"w": jnp.ones(2)}
    opt_state = tx.init(params)
    update: Any = jax.jit(tx.update)
    monitor = plateau(factor=0.5, patience=1)
    plateau_state, rates = monitor.init(), []
    for loss in (1.0, 1.0, 1.0):
        _, opt_state = update(params, opt_state, params)
        rates.append(float(applied_metrics(opt_state)["lr/all"]))
        plateau_state = monitor.update(plateau_state, loss)
        opt_state = rescale(opt_state, plateau_state.rate)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.05], rtol=1e-6)
    assert update._cache_size() == 1


def keras_early_stopping(values, patience, min_delta, sign):
    """EarlyStopping's bookkeeping in plain Python: whether it has stopped, and the best epoch, after each epoch."""
    best, best_epoch, wait, stopped = float("inf"), -1, 0, False
    for epoch, value in enumerate(values):
        wait += 1
        if sign * value < best - min_delta:
            best, best_epoch, wait = sign * value, epoch, 0
        elif wait >= patience and epoch > 0:
            stopped = True
        yield stopped, best_epoch


@settings(max_examples=60, deadline=None)
@given(values=VALUES, patience=st.integers(1, 5), mode=st.sampled_from(["min", "max"]))
@example(values=[float("nan"), 1.0], patience=1, mode="min")
def test_early_stopping_stops_when_keras_does(values, patience, mode):
    monitor = early_stopping(patience, min_delta=0.1, mode=mode)
    state = monitor.init()
    for value, expected in zip(
        values, keras_early_stopping(values, patience, 0.1, 1 if mode == "min" else -1), strict=True
    ):
        state = monitor.update(state, value)
        assert (bool(state.stop), int(state.best_evaluation)) == expected
    assert int(state.evaluations) == len(values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plateau(factor=1.0), "factor"),
        (lambda: plateau(patience=0), "patience"),
        (lambda: plateau(cooldown=-1), "cooldown"),
        (lambda: plateau(min_delta=-1.0), "min_delta"),
        (lambda: plateau(min_lr=float("nan")), "min_lr"),
        (lambda: early_stopping(2, mode="auto"), "mode is 'auto': give 'min' or 'max'"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
