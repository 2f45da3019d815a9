"""Adversarial training: a second gradient where the embeddings are moved a little towards a larger loss.

A maker of gradients for `jaxft.make_train_step`, beside `jaxft.accumulate_gradients`.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.optim.accumulation import GradFn, LossFn
from jaxft.optim.groups import path_names

PyTree = Any


def fast_gradient_method(loss_fn: LossFn, epsilon: float = 0.5, pattern: str = "embedding") -> GradFn:
    """The gradient of the loss plus that at the nearby parameters where it grows fastest (FGM).

    The parameters whose path matches `pattern` are moved by `epsilon` times their gradient over its norm; the second
    gradient is taken there, of the same batch with the same dropout. It costs one more pass forward and backward.

    Args:
        loss_fn: `(params, carry, batch, key) -> (loss, (carry, metrics))`.
        epsilon: norm of the step, in the unit of the parameters.
        pattern: a regular expression, searched for in `a/b/c` paths.

    Returns:
        `(params, carry, batch, key) -> ((loss, (carry, metrics)), gradients)`; loss, carry and metrics are those of the
        parameters as they are.

    Raises:
        ValueError: on the first call, where no path matches.

    Examples:
        >>> def loss_fn(params, carry, batch, key):
        ...     return jnp.sum(params["embedding"] ** 2), (carry, {})
        >>> gradient_fn = fast_gradient_method(loss_fn, epsilon=1.0)
        >>> (loss, _), gradients = gradient_fn({"embedding": jnp.ones(1)}, (), None, None)
        >>> float(loss), gradients["embedding"].tolist()  # 2 at 1, and 4 at 2
        (1.0, [6.0])

    References:
        Miyato, Dai & Goodfellow, Adversarial Training Methods for Semi-Supervised Text Classification, ICLR 2017,
        equation 5, for the matrix of embeddings as a whole instead of those of one text.
    """
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    def gradients(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        result, gradient = value_and_grad(params, carry, batch, key)
        moves = [re.search(pattern, path) is not None for path in path_names(params)]
        leaves, structure = jax.tree.flatten(params)
        slopes = jax.tree.leaves(gradient)
        chosen = [slope for slope, moved in zip(slopes, moves, strict=True) if moved]
        if not chosen:
            raise ValueError(f"no parameter's path matches {pattern!r}")
        norm = optax.tree.norm(chosen)
        step = epsilon / jnp.where(norm > 0, norm, jnp.ones_like(norm))
        nearby = [
            leaf + (step * slope).astype(leaf.dtype) if moved else leaf
            for leaf, slope, moved in zip(leaves, slopes, moves, strict=True)
        ]
        _, adversarial = value_and_grad(structure.unflatten(nearby), carry, batch, key)
        return result, jax.tree.map(jnp.add, gradient, adversarial)

    return gradients
