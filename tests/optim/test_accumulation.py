"""Accumulation: equal to the large batch, whatever the padding; carries and metrics come out as from one batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.optim.accumulation import accumulate_gradients


def loss_fn(params: Any, carry: Any, batch: Any, key: Any) -> Any:
    """A mean over tokens, a recurrent carry per row, and metrics of each kind."""
    hidden = jnp.tanh(batch["x"] @ params["w"] + carry["h"][:, None])  # (B, T)
    tokens = batch["mask"].sum()
    loss = jnp.where(batch["mask"], (hidden - 1.0) ** 2, 0.0).sum() / tokens.astype(jnp.float32)
    hits = (batch["mask"] & (hidden > 0.5)).sum()
    return loss, ({"h": hidden[:, -1]}, {"tokens": tokens, "hits": hits, "mean_loss": loss})


def problem(lengths: list[int], time: int = 5) -> Any:
    rows = len(lengths)
    mask = jnp.arange(time)[None] < jnp.array(lengths)[:, None]
    x = jax.random.normal(jax.random.key(1), (rows, time, 3))
    carry = {"h": jnp.linspace(-1.0, 1.0, rows)}
    return {"w": jnp.array([0.5, -1.0, 2.0])}, carry, {"x": x, "mask": mask}


WHOLE = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
SLICED = {slices: jax.jit(accumulate_gradients(loss_fn, slices, carry_axis=0)) for slices in (1, 2, 3, 6)}


@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=12, max_size=12).filter(any), slices=st.sampled_from(list(SLICED)))
def test_equals_the_large_batch_whatever_the_padding(lengths, slices):
    arguments = (*problem(lengths), jax.random.key(0))
    (loss, (carry, metrics)), grads = WHOLE(*arguments)
    ours = SLICED[slices](*arguments)
    expected = (loss, (carry, metrics)), grads
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ours, expected)


@pytest.mark.slow
def test_mean_of_means_would_not():
    params, carry, batch = problem([5, 5, 1, 1])
    halves = [
        jax.value_and_grad(loss_fn, has_aux=True)(
            params, {"h": carry["h"][rows]}, jax.tree.map(lambda x, rows=rows: x[rows], batch), None
        )[1]["w"]
        for rows in (slice(0, 2), slice(2, 4))
    ]
    whole = jax.grad(loss_fn, has_aux=True)(params, carry, batch, None)[0]["w"]
    assert np.abs((halves[0] + halves[1]) / 2 - whole).max() > 1e-2


def test_shared_carry_goes_from_slice_to_slice():
    def loss(params, carry, batch, key):
        return (params * batch).mean(), (carry * 2 + batch.sum(), {"tokens": jnp.float32(batch.size)})

    (_, (carry, _)), _ = accumulate_gradients(loss, 3)(jnp.float32(1), jnp.float32(1), jnp.arange(3.0), None)
    assert float(carry) == ((1 * 2 + 0) * 2 + 1) * 2 + 2


def test_each_slice_has_a_key_of_its_own():
    def loss(params, carry, batch, key):
        noise = jax.random.normal(key)
        return params * noise, (carry, {"tokens": jnp.float32(1), "noise": noise})

    (mean, _), _ = accumulate_gradients(loss, 2)(jnp.float32(1), (), jnp.zeros(2), jax.random.key(0))
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(2)]
    np.testing.assert_allclose(mean, np.mean([float(jax.random.normal(key)) for key in keys]), rtol=1e-6)


def test_bfloat16_gradients_are_summed_in_float32():
    def loss(params, carry, batch, key):
        return (params * batch).mean(), (carry, {"tokens": jnp.int32(batch.size)})

    batch = jnp.array([256.0] + [0.25] * 63, jnp.bfloat16)
    _, grads = accumulate_gradients(loss, 64)(jnp.bfloat16(1), (), batch, None)
    assert grads.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(grads), (256 + 63 * 0.25) / 64, rtol=2**-8)


def test_activations_of_one_slice_at_a_time():
    width = 64

    def loss(params, carry, batch, key):
        hidden = batch
        for _ in range(8):
            hidden = jnp.tanh(hidden @ params)
        return (hidden**2).mean(), (carry, {"tokens": jnp.float32(batch.shape[0])})

    def temporary_bytes(slices):
        arguments = jnp.ones((width, width)), (), jnp.ones((4096, width)), None
        compiled: Any = jax.jit(accumulate_gradients(loss, slices)).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(8) < 0.3 * temporary_bytes(1)


def test_bad_arguments_are_refused():
    params, carry, batch = problem([1, 2, 3])
    with pytest.raises(ValueError, match="does not split into 2 equal microbatches"):
        accumulate_gradients(loss_fn, 2)(params, carry, batch, None)
    for slices in (1, 3):
        with pytest.raises(
            ValueError, match="have no 'words': return it, or set weight to one of hits, mean_loss, tokens"
        ):
            accumulate_gradients(loss_fn, slices, weight="words", carry_axis=0)(params, carry, batch, None)
    with pytest.raises(ValueError, match="give at least 1"):
        accumulate_gradients(loss_fn, 0)
