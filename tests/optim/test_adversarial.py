"""The fast gradient method against its definition, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.optim.adversarial import fast_gradient_method

PARAMS = {"embedding": jnp.array([1.0, -2.0, 0.5]), "other": jnp.array([0.3, 0.1, -0.4])}


def loss_fn(params, carry, batch, key):
    return jnp.sum(jnp.sin(params["embedding"] * batch) * params["other"]), (carry, {"seen": batch.sum()})


def test_it_is_the_gradient_here_plus_the_gradient_a_step_uphill():
    batch = jnp.array([1.0, 2.0, 3.0])
    plain = jax.grad(lambda params: loss_fn(params, (), batch, None)[0])
    own = plain(PARAMS)
    uphill = PARAMS["embedding"] + 0.5 * own["embedding"] / jnp.linalg.norm(own["embedding"])
    there = plain({**PARAMS, "embedding": uphill})
    (loss, (_, metrics)), found = jax.jit(fast_gradient_method(loss_fn, 0.5))(PARAMS, (), batch, None)
    assert (float(loss), float(metrics["seen"])) == (pytest.approx(float(loss_fn(PARAMS, (), batch, None)[0])), 6.0)
    for name in PARAMS:
        np.testing.assert_allclose(found[name], own[name] + there[name], rtol=1e-5)


def test_a_gradient_of_zero_moves_nothing():
    flat = lambda params, carry, batch, key: (0.0 * params["embedding"].sum(), (carry, {}))  # noqa: E731
    _, found = fast_gradient_method(flat)(PARAMS, (), None, None)
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(found))


def test_a_pattern_without_parameters_is_an_error():
    with pytest.raises(ValueError, match="no parameter's path matches 'words'"):
        fast_gradient_method(loss_fn, pattern="words")(PARAMS, (), jnp.ones(3), None)
