"""The guard of `discriminative`: a step with gradients that are not finite changes no byte and is counted."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft.optim.discriminative import discriminative
from jaxft.optim.schedules import slanted_triangular_schedule
from tests.optim.toy_model import (
    LABELS,
    assert_same_bytes,
    first_update,
    gradients,
    parameters,
    relaxed,
    run,
    step_of,
)


def as_numbers(tree: Any) -> Any:
    """The tree with the numbers of its typed PRNG keys in place of the keys."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)


def constant_state() -> optax.GradientTransformation:
    """An optimizer whose new state does not depend on the old one."""
    return optax.GradientTransformation(
        lambda params: {"zeros": jnp.ones(2), "steps": jnp.int32(0)},
        lambda updates, state, params=None: (updates, {"zeros": jnp.zeros(2), "steps": state["steps"] + 1}),
    )


OPTIMIZERS = {
    "moments and a count": optax.adam(1.0),
    "a typed PRNG key and a count": optax.add_noise(0.1, 0.5, jax.random.key(0)),
    "a constant": constant_state(),
    "no state": optax.sgd(1.0),
    "a momentum and a schedule": optax.chain(optax.trace(0.9), optax.scale_by_schedule(lambda step: 0.5**step)),
}


@pytest.mark.parametrize("jitted", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_kind_of_state_is_the_new_or_the_old_one(name, jitted):
    optimizer = OPTIMIZERS[name]
    tx = discriminative({"head": optimizer}, LABELS, {"body": None, "head": 1.0})
    state: Any = tx.init(parameters())
    update: Any = jax.jit(tx.update) if jitted else tx.update
    updates, applied = update(gradients(), state, parameters())
    head = {"kernel": gradients()["head"]["kernel"]}
    plain_updates, plain_state = relaxed(optimizer).update(head, optimizer.init(parameters()["head"]))
    np.testing.assert_allclose(updates["head"]["kernel"], jax.tree.leaves(plain_updates)[0], rtol=1e-6)
    for ours, plain in zip(
        jax.tree.leaves(as_numbers(applied.inner)), jax.tree.leaves(as_numbers(plain_state)), strict=True
    ):
        np.testing.assert_allclose(ours, plain, rtol=1e-6)
    updates, skipped = update(gradients(jnp.nan), applied, parameters())
    assert_same_bytes(as_numbers(skipped.inner), as_numbers(applied.inner))
    assert all(((leaf == 0.0) & jnp.signbit(leaf)).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_trap_non_finite_steps_are_skipped_without_limit_and_counted(bad):
    tx = discriminative(
        optax.adamw(1.0), LABELS, {"body": 0.1, "head": 0.2}, slanted_triangular_schedule(1.0, 100), clip_norm=1.0
    )
    params, state, _ = run(tx, parameters(), gradients(), steps=2)
    poison = gradients() | {"head": {"kernel": jnp.array([bad])}}

    step = jax.jit(partial(step_of, tx))
    stuck, after = params, state
    for n in range(1, 21):
        stuck, after = step(stuck, after, poison)
        assert int(after.skipped) == int(after.skipped_in_a_row) == n
    assert_same_bytes(stuck, params)
    assert_same_bytes((after.inner, after.step), (state.inner, state.step))
    healed, after = step(stuck, after, gradients())
    never, _ = step(params, state, gradients())
    assert_same_bytes(healed, never)
    assert (int(after.skipped), int(after.skipped_in_a_row)) == (20, 0)

    # What optax has for this applies the NaN once its patience is over.
    guarded = optax.apply_if_finite(optax.adam(0.1), max_consecutive_errors=2)
    poisoned, _, _ = run(relaxed(guarded), parameters(), poison, steps=4)
    assert not np.isfinite(poisoned["head"]["kernel"]).all()


def test_trap_one_nan_through_a_norm_poisons_every_leaf_but_not_ours():
    poison = gradients() | {"head": {"kernel": jnp.array([jnp.nan])}}
    clipped, _ = first_update(optax.clip_by_global_norm(1.0), poison, parameters())
    assert np.isnan(clipped["body"]["kernel"]).all()
    params, _, _ = run(
        discriminative(optax.sgd(1.0), LABELS, {"body": 1.0, "head": 1.0}, clip_norm=1.0), parameters(), poison
    )
    assert_same_bytes(params, parameters())


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_without_the_guard_finite_steps_are_the_same_and_nan_goes_through(clip_norm):
    tx = partial(discriminative, optax.adamw(1.0), LABELS, {"body": None, "head": 0.2}, clip_norm=clip_norm)
    guarded, bare = tx(), tx(skip_not_finite=False)
    kept, state, metrics = run(bare, parameters(), gradients(), steps=3)
    same, _, measured = run(guarded, parameters(), gradients(), steps=3)
    assert_same_bytes(kept, same)
    assert ("grad_norm" in metrics) == (clip_norm is not None)
    assert_same_bytes(metrics, {name: measured[name] for name in metrics})
    lost, after = step_of(bare, kept, state, gradients(jnp.nan))
    assert np.isnan(lost["head"]["kernel"]).all()
    assert (int(after.step), int(after.skipped)) == (4, 0)
    assert_same_bytes(lost["body"], kept["body"])


@pytest.mark.parametrize("skip", [True, False])
def test_without_a_guard_and_a_clip_nothing_sums_over_gradients(skip):
    tx = discriminative(optax.adam(1.0), LABELS, {"body": 0.1, "head": 0.2}, skip_not_finite=skip)
    grads = jax.tree.map(lambda g: jnp.full((512,), g.ravel()[0]), gradients())
    program = str(jax.jit(tx.update).lower(grads, tx.init(grads), grads).compile().as_text())
    assert (" dot(" in program or " reduce(" in program) == skip


def test_nan_in_a_frozen_gradient_is_no_reason_to_skip():
    poison = gradients() | {"body": jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), gradients()["body"])}
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": None, "head": 0.5}, clip_norm=1.0)
    params, state, _ = run(tx, parameters(), poison)
    np.testing.assert_allclose(params["head"]["kernel"], [2.8], rtol=1e-6)
    assert int(state.skipped) == 0


def test_skipping_is_separate_for_each_model_under_vmap():
    tx = discriminative(optax.adam(1.0), {"w": "all"}, {"all": 0.1})
    params = {"w": jnp.ones((2, 3))}
    grads = {"w": jnp.ones((2, 3)).at[0, 0].set(jnp.nan)}
    updates, state = jax.vmap(lambda grads, params: first_update(tx, grads, params))(grads, params)
    assert state.skipped.tolist() == [1, 0]
    assert (updates["w"][0] == 0).all()
    assert (updates["w"][1] != 0).all()


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_memory_of_a_donated_step(clip_norm, skip):
    """The guard may copy the two moments; without it nothing is copied, and the norm stores no squares."""
    size = 1 << 16
    tx = discriminative(optax.adam(1.0), {"w": "all"}, {"all": 0.1}, clip_norm=clip_norm, skip_not_finite=skip)
    params = {"w": jax.ShapeDtypeStruct((size,), jnp.float32)}
    step = jax.jit(partial(step_of, tx), donate_argnums=(0, 1))
    lowered = step.lower(params, jax.eval_shape(tx.init, params), params)
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    copies = 2 if skip else 0
    assert memory.temp_size_in_bytes < 4 * size * copies + size
