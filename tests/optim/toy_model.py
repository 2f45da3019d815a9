"""A toy tree of parameters in two groups, its gradients, and short ways to take optimizer steps with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.optim.discriminative import applied_metrics

LABELS = {"body": {"kernel": "body", "bias": "body"}, "head": {"kernel": "head"}}


def parameters() -> Any:
    return {
        "body": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])},
        "head": {"kernel": jnp.array([3.0])},
    }


def gradients(scale: float = 1.0) -> Any:
    return {
        "body": {"kernel": scale * jnp.array([[0.3, 0.1]]), "bias": scale * jnp.array([-0.2])},
        "head": {"kernel": scale * jnp.array([0.4])},
    }


def step_of(tx: Any, params: Any, state: Any, grads: Any) -> Any:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def run(tx: Any, params: Any, grads: Any, steps: int = 1) -> Any:
    def step(carry, _):
        params, state = carry
        params, state = step_of(tx, params, state, grads)
        return (params, state), applied_metrics(state)

    (params, state), metrics = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    return params, state, metrics


def first_update(tx: Any, grads: Any, params: Any) -> Any:
    return tx.update(grads, tx.init(params), params)


def relaxed(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """A plain optax optimizer for comparison, some of which do not run under strict promotion."""

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return tx.update(updates, state, params)

    return optax.GradientTransformation(tx.init, update)


def assert_same_bytes(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
