"""The fast gradient method against its definition, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.optim.adversarial import fast_gradient_method

PARAMS = {"embedding": jnp.array([1.0, -2.0, 0.5]), "other": jnp.array([0.3, 0.1, -0.4])}


def loss_fn(params, carry, batch, key):
    return jnp.sum(jnp.sin(params["embedding"] * batch) * params["other"]), (carry, {"seen": batch.sum()})


def test_gradients_are_those_of_the_loss_plus_those_at_perturbed_embeddings():
    batch = jnp.array([1.0, 2.0, 3.0])
    grad_fn = jax.grad(lambda params: loss_fn(params, (), batch, None)[0])
    plain = grad_fn(PARAMS)
    perturbed = PARAMS["embedding"] + 0.5 * plain["embedding"] / jnp.linalg.norm(plain["embedding"])
    adversarial = grad_fn({**PARAMS, "embedding": perturbed})
    (loss, (_, metrics)), grads = jax.jit(fast_gradient_method(loss_fn, 0.5))(PARAMS, (), batch, None)
    assert (float(loss), float(metrics["seen"])) == (pytest.approx(float(loss_fn(PARAMS, (), batch, None)[0])), 6.0)
    for name in PARAMS:
        np.testing.assert_allclose(grads[name], plain[name] + adversarial[name], rtol=1e-5)


def test_a_gradient_of_zero_perturbs_nothing():
    flat = lambda params, carry, batch, key: (0.0 * params["embedding"].sum(), (carry, {}))  # noqa: E731
    _, grads = fast_gradient_method(flat)(PARAMS, (), None, None)
    assert all(np.isfinite(grad).all() for grad in jax.tree.leaves(grads))


def test_a_pattern_without_parameters_is_an_error():
    with pytest.raises(ValueError, match="no parameter's path matches 'words'"):
        fast_gradient_method(loss_fn, pattern="words")(PARAMS, (), jnp.ones(3), None)
