"""Discriminative fine-tuning as an optax transformation: a learning rate per group, frozen groups, clipping, and a
guard against gradients that are not finite.

`discriminative` wraps any optax optimizer, for the jobs and for any loop that calls `optax.apply_updates`. It skips a
step whose gradients are not finite. `applied_metrics` reads the applied learning rates from the optimizer state, and
`rescale` multiplies all of them by a factor.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxft.optim.flax_serialization import is_key
from jaxft.optim.groups import path_names
from jaxft.optim.schedule_parts import as_float32, is_finite

PyTree = Any


class DiscriminativeState(NamedTuple):
    """The state of `discriminative`: counters, the last learning rates, and the optimizer state of each group.

    Attributes:
        step: () int32, updates applied since `init` or `migrate`: the step of the schedule.
        skipped: () int32, updates skipped because a gradient was not finite.
        skipped_in_a_row: () int32, updates skipped since the last applied one.
        scale: () float32, factor on all learning rates, 1 unless `rescale` changed it.
        rates: () float32 for each group, the learning rates of the last update: 0 for a frozen group, and for all
            groups on a skipped update.
        grad_norm: () float32, global norm of the last trainable gradients, before clipping; None with
            `skip_not_finite=False` and no clip.
        inner: the state of `optax.multi_transform`; `inner.inner_states` maps the label of a group to its
            optimizer state, which is empty for a frozen group.
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

    For every parameter $\theta$ of group $g$ at step $t$, with $u$ the update that `optimizer` computes,

    $$\theta \leftarrow \theta + \eta_g \, s(t) \, u.$$

    The gradients of frozen groups become zero first: they add nothing to the norm, and the compiler drops the backward
    pass that computes them. Then come the clip, `optimizer` for each group (`optax.multi_transform`), and the learning
    rates. The rates multiply the updates, because Adam's scaling would cancel a factor on the gradients. A frozen group
    has no optimizer state and no weight decay, and its bytes do not change.

    If the norm of the trainable gradients is not finite, parameters, optimizer state and schedule stay as they are, and
    `skipped` counts the step; there is no limit. The guard does not look at the updates: an Adam with an epsilon of 0
    makes NaN of a gradient that is always 0. `tests/benchmarks/update_overhead.py` measures what the guard costs. With
    `skip_not_finite=False` the loop has to handle NaN, for example with `optax.apply_if_finite` around this
    transformation; the state counts nothing then, so that `jaxft.make_train_step` averages over skipped steps as well.

    Args:
        optimizer: a complete optax optimizer with learning rate 1, for example `optax.adam(1.0)` or
            `optax.adamw(1.0, weight_decay=0.01, mask=decay_mask())`; the learning rates multiply its updates. A
            mapping gives each group its own optimizer.
        labels: a pytree of group names with the paths of the parameters, as from `label_params`: labels of a Flax NNX
            state, or of its plain dict, serve an `nnx.Optimizer`. Or a function from parameters to such a pytree.
        rates: the learning rate $\eta_g$ of each group; `None` freezes the group.
        schedule: $s$, a dimensionless schedule of the number of applied updates, or one per group; by default constant
            1.
        clip_norm: the largest global norm of the trainable gradients; longer gradients are scaled down to it.
        skip_not_finite: whether to skip a step whose gradients are not finite. If False, NaN reaches the parameters
            and the optimizer state; with a clip, those of all trainable groups.

    Returns:
        An optax transformation; its state is a `DiscriminativeState`.

    Raises:
        ValueError: if groups and rates (or optimizers, or schedules) do not name the same groups, a number is out of
            its range, or, from `init` on, the parameters and `labels` differ in their paths, or a parameter is a PRNG
            key.

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
    is_function = callable(labels) and jax.tree.leaves(labels) == [labels]  # an Equinox module is callable as well
    groups = sorted(rates) if is_function else _group_names(labels)
    labels_of = labels if is_function else partial(_aligned, labels)
    schedule = optax.constant_schedule(1.0) if schedule is None else schedule
    schedules = schedule if isinstance(schedule, Mapping) else dict.fromkeys(groups, schedule)
    optimizers = optimizer if isinstance(optimizer, Mapping) else dict.fromkeys(groups, optimizer)
    _check_arguments(groups, rates, optimizers, schedules, clip_norm)
    frozen = {group for group, rate in rates.items() if rate is None}
    needs_norm = skip_not_finite or clip_norm is not None
    inner = optax.multi_transform(
        {group: optax.set_to_zero() if group in frozen else optimizers[group] for group in groups},
        labels_of,  # a function, because optax would call the labels of a callable Equinox module
    )

    def init(params: PyTree) -> PyTree:
        _refuse_keys(params)
        if is_function:
            _check_names("rates", rates, groups, _group_names(labels_of(params)))
        return _initial_state(groups, needs_norm, inner.init(params))

    apply, skip = _branches(inner, clip_norm)
    # Made once, so that lax.cond compiles them once where `update` is called without jit.
    plain_branches = partial(apply, {}), partial(skip, {})

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra_args: Any
    ) -> tuple[PyTree, PyTree]:
        labels = labels_of(updates)
        grads = jax.tree.map(lambda g, group: jnp.zeros_like(g) if group in frozen else g, updates, labels)
        grad_norm = _norm(grads, labels, frozen) if needs_norm else None
        factor = None
        if grad_norm is not None and clip_norm is not None:
            factor = clip_norm / jnp.maximum(grad_norm, clip_norm)
        functions = {name: value for name, value in extra_args.items() if callable(value)}
        arrays = {name: value for name, value in extra_args.items() if name not in functions}
        branches = (partial(apply, functions), partial(skip, functions)) if functions else plain_branches
        if grad_norm is not None and skip_not_finite:
            finite = jnp.isfinite(grad_norm)
            # Not jnp.where, for which XLA copies both moments: that is 2.4 times a bare Adam step.
            updates, new_inner = jax.lax.cond(finite, *branches, arrays, grads, state.inner, params, factor)
        else:
            finite = jnp.array(True)
            updates, new_inner = branches[0](arrays, grads, state.inner, params, factor)
        applied_rates = _learning_rates(rates, schedules, state.step, scale=jnp.where(finite, state.scale, 0.0))

        def applied(u: jax.Array, group: str) -> jax.Array:
            kept = _no_change(u)
            return kept if group in frozen else jnp.where(finite, _scaled(u, applied_rates[group]), kept)

        return jax.tree.map(applied, updates, labels), DiscriminativeState(
            step=jnp.where(finite, optax.safe_increment(state.step), state.step),
            skipped=jnp.where(finite, state.skipped, optax.safe_increment(state.skipped)),
            skipped_in_a_row=jnp.where(finite, 0, optax.safe_increment(state.skipped_in_a_row)),
            scale=state.scale,
            rates=applied_rates,
            grad_norm=grad_norm,
            inner=new_inner,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _refuse_keys(params: PyTree) -> None:
    """Raises a ValueError that names the first PRNG key among the parameters."""
    for path, leaf in zip(path_names(params), jax.tree.leaves(params), strict=True):
        if is_key(leaf):
            raise ValueError(
                f"the parameter {path} is a PRNG key, which cannot be trained: leave it out, as "
                "nnx.state(model, nnx.Param) and eqx.filter(model, eqx.is_inexact_array) do"
            )


def _group_names(labels: PyTree) -> list[str]:
    """The names of the groups, sorted, because the order of a set differs between processes."""
    names = jax.tree.leaves(labels)
    if others := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f"the label {others[0]!r} is no string: give the name of a group, as label_params does")
    return sorted(set(names))


