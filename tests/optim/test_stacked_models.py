"""Stacked models: each trains as it does alone."""

import jax
import numpy as np
import optax
import pytest

from jaxft import TrainState, discriminative, make_train_step
from jaxft.optim.stacked_models import stack, stacked_value_and_grad, unstack

NAMES = ("a", "b", "c")


def loss_fn(params, carry, batch, key):
    noise = jax.random.normal(key, params["w"].shape)
    loss = ((params["w"] * batch + 0.1 * noise - carry["last"]) ** 2).sum()
    return loss, ({"last": batch.mean()}, {"size": params["w"][0]})


def train(params, carry, batches, steps, clip_norm, stacked):
    labels = {"w": "all"}
    tx = discriminative(optax.adam(1.0), labels, {"all": 0.1}, clip_norm=None if stacked else clip_norm)
    value_and_grad = (lambda f: stacked_value_and_grad(f, NAMES, clip_norm)) if stacked else None
    step = jax.jit(make_train_step(loss_fn, tx, value_and_grad=value_and_grad))
    state = TrainState.create(params, tx, key=jax.random.key(0), carry=carry)
    log = []
    for i in range(steps):
        state, metrics = step(state, batches[i])
        log.append({name: float(value) for name, value in metrics.items()})
    return state, log


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_each_model_trains_as_it_does_alone(clip_norm):
    rng = np.random.default_rng(0)
    params = [{"w": rng.normal(size=4).astype(np.float32) * scale} for scale in (0.1, 1.0, 5.0)]
    batches = [[rng.normal(size=4).astype(np.float32) for _ in NAMES] for _ in range(5)]
    carry = {"last": np.float32(0.5)}
    stacked_batches = [stack(batches_of_step) for batches_of_step in batches]
    state, log = train(stack(params), stack([carry] * 3), stacked_batches, 5, clip_norm, stacked=True)
    for i, name in enumerate(NAMES):
        batches_of_model = [batches_of_step[i] for batches_of_step in batches]
        alone, log_alone = train(params[i], carry, batches_of_model, 5, clip_norm, stacked=False)
        np.testing.assert_allclose(unstack(state.params, i)["w"], alone.params["w"], rtol=1e-5)
        np.testing.assert_allclose(unstack(state.carry, i)["last"], alone.carry["last"], rtol=1e-6)
        for stacked_metrics, metrics in zip(log, log_alone, strict=True):
            for metric in ("loss", "size", "grad_norm"):  # the norm before clipping
                assert stacked_metrics[f"{metric}_{name}"] == pytest.approx(metrics[metric], rel=1e-5)
    assert log[0]["loss"] == pytest.approx(np.mean([log[0][f"loss_{name}"] for name in NAMES]), rel=1e-5)


def test_a_gradient_that_is_not_finite_stops_all_models():
    params, carry = stack([{"w": np.ones(2, np.float32)}] * 3), stack([{"last": np.float32(0.0)}] * 3)
    batch = stack([np.full(2, x, np.float32) for x in (1.0, np.nan, 1.0)])
    state, (metrics,) = train(params, carry, [batch], 1, None, stacked=True)
    np.testing.assert_array_equal(state.params["w"], params["w"])
    np.testing.assert_array_equal(state.carry["last"], carry["last"])
    assert metrics["skipped"] == 1
    assert metrics["loss_a"] > 0
    assert np.isnan(metrics["loss_b"])
