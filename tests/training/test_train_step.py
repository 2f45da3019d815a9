"""The train step, with a loss simple enough to follow by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft.optim.accumulation import accumulate_gradients
from jaxft.optim.averaging import ema, nt_asgd, swa
from jaxft.optim.discriminative import discriminative
from jaxft.training.train_step import TrainState, make_eval_step, make_train_step


def loss_fn(params, carry, batch, key):
    """A parabola around the batch, a counter as carry, and noise where there is a key."""
    noise = jnp.zeros(()) if key is None else jax.random.normal(key)
    return jnp.sum((params["w"] - batch) ** 2), ({"seen": carry["seen"] + batch}, {"noise": noise})


def start(tx, average=None):
    key, carry = jax.random.key(0), {"seen": jnp.zeros(2)}  # made here, for the first step may donate them
    return TrainState.create({"w": jnp.ones(2)}, tx, key=key, carry=carry, average=average)


def trainable(**options):
    return discriminative(optax.sgd(1.0), {"w": "all"}, {"all": 0.25}, **options)


def test_a_step_follows_the_gradient_and_reports_what_it_applied():
    tx = trainable()
    step = jax.jit(make_train_step(loss_fn, tx), donate_argnums=0)
    state, metrics = step(start(tx), jnp.array([3.0, -1.0]))
    np.testing.assert_allclose(state.params["w"], [2.0, 0.0])
    assert float(metrics["loss"]) == 8.0
    assert float(metrics["lr/all"]) == 0.25
    assert int(state.step) == 1


def test_the_noise_of_a_step_depends_on_its_number_alone():
    tx = trainable()
    step = jax.jit(make_train_step(loss_fn, tx))
    first, _ = step(start(tx), jnp.zeros(2))
    _, one = step(first, jnp.zeros(2))
    _, other = step(first, jnp.ones(2))
    _, before = step(start(tx), jnp.zeros(2))
    expected = float(jax.random.normal(jax.random.fold_in(jax.random.key(0), 1)))
    assert float(one["noise"]) == float(other["noise"]) == expected
    assert float(one["noise"]) != float(before["noise"])


def test_evaluation_has_no_key():
    carry, metrics = make_eval_step(loss_fn)({"w": jnp.ones(2)}, {"seen": jnp.zeros(2)}, jnp.ones(2))
    assert float(metrics["noise"]) == 0.0
    assert carry["seen"].tolist() == [1.0, 1.0]


def test_a_loss_that_is_not_finite_leaves_parameters_and_carry():
    tx = trainable(clip_norm=1.0)
    state, metrics = jax.jit(make_train_step(loss_fn, tx))(start(tx), jnp.array([np.nan, 0.0]))
    assert not np.isfinite(metrics["loss"])
    assert state.params["w"].tolist() == [1.0, 1.0]
    assert state.carry["seen"].tolist() == [0.0, 0.0]
    assert float(metrics["skipped"]) == 1.0


@pytest.mark.parametrize("average", [ema(0.5), swa(0)], ids=["ema", "swa"])
def test_a_skipped_step_has_no_share_in_the_average(average):
    tx = trainable()
    step = jax.jit(make_train_step(loss_fn, tx, average))
    good, bad = [jnp.array([3.0, 3.0]), jnp.array([-1.0, 5.0])], jnp.full(2, np.nan)

    def averaged(batches):
        state = start(tx, average)
        for batch in batches:
            state, _ = step(state, batch)
        return average.value(state.average)["w"]

    np.testing.assert_array_equal(averaged([good[0], bad, bad, good[1]]), averaged(good))


def test_a_step_in_slices_equals_the_step_of_the_large_batch():
    def tokens_loss(params, carry, batch, key):
        loss = jnp.sum(jnp.where(batch["mask"], (batch["x"] - params["w"][0]) ** 2, 0.0))
        tokens = batch["mask"].sum()
        return loss / tokens.astype(jnp.float32), ({"seen": carry["seen"] + 1.0}, {"tokens": tokens})

    batch = {"x": jnp.arange(6.0), "mask": jnp.array([True, True, True, True, False, False])}
    tx, average = trainable(clip_norm=10.0), swa(0)
    slices = partial(accumulate_gradients, num_microbatches=3)
    whole, metrics = jax.jit(make_train_step(tokens_loss, tx, average))(start(tx, average), batch)
    sliced, same = jax.jit(make_train_step(tokens_loss, tx, average, value_and_grad=slices))(start(tx, average), batch)
    assert metrics.keys() == same.keys()
    np.testing.assert_allclose(list(same.values()), list(metrics.values()), rtol=1e-6)
    np.testing.assert_allclose(sliced.params["w"], whole.params["w"], rtol=1e-6)
    np.testing.assert_allclose(average.value(sliced.average)["w"], sliced.params["w"])
    assert (int(sliced.step), float(sliced.carry["seen"][0])) == (1, 3.0)  # one optimizer step, three slices


def test_an_average_can_be_carried_beside_an_optimizer_of_optax():
    average = nt_asgd()
    step = jax.jit(make_train_step(loss_fn, optax.sgd(0.25), average), donate_argnums=0)
    state, metrics = step(start(optax.sgd(0.25), average), jnp.zeros(2))
    assert average.value(state.average)["w"].tolist() == state.params["w"].tolist() == [0.5, 0.5]
    assert set(metrics) == {"loss", "noise"}
