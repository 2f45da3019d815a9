"""Training plans as data: a plan is a tuple of phases, each with its groups and rates, epochs and schedule.

A plan can be printed (`format_plan`), plotted (`learning_rates`) and saved as JSON without a model.
`jaxft.optim.unfreezing` makes the published plans. A job uses one `discriminative` optimizer per phase,

    discriminative(optimizer, labels, phase.rates, phase_schedule(phase, steps_per_epoch))

and carries the optimizer state from one phase to the next with `migrate`, which keeps the moments of the groups that
go on training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.base.limits import INT32_MAX
from jaxft.optim.discriminative import DiscriminativeState, map_discriminative
from jaxft.optim.groups import table
from jaxft.optim.named_schedules import schedule_by_name
from jaxft.optim.schedule_parts import Schedule

PyTree = Any


@dataclass(frozen=True)
class Phase:
    """One phase of a plan; `dataclasses.asdict` turns it into fields for JSON, and `Phase(**fields)` reads them.

    Attributes:
        name: name of the phase in logs and plots.
        rates: the peak learning rate of each group, bottom to top, finite and not negative; `None` freezes the group.
        epochs: number of epochs, at least 1.
        schedule: a name from `SCHEDULE_NAMES`; the schedule starts anew with every phase.
        options: options of the schedule, such as `cut_frac` and `ratio`, and `warmup_steps`, in steps of the phase.
        span: epochs that the schedule spans, if the phase ends before its schedule does; by default `epochs`.
    """

    name: str
    rates: Mapping[str, float | None]
    epochs: int
    schedule: str = "slanted_triangular"
    options: Mapping[str, float | str] = field(default_factory=dict)
    span: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"phase {self.name!r} has {self.epochs} epochs: give at least 1")
        if self.span is not None and self.span < self.epochs:
            raise ValueError(
                f"phase {self.name!r} has {self.epochs} epochs and a span of {self.span}: give a span of at least the "
                "epochs"
            )
        for group, rate in self.rates.items():
            if rate is not None and not (rate >= 0.0 and math.isfinite(rate)):
                raise ValueError(
                    f"phase {self.name!r} trains {group!r} at {rate}: give a finite rate from 0, or None to freeze it"
                )
        if all(rate is None for rate in self.rates.values()):
            raise ValueError(f"phase {self.name!r} trains nothing: give at least one group a rate")
        # Raises an error for a wrong name or option before training starts.
        phase_schedule(self, INT32_MAX // (self.span or self.epochs or 1))


Plan = tuple[Phase, ...]


def phase_schedule(phase: Phase, steps_per_epoch: int) -> Schedule:
    """The dimensionless schedule of a phase, 1 at its peak, which `discriminative` multiplies by the rates.

    Args:
        phase: a phase.
        steps_per_epoch: optimizer steps in an epoch.

    Returns:
        An `optax.Schedule`: a step since the phase began -> () float32, a fraction of the peak, held after the end.

    Raises:
        ValueError: if the schedule does not exist, or an option does not exist or is out of its range.

    Examples:
        >>> phase = Phase("all", {"body": 0.001, "head": 0.01}, epochs=2)
        >>> float(phase_schedule(phase, steps_per_epoch=50)(10))
        1.0
    """
    options: dict[str, Any] = dict(phase.options)
    if reserved := {"name", "peak_value", "total_steps"} & options.keys():
        names = ", ".join(sorted(reserved))
        raise ValueError(f"phase {phase.name!r} has the options {names}, which follow from the phase: remove them")
    return schedule_by_name(phase.schedule, 1.0, (phase.span or phase.epochs) * steps_per_epoch, **options)


def format_plan(plan: Sequence[Phase], steps_per_epoch: int | None = None) -> str:
    """Formats a plan as a table with the epochs, steps, peak rate of each group, and schedule of every phase.

    Args:
        plan: the phases.
        steps_per_epoch: optimizer steps in an epoch; without it the column of steps is left out.

    Returns:
        One line per phase, after a line of headings.

    Raises:
        ValueError: if there is no phase, or phases have different groups.

    Examples:
        >>> from jaxft.optim.unfreezing import full
        >>> print(format_plan(full(["body", "head"], 0.01, epochs=2), steps_per_epoch=50))
        phase  epochs  steps  body  head  schedule
        all         2    100  0.01  0.01  constant
    """
    groups = _groups(plan)
    rows = [["phase", "epochs", *([] if steps_per_epoch is None else ["steps"]), *groups, "schedule"]]
    for phase in plan:
        steps = [] if steps_per_epoch is None else [f"{phase.epochs * steps_per_epoch:,}"]
        rates = ["frozen" if rate is None else f"{rate:.4g}" for rate in map(phase.rates.get, groups)]
        span = [] if phase.span is None else [f"over {phase.span} epochs"]
        options = [f"{name}={_short(value)}" for name, value in phase.options.items()]
        schedule = " ".join([phase.schedule, *span, *options])
        rows.append([phase.name, str(phase.epochs), *steps, *rates, schedule])
    return table(rows)


def learning_rates(plan: Sequence[Phase], steps_per_epoch: int) -> dict[str, np.ndarray]:
    """The learning rate of every group at every step of a plan, to plot it without a model.

    Args:
        plan: the phases.
        steps_per_epoch: optimizer steps in an epoch.

    Returns:
        For each group a float32 array (steps,); NaN at steps at which the group is frozen.

    Raises:
        ValueError: if there is no phase, or phases have different groups.

    Examples:
        >>> from jaxft.optim.unfreezing import chain_thaw
        >>> curves = learning_rates(chain_thaw(["body", "head"]), steps_per_epoch=1)
        >>> {group: [round(float(rate), 4) for rate in curve] for group, curve in curves.items()}
        {'body': [nan, 0.0001, 0.0001], 'head': [0.001, nan, 0.0001]}
    """
    groups = _groups(plan)
    schedules = [
        np.asarray(jax.vmap(phase_schedule(phase, steps_per_epoch))(jnp.arange(phase.epochs * steps_per_epoch)))
        for phase in plan
    ]
    return {
        group: np.concatenate(
            [
                schedule * np.float32(np.nan if phase.rates[group] is None else phase.rates[group])
                for phase, schedule in zip(plan, schedules, strict=True)
            ]
        )
        for group in groups
    }


def phase_at(plan: Sequence[Phase], steps_per_epoch: int, step: int) -> tuple[int, int]:
    """Finds the phase of a step, and the step within the phase, for a run that resumes.

    Args:
        plan: the phases.
        steps_per_epoch: optimizer steps in an epoch.
        step: steps since the plan began.

    Returns:
        The index of the phase in the plan, and the steps since the phase began; `(len(plan), 0)` after the last phase.

    Examples:
        >>> from jaxft.optim.unfreezing import gradual_unfreezing
        >>> phase_at(gradual_unfreezing(["body", "head"], 0.01, final_epochs=3), steps_per_epoch=10, step=25)
        (1, 15)
    """
    for position, phase in enumerate(plan):
        if step < phase.epochs * steps_per_epoch:
            return position, step
        step -= phase.epochs * steps_per_epoch
    return len(plan), 0


def migrate(opt_state: PyTree, old: Phase | Mapping[str, float | None], new: PyTree) -> PyTree:
    """Carries the optimizer state into the next phase: groups that go on training keep their moments.

    A group that trains in both phases keeps its moments and Adam's count of steps. A group that is unfrozen starts with
    a fresh state, and a group that is frozen drops its state. The step of the schedule starts again from 0. The counts
    of skipped updates, the factor of `rescale` and the states of transformations around `discriminative` are kept.

    Args:
        opt_state: the state at the end of the finished phase, with a `DiscriminativeState` anywhere in it.
        old: the finished phase, or its rates.
        new: a fresh state of the next phase's optimizer, `tx.init(params)`.

    Returns:
        The initial state of the next phase. It shares buffers with `opt_state` and `new`: do not use these after the
        result is donated.

    Raises:
        ValueError: if a group that goes on training has an optimizer of another kind, the groups differ, or there is
            no `DiscriminativeState`.

    Examples:
        >>> import optax
        >>> from jaxft.optim.discriminative import discriminative
        >>> from jaxft.optim.unfreezing import gradual_unfreezing
        >>> params = {"body": jnp.ones(1), "head": jnp.ones(1)}
        >>> first, second = gradual_unfreezing(["body", "head"], 0.1)
        >>> tx = [discriminative(optax.trace(0.9), {"body": "body", "head": "head"}, phase.rates)
        ...     for phase in (first, second)]
        >>> _, state = tx[0].update(params, tx[0].init(params))
        >>> state = migrate(state, first, tx[1].init(params))
        >>> [state.inner.inner_states[group].inner_state.trace[group].tolist() for group in ("body", "head")]
        [[0.0], [1.0]]
    """
    rates = old.rates if isinstance(old, Phase) else old

    def group_state(before: PyTree, fresh: PyTree, group: str) -> PyTree:
        stateless = not jax.tree.leaves(fresh)  # the group is frozen now, or its optimizer has no state
        if rates[group] is None or stateless:
            return fresh
        if _shapes(before) != _shapes(fresh):
            raise ValueError(
                f"the optimizer of group {group!r} differs between the phases: use the same one in both, or freeze the "
                "group in between"
            )
        return before

    def migrated(state: DiscriminativeState, new: DiscriminativeState) -> DiscriminativeState:
        before, fresh = state.inner.inner_states, new.inner.inner_states
        if not set(before) == set(fresh) == set(rates):
            raise ValueError(
                f"the phases have different groups, {sorted(before)}, {sorted(fresh)} and {sorted(rates)}: "
                "use the same labels in all phases"
            )
        inner_states = {group: group_state(before[group], fresh[group], group) for group in fresh}
        return new._replace(
            skipped=state.skipped,
            skipped_in_a_row=state.skipped_in_a_row,
            scale=state.scale,
            inner=new.inner._replace(inner_states=inner_states),
        )

    return map_discriminative(migrated, opt_state, new)


def _groups(plan: Sequence[Phase]) -> list[str]:
    """The groups of a plan, in the order of its first phase."""
    if not plan:
        raise ValueError("the plan is empty: give at least one phase")
    groups = list(plan[0].rates)
    for phase in plan:
        if set(phase.rates) != set(groups):
            raise ValueError(
                f"phase {phase.name!r} has the groups {', '.join(phase.rates)}: give every phase the groups "
                f"{', '.join(groups)}, with None for a frozen one"
            )
    return groups


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _shapes(tree: PyTree) -> tuple[Any, list[tuple[tuple[int, ...], Any]]]:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
