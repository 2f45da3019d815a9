"""A state that moves on or stays, whatever the function that moves it looks like."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft.optim.commit import commit_if


def adam(state):
    grads = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
    updates, state = optax.adam(0.1).update(grads, state)
    return state, updates


def noise(state):
    key, draw = jax.random.split(state["key"])
    return {"key": key, "seen": state["seen"] + 1}, jax.random.normal(draw)


def unchanged(state):
    return state, state["a"] + state["b"]


def one_source_of_two_parts(state):
    total = state["a"] + state["b"]
    return {"a": total, "b": total}, 2 * total


def inside_jit(state):
    """Both outputs come of one equation, which cannot be taken apart."""
    return jax.jit(lambda s: ({"a": s["a"] + 1, "b": s["a"] * 2}, s["b"]))(state)


def constant(state):
    return {"a": jnp.zeros(()), "b": state["b"] + 1}, state["b"] + 1


PAIR = {"a": jnp.array(2.0), "b": jnp.array(3.0)}
CASES = {
    "adam": (adam, optax.adam(0.1).init({"w": jnp.ones(2), "b": jnp.ones(())})),
    "noise": (noise, {"key": jax.random.key(0), "seen": jnp.array(3)}),
    "unchanged": (unchanged, PAIR),
    "one source of two parts": (one_source_of_two_parts, PAIR),
    "inside jit": (inside_jit, PAIR),
    "constant": (constant, PAIR),
    "nothing": (lambda state: (state, jnp.ones(2)), ()),
}


@pytest.mark.parametrize("jitted", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize("name", CASES)
def test_the_state_is_the_new_or_the_old_one(name, jitted):
    move, state = CASES[name]

    def commit(condition, state):
        with jax.numpy_dtype_promotion("standard"):
            return commit_if(condition, move, state)

    commit = jax.jit(commit) if jitted else commit
    with jax.numpy_dtype_promotion("standard"):
        new, result = (jax.jit(move) if jitted else move)(state)
    for condition, expected in ((True, new), (False, state)):
        chosen, given = commit(jnp.array(condition), state)
        assert jax.tree.structure(chosen) == jax.tree.structure(state)
        same = (
            partial(np.testing.assert_allclose, rtol=1e-6) if condition else np.testing.assert_array_equal
        )  # a compiler rounds anew
        jax.tree.map(same, numbers(chosen), numbers(expected))
        if condition:
            jax.tree.map(same, given, result)


@pytest.mark.parametrize(
    "move",
    [
        lambda s: ({"a": s["a"]}, ()),
        lambda s: ({"a": s["a"], "b": s["b"].astype(jnp.bfloat16)}, ()),
        lambda s: ({"a": s["a"], "b": jnp.stack([s["b"], s["b"]])}, ()),
    ],
    ids=["structure", "dtype", "shape"],
)
def test_a_state_of_another_kind_is_refused(move):
    with pytest.raises(ValueError, match="differs from the old one"):
        commit_if(jnp.array(True), move, PAIR)


def numbers(tree):
    def plain(x):
        return jax.random.key_data(x) if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key) else x

    return jax.tree.map(plain, tree)


def test_a_donated_state_moves_in_place():
    """A choice between two finished states takes a copy; here the compiled step needs no memory of its own."""
    size = 1 << 16
    tx = optax.adam(0.1)
    params = jax.ShapeDtypeStruct((size,), jnp.float32)

    def step(params, state, grads):
        def move(state):
            updates, state = tx.update(grads, state)
            return state, updates

        state, updates = commit_if(jnp.isfinite(grads).all(), move, state)
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("standard"):
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, jax.eval_shape(tx.init, params), params)
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 2 * size  # a copy takes 4 bytes each