def _aligned(labels: PyTree, params: PyTree) -> PyTree:
    """The labels in the structure of the parameters, which have the same paths.

    Raises:
        ValueError: the paths differ.
    """
    if jax.tree.structure(params) == jax.tree.structure(labels):
        return labels
    by_path = dict(zip(path_names(labels), jax.tree.leaves(labels), strict=True))
    paths = path_names(params)
    if set(paths) != set(by_path) or len(paths) != len(by_path):
        differing = sorted(set(paths) ^ set(by_path))
        raise ValueError(
            f"the parameters and their labels differ in structure, as at {', '.join(differing[:3])}: call label_params "
            "on these parameters"
        )
    return jax.tree.unflatten(jax.tree.structure(params), [by_path[path] for path in paths])


def _branches(
    inner: optax.GradientTransformationExtraArgs, clip_norm: float | None
) -> tuple[Callable[..., tuple[PyTree, PyTree]], Callable[..., tuple[PyTree, PyTree]]]:
    """The two branches of an update: `apply` makes the step of `inner`, `skip` changes nothing."""

    def apply(
        functions: Mapping[str, Any], arrays: Any, grads: PyTree, state: PyTree, params: PyTree, factor: Any
    ) -> Any:
        if clip_norm is not None:  # here and not outside lax.cond, so that XLA fuses the clip with the optimizer
            grads = jax.tree.map(lambda g: _scaled(g, factor), grads)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes, which strict promotion refuses
            return inner.update(grads, state, params, **functions, **arrays)

    def skip(
        functions: Mapping[str, Any], arrays: Any, grads: PyTree, state: PyTree, params: PyTree, factor: Any
    ) -> Any:
        updates, _ = jax.eval_shape(partial(apply, functions), arrays, grads, state, params, factor)
        return jax.tree.map(_no_change, updates), state

    return apply, skip


