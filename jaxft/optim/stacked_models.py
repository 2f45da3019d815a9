"""Several models of the same shapes trained in one program: each array of theirs is stacked along a new first axis."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.optim.accumulation import GradFn, LossFn

PyTree = Any


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Trees of the same structure and shapes as one, of NumPy arrays with a first axis more.

    Examples:
        >>> stack([{"w": np.zeros(3)}, {"w": np.ones(3)}])["w"].shape
        (2, 3)
    """
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def unstack(tree: PyTree, index: int) -> PyTree:
    """One of the trees that `stack` made one.

    Examples:
        >>> unstack(stack([{"w": np.zeros(3)}, {"w": np.ones(3)}]), 1)
        {'w': array([1., 1., 1.])}
    """
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stacked_value_and_grad(loss_fn: LossFn, names: Sequence[str], clip_norm: float | None = None) -> GradFn:
    """The value and gradient of every member's own loss, for `jaxft.make_train_step`'s `gradient`.

    No member sees another. Only a loss or gradient that is not finite concerns all of them: none moves then.

    Args:
        loss_fn: of one member.
        names: of the members, in the order of their stack.
        clip_norm: largest norm of each member's gradient.

    Returns:
        A function like `jax.value_and_grad(loss_fn, has_aux=True)` of stacked parameters, carries and batches, and one
        key, with which every member draws the same. Its loss and metrics, `grad_norm` before clipping among them, are
        means; those of the member `x` are metrics too, as `loss_x` and so on.

    Examples:
        >>> def loss_fn(params, carry, batch, key):
        ...     return (params * batch).sum(), (carry, {})
        >>> gradients = stacked_value_and_grad(loss_fn, ["a", "b"], clip_norm=2.0)
        >>> (loss, (_, metrics)), slopes = gradients(jnp.ones((2, 1)), (), jnp.array([[1.0], [4.0]]), None)
        >>> float(loss), float(metrics["loss_b"]), slopes.tolist()
        (2.5, 4.0, [[1.0], [2.0]])
    """
    value_and_gradient = jax.value_and_grad(loss_fn, has_aux=True)

    def one(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        (loss, (carry, metrics)), slopes = value_and_gradient(params, carry, batch, key)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(slopes), **metrics}
        if clip_norm is not None:
            slopes, _ = optax.clip_by_global_norm(clip_norm).update(slopes, optax.EmptyState())
        return carry, metrics, slopes

    def gradients(params: PyTree, carry: PyTree, batch: PyTree, key: jax.Array | None) -> Any:
        carry, metrics, slopes = jax.vmap(one, in_axes=(0, 0, 0, None))(params, carry, batch, key)
        each = {f"{metric}_{name}": values[i] for metric, values in metrics.items() for i, name in enumerate(names)}
        means = {metric: jnp.mean(values) for metric, values in metrics.items()}
        return (means.pop("loss"), (carry, {**means, **each})), slopes

    return gradients
