"""Several models of the same shapes trained in one program: their arrays are stacked along a new first axis.

`jaxft.language_model` trains the forward and the backward language model this way.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.optim.whole_batch import GradFn, LossFn, PyTree
from jaxft.optim.whole_batch import value_and_grad as whole_value_and_grad


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Stacks trees of the same structure and shapes along a new first axis.

    Args:
        trees: pytrees of arrays, one per model.

    Returns:
        A pytree of NumPy arrays, (models, ...) each.

    Raises:
        ValueError: if the trees differ in structure or shapes.

    Examples:
        >>> stack([{"w": np.zeros(3)}, {"w": np.ones(3)}])["w"].shape
        (2, 3)
    """
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def unstack(models: PyTree, index: int) -> PyTree:
    """Takes one model out of a tree that `stack` made.

    Args:
        models: a pytree of arrays, (models, ...) each.
        index: position of the model, from 0.

    Returns:
        A pytree of arrays without the first axis.

    Raises:
        IndexError: if NumPy arrays have no such index; a JAX array gives its last model instead.

    Examples:
        >>> unstack(stack([{"w": np.zeros(3)}, {"w": np.ones(3)}]), 1)
        {'w': array([1., 1., 1.])}
    """
    return jax.tree.map(lambda leaf: leaf[index], models)


def stacked_value_and_grad(loss_fn: LossFn, names: Sequence[str], clip_norm: float | None = None) -> GradFn:
    """Computes the loss and gradients of every model of a stack, for `value_and_grad` of `jaxft.make_train_step`.

    The models do not affect each other, with one exception: if a gradient of one model is not finite,
    `jaxft.discriminative` skips the step for all of them.

    Args:
        loss_fn: the loss function of one model, `(params, carry, batch, key) -> (loss, (carry, metrics))`.
        names: a name for each model, in the order of the stack.
        clip_norm: the largest global norm of the gradients of each model; None for no clipping.

    Returns:
        A function like `jax.value_and_grad(loss_fn, has_aux=True)` that takes stacked parameters, carries and batches,
        and one key, which all models share. Its loss and metrics are means over the models. The metrics include
        `grad_norm`, before clipping, and every metric of each model, for example `loss_x` for the model `x`.

    Examples:
        >>> def loss_fn(params, carry, batch, key):
        ...     return (params * batch).sum(), (carry, {})
        >>> value_and_grad = stacked_value_and_grad(loss_fn, ["a", "b"], clip_norm=2.0)
        >>> (loss, (_, metrics)), grads = value_and_grad(jnp.ones((2, 1)), (), jnp.array([[1.0], [4.0]]), None)
        >>> float(loss), float(metrics["loss_b"]), grads.tolist()
        (2.5, 4.0, [[1.0], [2.0]])
    """
    value_and_grad = whole_value_and_grad(loss_fn)

    def of_one_model(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        (loss, (carry, metrics)), grads = value_and_grad(params, carry, batch, key)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **metrics}
        if clip_norm is not None:
            grads, _ = optax.clip_by_global_norm(clip_norm).update(grads, optax.EmptyState())
        return carry, metrics, grads

    def of_all_models(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        carry, metrics, grads = jax.vmap(of_one_model, in_axes=(0, 0, 0, None))(params, carry, batch, key)
        each = {f"{metric}_{name}": values[i] for metric, values in metrics.items() for i, name in enumerate(names)}
        means = {metric: jnp.mean(values) for metric, values in metrics.items()}
        return (means.pop("loss"), (carry, {**means, **each})), grads

    return of_all_models