def _initial_state(groups: Sequence[str], needs_norm: bool, inner: PyTree) -> DiscriminativeState:
    return DiscriminativeState(
        step=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32),
        scale=jnp.ones((), jnp.float32),
        rates={group: jnp.zeros((), jnp.float32) for group in groups},
        grad_norm=jnp.zeros((), jnp.float32) if needs_norm else None,
        inner=inner,
    )


def _learning_rates(
    rates: Mapping[str, float | None], schedules: Mapping[str, optax.Schedule], step: jax.Array, scale: jax.Array
) -> dict[str, jax.Array]:
    """The learning rate of each group at a step, () float32: 0 for a frozen group."""
    return {
        group: jnp.zeros((), jnp.float32) if rate is None else rate * as_float32(schedules[group])(step) * scale
        for group, rate in rates.items()
    }


def applied_metrics(opt_state: PyTree) -> dict[str, jax.Array]:
    """Reads from any optimizer state what `discriminative` did on the last update; works inside and outside jit.

    Args:
        opt_state: an optimizer state, with or without a `DiscriminativeState` in it.

    Returns:
        `lr/<group>` (0 for a frozen group, and for all groups on a skipped update), `grad_norm` (of the trainable
        gradients, before clipping; absent with `skip_not_finite=False` and no clip), `skipped` and `skipped_in_a_row`
        (counts of updates). Empty without a `DiscriminativeState`.

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
    """Sets the factor on all learning rates of `discriminative`; `plateau` lowers them this way without recompiling.

    Args:
        opt_state: an optimizer state with a `DiscriminativeState` anywhere in it.
        scale: the factor, from the next update on; it replaces the factor before.

    Returns:
        The optimizer state with the new factor.

    Raises:
        ValueError: if there is no `DiscriminativeState`.

    Examples:
        >>> tx = discriminative(optax.sgd(1.0), {"w": "all"}, {"all": 0.1})
        >>> _, state = tx.update({"w": jnp.ones(1)}, rescale(tx.init({"w": jnp.ones(1)}), 0.5))
        >>> round(float(applied_metrics(state)["lr/all"]), 6)
        0.05
    """
    return map_discriminative(lambda state: state._replace(scale=jnp.asarray(scale, jnp.float32)), opt_state)


def map_discriminative(function: Callable[..., DiscriminativeState], opt_state: PyTree, *others: PyTree) -> PyTree:
    """Maps a function over every `DiscriminativeState` in an optimizer state.

    Args:
        function: takes a `DiscriminativeState` and the state at the same place in each of `others`.
        opt_state: an optimizer state with a `DiscriminativeState` anywhere in it.
        *others: optimizer states of the same structure.

    Returns:
        `opt_state` with the results of `function`; everything else in it stays.

    Raises:
        ValueError: if there is no `DiscriminativeState`.

    Examples:
        >>> state = discriminative(optax.sgd(1.0), {"w": "all"}, {"all": 0.1}).init({"w": jnp.ones(1)})
        >>> int(map_discriminative(lambda state: state._replace(step=state.step + 5), (state,))[0].step)
        5
    """
    if not any(map(_is_discriminative, jax.tree.leaves(opt_state, is_leaf=_is_discriminative))):
        raise ValueError(
            "this optimizer state has no DiscriminativeState: make the optimizer with jaxft.discriminative"
        )
    return jax.tree.map(
        lambda state, *others: function(state, *others) if _is_discriminative(state) else state,
        opt_state,
        *others,
        is_leaf=_is_discriminative,
    )


def _check_arguments(
    groups: Sequence[str],
    rates: Mapping[str, float | None],
    optimizers: Mapping[str, Any],
    schedules: Mapping[str, Any],
    clip_norm: float | None,
) -> None:
    """Raises a ValueError for arguments of `discriminative` that do not fit together or are out of range."""
    _check_names("rates", rates, groups, groups)
    trainable = [group for group in groups if rates[group] is not None]
    _check_names("optimizers", optimizers, trainable, groups)
    _check_names("schedules", schedules, trainable, groups)
    for group, rate in rates.items():
        if isinstance(rate, Tracer):  # a rate under vmap or jit, whose value is not known
            continue
        if rate is not None and not (rate >= 0.0 and is_finite(rate)):
            raise ValueError(f"the rate of group {group!r} is {rate}: give a finite rate from 0, or None to freeze it")
    if clip_norm is not None and not clip_norm > 0.0:
        raise ValueError(f"clip_norm is {clip_norm}: give a positive norm, or None for no clipping")


def _check_names(argument: str, given: Mapping[str, Any], needed: Sequence[str], allowed: Sequence[str]) -> None:
    if missing := sorted(set(needed) - set(given)):
        raise ValueError(f"{argument} miss the groups {', '.join(missing)}: give one entry per group")
    if unknown := sorted(set(given) - set(allowed)):
        names = ", ".join(allowed)
        raise ValueError(f"{argument} name groups that label no parameter: {', '.join(unknown)}: choose from {names}")


def _norm(grads: PyTree, labels: PyTree, frozen: Container[str]) -> jax.Array:
    """The global norm of the trainable gradients, () float32.

    It is a sum of dot products, because XLA would store the squares of a plain sum and share them with Adam.
    """
    pairs = zip(jax.tree.leaves(grads), jax.tree.leaves(labels), strict=True)
    parts = [part for g, group in pairs if group not in frozen for part in _real_parts(g)]
    squares = [jnp.vdot(x, x, precision="highest", preferred_element_type=jnp.float32) for x in parts]
    return jnp.sqrt(sum(squares, jnp.zeros((), jnp.float32)))


def _real_parts(x: jax.Array) -> tuple[jax.Array, ...]:
    return (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)


def _no_change(x: jax.Array) -> jax.Array:
    """The update that keeps every bit: x + -0.0 is x, while -0.0 + 0.0 is 0.0."""
    return jnp.full_like(x, -0.0)


def _scaled(x: jax.Array, factor: jax.Array) -> jax.Array:
    """The product, computed at least in float32 and returned in the dtype of `x`."""
    with jax.numpy_dtype_promotion("standard"):
        return (x * factor).astype(x.dtype)


def _is_discriminative(state: PyTree) -> bool:
    return isinstance(state, DiscriminativeState)
