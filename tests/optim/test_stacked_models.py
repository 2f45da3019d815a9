"""Models trained as one: each as if it were alone."""

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


def trained(params, carries, batches, steps, clip_norm, together):
    labels = {"w": "all"}
    tx = discriminative(optax.adam(1.0), labels, {"all": 0.1}, clip_norm=None if together else clip_norm)
    step = make_train_step(
        loss_fn, tx, gradient=(lambda f: stacked_value_and_grad(f, NAMES, clip_norm)) if together else None
    )
    state = TrainState.create(params, tx, key=jax.random.key(0), carry=carries)
    seen = []
    for i in range(steps):
        state, metrics = jax.jit(step)(state, batches[i])
        seen.append({name: float(value) for name, value in metrics.items()})
    return state, seen


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_each_member_moves_as_it_does_alone(clip_norm):
    rng = np.random.default_rng(0)
    params = [{"w": rng.normal(size=4).astype(np.float32) * scale} for scale in (0.1, 1.0, 5.0)]
    batches = [[rng.normal(size=4).astype(np.float32) for _ in NAMES] for _ in range(5)]
    carry = {"last": np.float32(0.5)}
    state, seen = trained(stack(params), stack([carry] * 3), [stack(own) for own in batches], 5, clip_norm, True)
    for i, name in enumerate(NAMES):
        alone, own = trained(params[i], carry, [batch[i] for batch in batches], 5, clip_norm, False)
        np.testing.assert_allclose(unstack(state.params, i)["w"], alone.params["w"], rtol=1e-5)
        np.testing.assert_allclose(unstack(state.carry, i)["last"], alone.carry["last"], rtol=1e-6)
        for both, one in zip(seen, own, strict=True):
            for metric in ("loss", "size", "grad_norm"):  # the norm before clipping
                assert both[f"{metric}_{name}"] == pytest.approx(one[metric], rel=1e-5)
    assert seen[0]["loss"] == pytest.approx(np.mean([seen[0][f"loss_{name}"] for name in NAMES]), rel=1e-5)


def test_where_one_is_not_finite_none_moves():
    params, carry = stack([{"w": np.ones(2, np.float32)}] * 3), stack([{"last": np.float32(0.0)}] * 3)
    batch = stack([np.full(2, x, np.float32) for x in (1.0, np.nan, 1.0)])
    state, (metrics,) = trained(params, carry, [batch], 1, None, True)
    np.testing.assert_array_equal(state.params["w"], params["w"])
    np.testing.assert_array_equal(state.carry["last"], carry["last"])
    assert metrics["skipped"] == 1
    assert metrics["loss_a"] > 0
    assert np.isnan(metrics["loss_b"])
