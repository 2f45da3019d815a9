"""Adversarial training with the fast gradient method (FGM), on the embeddings.

`fast_gradient_method` takes the place of `jax.value_and_grad` in `jaxft.make_train_step`, as
`jaxft.accumulate_gradients` does.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxft.optim.groups import path_names
from jaxft.optim.whole_batch import GradFn, LossFn, PyTree, of_whole_batch, whole_gradients


def fast_gradient_method(
    loss_fn: LossFn, epsilon: float = 0.5, pattern: str = "embedding", weight: str | None = None
) -> GradFn:
    r"""Adds the gradients at adversarial parameters to the gradients of the loss (FGM).

    With $g$ the gradient of the perturbed parameters $\theta$, those whose path matches `pattern`, the second gradients
    are taken at

    $$\theta + \epsilon \, g / \lVert g \rVert,$$

    with the same batch and the same dropout. A step costs one more forward and backward pass.

    Args:
        loss_fn: `(params, carry, batch, key) -> (loss, (carry, metrics))`.
        epsilon: $\epsilon$, the norm of the perturbation, in the unit of the parameters.
        pattern: a regular expression that is searched for in `a/b/c` paths.
        weight: as in `jaxft.optim.whole_batch.value_and_grad`.

    Returns:
        `(params, carry, batch, key) -> ((loss, (carry, metrics)), gradients)`; loss, carry and metrics are those of the
        unperturbed parameters.

    Raises:
        ValueError: on the first call, if no path matches.

    Examples:
        >>> def loss_fn(params, carry, batch, key):
        ...     return jnp.sum(params["embedding"] ** 2), (carry, {})
        >>> value_and_grad = fast_gradient_method(loss_fn, epsilon=1.0)
        >>> (loss, _), grads = value_and_grad({"embedding": jnp.ones(1)}, (), None, None)
        >>> float(loss), grads["embedding"].tolist()  # a gradient of 2 at 1, and of 4 at 2
        (1.0, [6.0])

    References:
        Miyato, Dai and Goodfellow, `Adversarial Training Methods for Semi-Supervised Text Classification
        <https://arxiv.org/abs/1605.07725>`_, 2017, equation 5, with the embedding matrix in place of the embeddings of
        one text.
    """
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    def adversarial_value_and_grad(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        result, grads = value_and_grad(params, carry, batch, key)
        matching = whole_gradients(_matching(params, grads, pattern), result[1][1], weight)
        _, adversarial_grads = value_and_grad(_perturbed(params, matching, epsilon), carry, batch, key)
        return of_whole_batch((result, jax.tree.map(jnp.add, grads, adversarial_grads)), weight)

    return adversarial_value_and_grad


def _matching(params: PyTree, grads: PyTree, pattern: str) -> dict[int, jax.Array]:
    """The gradients of the parameters whose path matches the pattern, by their number."""
    paths = path_names(params)
    matching = {i: grad for i, grad in enumerate(jax.tree.leaves(grads)) if re.search(pattern, paths[i])}
    if not matching:
        raise ValueError(f"no parameter's path matches {pattern!r}: give a pattern that occurs in a path")
    return matching


def _perturbed(params: PyTree, grads: dict[int, jax.Array], epsilon: float) -> PyTree:
    """The parameters, those with a gradient moved by `epsilon` along it."""
    leaves, structure = jax.tree.flatten(params)
    norm = optax.tree.norm(list(grads.values()))
    step = epsilon / jnp.where(norm > 0, norm, jnp.ones_like(norm))
    return structure.unflatten(
        leaf + (step * grads[i]).astype(leaf.dtype) if i in grads else leaf for i, leaf in enumerate(leaves)
    )
