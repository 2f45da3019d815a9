"""One optimizer for fine-tuning: a learning rate per group of parameters, frozen groups that cost nothing, safe steps.

`discriminative` wraps any optax optimizer; `jaxft.training.train_step` and every job use it, and so can any loop that knows
`optax.apply_updates`. It guards the update as well: one clip over the trainable gradients, and, unless told otherwise,
a step whose gradients are not finite changes nothing and is counted. `applied_metrics` reads the rates that were
applied back from the optimizer state.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxft.optim.commit import commit_if
from jaxft.optim.schedules import lenient

PyTree = Any


class DiscriminativeState(NamedTuple):
    """The state of `discriminative`: counters, what was applied last, and the optimizer state of each group.

    Attributes:
        step: () int32, updates applied since `init` or `migrate`, which is the step of the schedule.
        skipped: () int32, updates skipped because a gradient was not finite.
        skipped_in_a_row: () int32, of these, the ones since the last applied update.
        scale: () float32, factor on all learning rates, 1 unless `rescale` changed it.
        rates: () float32 for each group, the learning rates of the last update: 0 for frozen groups, and for all where
            it was skipped.
        grad_norm: () float32, global norm of the last trainable gradients, before clipping; None with
            `skip_not_finite=False` and no clip.
        inner: the state of `optax.multi_transform`; `inner.inner_states` maps the label of a group to its own
            optimizer state, an empty one for a frozen group.
    """

    step: jax.Array
    skipped: jax.Array
    skipped_in_a_row: jax.Array
    scale: jax.Array
    rates: dict[str, jax.Array]
    grad_norm: jax.Array | None
    inner: Any


def discriminative(
    optimizer: optax.GradientTransformation | Mapping[str, optax.GradientTransformation],
    labels: PyTree,
    rates: Mapping[str, float | None],
    schedule: optax.Schedule | Mapping[str, optax.Schedule] | None = None,
    clip_norm: float | None = None,
    *,
    skip_not_finite: bool = True,
) -> optax.GradientTransformationExtraArgs:
    r"""Discriminative fine-tuning: one optimizer, a learning rate per group of parameters, and frozen groups.

    For every parameter $\theta$ of group $g$ at step $t$, with $u$ the update that `optimizer` makes of the gradients,

    $$\theta \leftarrow \theta + \eta_g \, s(t) \, u.$$

    The order of things: gradients of frozen groups become zero first, so that they count for nothing below and the
    compiler drops the backward pass that made them; then the global norm of what trains; then the clip; then
    `optimizer`, per group (`optax.multi_transform`); then the rates, after Adam's scaling, which would undo a factor on
    the gradients. A frozen group has no optimizer state and no weight decay, and inside one jitted step its bytes do
    not change.

    Where the norm is not finite, parameters, moments and schedule stay as they are, however often that happens, and
    `skipped` counts it. This looks at gradients alone, not at what `optimizer` makes of finite ones: an Adam with an
    epsilon of 0 makes NaN of a gradient that is always 0. The guard reads all gradients once more, on two CPU cores
    about a fifth of a donated step of Adam. `skip_not_finite=False` leaves it to the loop, for example to
    `optax.apply_if_finite` around this transform; nothing is counted here then, and an average that
    `jaxft.make_train_step` keeps does not know which steps were skipped.

    Args:
        optimizer: a complete optax optimizer with learning rate 1, for example `optax.adam(1.0)` or
            `optax.adamw(1.0, weight_decay=0.01, mask=decay_mask())`: its updates are what the rates multiply. A
            mapping gives each group its own.
        labels: a pytree of group names with the structure of the parameters, as from `label_params`.
        rates: the learning rate $\eta_g$ of each group; `None` freezes it.
        schedule: $s$, a dimensionless schedule of the number of applied updates, or one per group; constant 1 where
            not given.
        clip_norm: the largest global norm of the trainable gradients; longer ones are scaled down to it.
        skip_not_finite: whether a step whose gradients are not finite changes nothing; without it, NaN goes on into
            parameters and moments, with a clip into those of all trainable groups.

    Returns:
        An optax transformation; its state is a `DiscriminativeState`.

    Raises:
        ValueError: where groups and rates (or optimizers, or schedules) do not name the same groups, a number is out
            of its range, or the parameters given to `init` differ in structure from `labels`.

    Examples:
        >>> params = {"body": jnp.array([1.0, 1.0]), "head": jnp.array([1.0])}
        >>> labels = {"body": "body", "head": "head"}
        >>> tx = discriminative(optax.sgd(1.0), labels, {"body": None, "head": 0.1}, clip_norm=2.0)
        >>> updates, state = tx.update({"body": jnp.array([30.0, 40.0]), "head": jnp.array([4.0])}, tx.init(params))
        >>> {name: value.tolist() for name, value in optax.apply_updates(params, updates).items()}
        {'body': [1.0, 1.0], 'head': [0.800000011920929]}
        >>> float(state.grad_norm)
        4.0

    References:
        Howard and Ruder, `Universal Language Model Fine-tuning for Text Classification
        <https://arxiv.org/abs/1801.06146>`_, 2018, section 3.2.
    """
    groups = sorted(set(jax.tree.leaves(labels)))  # the order of a set, and of a program made by it, changes every run
    _check_names("rates", rates, groups, groups)
    frozen = {group for group, rate in rates.items() if rate is None}
    trained = [group for group in groups if group not in frozen]
    for group, rate in rates.items():
        if rate is not None and not (rate >= 0.0 and math.isfinite(rate)):
            raise ValueError(f"the rate of group {group!r} is finite and not negative, or None, not {rate}")
    if clip_norm is not None and not clip_norm > 0.0:
        raise ValueError(f"clip_norm is a positive norm, not {clip_norm}")
    optimizers = optimizer if isinstance(optimizer, Mapping) else dict.fromkeys(groups, optimizer)
    _check_names("optimizers", optimizers, trained, groups)
    schedule = optax.constant_schedule(1.0) if schedule is None else schedule
    schedules = schedule if isinstance(schedule, Mapping) else dict.fromkeys(groups, schedule)
    _check_names("schedules", schedules, trained, groups)
    schedules = {group: lenient(schedule) for group, schedule in schedules.items()}
    measured = skip_not_finite or clip_norm is not None
    inner = optax.multi_transform(
        {group: optax.set_to_zero() if group in frozen else optimizers[group] for group in groups},
        lambda _: labels,  # not the labels themselves: those of an Equinox model would be callable
    )

    def training(tree: PyTree) -> list[tuple[jax.Array, str]]:
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(labels), strict=True)
        return [(leaf, group) for leaf, group in pairs if group not in frozen]

    def init(params: PyTree) -> PyTree:
        if jax.tree.structure(params) != jax.tree.structure(labels):
            raise ValueError("the parameters and their labels differ in structure")
        return DiscriminativeState(
            step=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            skipped_in_a_row=jnp.zeros((), jnp.int32),
            scale=jnp.ones((), jnp.float32),
            rates={group: jnp.zeros((), jnp.float32) for group in groups},
            grad_norm=jnp.zeros((), jnp.float32) if measured else None,
            inner=inner.init(params),
        )

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra_args: Any
    ) -> tuple[PyTree, PyTree]:
        grads = jax.tree.map(lambda g, group: jnp.zeros_like(g) if group in frozen else g, updates, labels)
        grad_norm = _norm([g for g, _ in training(grads)] if measured else [])
        finite = jnp.isfinite(grad_norm) if skip_not_finite else jnp.array(True)
        scale = jnp.where(finite, state.scale, 0.0)  # so that a skipped step reports rates of 0
        learning_rates = {
            group: jnp.zeros((), jnp.float32) if rate is None else rate * schedules[group](state.step) * scale
            for group, rate in rates.items()
        }

        # With a guard and no clip the factor is 1, which a compiler cannot know: it would share the squares of the norm
        # with Adam, and store them.
        factor = jnp.where(finite, 1.0, 0.0) if clip_norm is None else clip_norm / jnp.maximum(grad_norm, clip_norm)

        def move(state: PyTree) -> tuple[PyTree, PyTree]:
            scaled = jax.tree.map(lambda g: _times(g, factor), grads)
            with jax.numpy_dtype_promotion("standard"):  # strict callers may use optax, which is not strict inside
                updates, state = inner.update(scaled, state, params, **extra_args)
            return state, updates

        new_inner, moved = commit_if(finite, move, state.inner)
        moving = iter([jnp.where(finite, _times(u, learning_rates[group]), _still(u)) for u, group in training(moved)])
        updates = jax.tree.map(lambda g, group: _still(g) if group in frozen else next(moving), grads, labels)
        return updates, DiscriminativeState(
            step=jnp.where(finite, optax.safe_increment(state.step), state.step),
            skipped=jnp.where(finite, state.skipped, optax.safe_increment(state.skipped)),
            skipped_in_a_row=jnp.where(finite, 0, optax.safe_increment(state.skipped_in_a_row)),
            scale=state.scale,
            rates=learning_rates,
            grad_norm=grad_norm if measured else None,
            inner=new_inner,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def applied_metrics(opt_state: PyTree) -> dict[str, jax.Array]:
    """What `discriminative` did on the last update, for a log: works on any optimizer state, inside jit or out.

    Args:
        opt_state: an optimizer state, with a `DiscriminativeState` anywhere in it or not.

    Returns:
        `lr/<group>` (0 for a frozen group, and for all on a skipped update), `grad_norm` (trainable gradients, before
        clipping; only where it was measured), `skipped` and `skipped_in_a_row` (updates, so far); nothing for another
        optimizer.

    Examples:
        >>> params = {"body": jnp.ones(2), "head": jnp.ones(1)}
        >>> tx = discriminative(optax.adam(1.0), {"body": "body", "head": "head"}, {"body": None, "head": 0.5})
        >>> _, state = tx.update(params, tx.init(params))
        >>> {name: float(value) for name, value in sorted(applied_metrics(state).items())}
        {'grad_norm': 1.0, 'lr/body': 0.0, 'lr/head': 0.5, 'skipped': 0.0, 'skipped_in_a_row': 0.0}
    """
    metrics = {}
    for state in jax.tree.leaves(opt_state, is_leaf=_is_discriminative):
        if isinstance(state, DiscriminativeState):
            metrics |= {f"lr/{group}": rate for group, rate in state.rates.items()}
            metrics |= {"skipped": state.skipped, "skipped_in_a_row": state.skipped_in_a_row}
            metrics |= {} if state.grad_norm is None else {"grad_norm": state.grad_norm}
    return metrics


def rescale(opt_state: PyTree, scale: jax.typing.ArrayLike) -> PyTree:
    """Sets the factor on all learning rates of `discriminative`: how `plateau` lowers them, without recompiling.

    Args:
        opt_state: an optimizer state with a `DiscriminativeState` anywhere in it.
        scale: the factor from the next update on; it replaces the one before.

    Returns:
        The optimizer state with that factor.

    Raises:
        ValueError: where there is no `DiscriminativeState`.

    Examples:
        >>> tx = discriminative(optax.sgd(1.0), {"w": "all"}, {"all": 0.1})
        >>> _, state = tx.update({"w": jnp.ones(1)}, rescale(tx.init({"w": jnp.ones(1)}), 0.5))
        >>> round(float(applied_metrics(state)["lr/all"]), 6)
        0.05
    """
    return map_discriminative(lambda state: state._replace(scale=jnp.asarray(scale, jnp.float32)), opt_state)


def map_discriminative(function: Callable[..., DiscriminativeState], opt_state: PyTree, *others: PyTree) -> PyTree:
    """The optimizer state with every `DiscriminativeState` in it mapped, beside those of other states of its kind."""
    if not any(map(_is_discriminative, jax.tree.leaves(opt_state, is_leaf=_is_discriminative))):
        raise ValueError("only the state of a discriminative optimizer can be rescaled or migrated, and here is none")
    return jax.tree.map(
        lambda state, *others: function(state, *others) if _is_discriminative(state) else state,
        opt_state,
        *others,
        is_leaf=_is_discriminative,
    )


def _norm(leaves: Sequence[jax.Array]) -> jax.Array:
    """The global norm in float32, by dot products: XLA would share the squares of a sum with Adam, and store them."""
    squares = (jnp.vdot(x, x, precision="highest", preferred_element_type=jnp.float32) for x in leaves)
    return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))


def _still(x: jax.Array) -> jax.Array:
    """The update that changes nothing: adding -0.0 keeps every bit, while adding 0.0 turns -0.0 into 0.0."""
    return jnp.full_like(x, -0.0)


def _times(x: jax.Array, factor: jax.Array) -> jax.Array:
    """The product in the dtype of `x`, made in float32 at least as the factor is: one in bfloat16 has two digits."""
    with jax.numpy_dtype_promotion("standard"):
        return (x * factor).astype(x.dtype)


def _is_discriminative(state: PyTree) -> bool:
    return isinstance(state, DiscriminativeState)


def _check_names(what: str, given: Mapping[str, Any], needed: Sequence[str], allowed: Sequence[str]) -> None:
    if missing := sorted(set(needed) - set(given)):
        raise ValueError(f"{what} miss the groups {', '.join(missing)}")
    if unknown := sorted(set(given) - set(allowed)):
        raise ValueError(f"{what} name groups that label no parameter: {', '.join(unknown)}")
