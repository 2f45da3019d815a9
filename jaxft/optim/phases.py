"""Training plans as data: which groups of parameters train, at which rates, for how many epochs, on which schedule.

A plan is a tuple of `Phase`s and nothing else: it can be printed (`format_plan`), drawn (`learning_rates`) and saved as
JSON before any model exists. `jaxft.optim.unfreezing` makes the published ones. The jobs run one `discriminative` optimizer
per phase,

    discriminative(optimizer, labels, phase.rates, phase_schedule(phase, steps_per_epoch))

and hand the optimizer state from one to the next with `migrate`, which keeps the moments of groups that were already
training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.optim.discriminative import DiscriminativeState, map_discriminative
from jaxft.optim.groups import table
from jaxft.optim.named_schedules import schedule_by_name
from jaxft.optim.schedules import Schedule

PyTree = Any


@dataclass(frozen=True)
class Phase:
    """One phase of a plan; `dataclasses.asdict` gives it as JSON, `Phase(**fields)` takes it back.

    Attributes:
        name: for logs and plots.
        rates: the peak learning rate of each group, bottom to top, finite and not negative; `None` freezes it.
        epochs: how long the phase lasts.
        schedule: a name that `schedule_by_name` knows; it starts anew with the phase and spans all of it.
        options: options of that schedule, such as `cut_frac` and `ratio`, and `warmup_steps`, in steps of the phase.
        span: epochs of the schedule, where the phase breaks off before its end; None for those of the phase.
    """

    name: str
    rates: Mapping[str, float | None]
    epochs: int
    schedule: str = "slanted_triangular"
    options: Mapping[str, float | str] = field(default_factory=dict)
    span: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"phase {self.name!r} lasts at least one epoch, not {self.epochs}")
        if self.span is not None and self.span < self.epochs:
            raise ValueError(f"phase {self.name!r} outlasts its schedule of {self.span} epochs")
        for group, rate in self.rates.items():
            if rate is not None and not (rate >= 0.0 and math.isfinite(rate)):
                raise ValueError(f"phase {self.name!r} trains {group!r} at {rate}: a rate is finite and not negative")
        if all(rate is None for rate in self.rates.values()):
            raise ValueError(f"phase {self.name!r} trains nothing")
        phase_schedule(self, 10**9)  # a wrong name or option fails here, before anything runs


Plan = tuple[Phase, ...]


def phase_schedule(phase: Phase, steps_per_epoch: int) -> Schedule:
    """The dimensionless schedule of a phase: 1 at its peak, for `discriminative` to multiply with the rates.

    Args:
        phase: a phase.
        steps_per_epoch: optimizer steps in an epoch.

    Returns:
        An `optax.Schedule`: a step since the phase began -> () float32, a share of the peak, held after the end.

    Raises:
        ValueError: for a schedule that does not exist, or options that it does not take or that do not fit the steps.

    Examples:
        >>> phase = Phase("all", {"body": 0.001, "head": 0.01}, epochs=2)
        >>> float(phase_schedule(phase, steps_per_epoch=50)(10))
        1.0
    """
    options: dict[str, Any] = dict(phase.options)
    if own := {"name", "peak_value", "total_steps"} & options.keys():
        raise ValueError(f"phase {phase.name!r} sets {', '.join(sorted(own))} itself: it is no option of a schedule")
    return schedule_by_name(phase.schedule, 1.0, (phase.span or phase.epochs) * steps_per_epoch, **options)


def format_plan(plan: Sequence[Phase], steps_per_epoch: int | None = None) -> str:
    """A plan as a table: a line per phase with its epochs, steps, peak rate per group and schedule.

    Args:
        plan: the phases.
        steps_per_epoch: optimizer steps in an epoch; without it there is no column of steps.

    Returns:
        Lines of text.

    Raises:
        ValueError: where there is no phase, or phases have different groups.

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
        over = [] if phase.span is None else [f"over {phase.span} epochs"]
        options = [f"{name}={_short(value)}" for name, value in phase.options.items()]
        schedule = " ".join([phase.schedule, *over, *options])
        rows.append([phase.name, str(phase.epochs), *steps, *rates, schedule])
    return table(rows)


def learning_rates(plan: Sequence[Phase], steps_per_epoch: int) -> dict[str, np.ndarray]:
    """The learning rate of every group at every step of a plan, to draw it without a model.

    Args:
        plan: the phases.
        steps_per_epoch: optimizer steps in an epoch.

    Returns:
        One float32 array of all steps per group; NaN where the group is frozen.

    Raises:
        ValueError: where there is no phase, or phases have different groups.

    Examples:
        >>> from jaxft.optim.unfreezing import chain_thaw
        >>> curves = learning_rates(chain_thaw(["body", "head"]), steps_per_epoch=1)
        >>> {group: [round(float(rate), 4) for rate in curve] for group, curve in curves.items()}
        {'body': [nan, 0.0001, 0.0001], 'head': [0.001, nan, 0.0001]}
    """
    groups = _groups(plan)
    shapes = [
        np.asarray(jax.vmap(phase_schedule(phase, steps_per_epoch))(jnp.arange(phase.epochs * steps_per_epoch)))
        for phase in plan
    ]
    return {
        group: np.concatenate(
            [
                shape * np.float32(np.nan if phase.rates[group] is None else phase.rates[group])
                for phase, shape in zip(plan, shapes, strict=True)
            ]
        )
        for group in groups
    }


def phase_at(plan: Sequence[Phase], steps_per_epoch: int, step: int) -> tuple[int, int]:
    """Where in a plan a step of the whole run falls, for a run that resumes.

    Args:
        plan: the phases.
        steps_per_epoch: optimizer steps in an epoch.
        step: steps taken since the plan began.

    Returns:
        The position of the phase, and the steps taken in it; `(len(plan), 0)` where the plan is done.

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
    """Carries the optimizer state into the next phase: groups that were training keep theirs, others start fresh.

    A group that trained before and trains on keeps its moments and, with them, Adam's own count of steps. A group that
    has just been unfrozen starts from zero, one that has just been frozen keeps nothing. The step of the schedule
    starts again; the counts of skipped updates and the factor of `rescale` go on, and so do the states of transforms
    around `discriminative`.

    Args:
        opt_state: the state at the end of the finished phase, with a `DiscriminativeState` anywhere in it.
        old: the finished phase, or its rates.
        new: a fresh state of the next phase's optimizer, `tx.init(params)`.

    Returns:
        The state for the next phase to start from; it shares buffers with `opt_state` and `new`, which can no longer
        be used once it is donated.

    Raises:
        ValueError: where a group that trains on has an optimizer of another kind, the groups differ, or there is no
            `DiscriminativeState`.

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

    def carried(before: PyTree, fresh: PyTree, group: str) -> PyTree:
        nothing_left = not jax.tree.leaves(fresh)  # just frozen, or an optimizer without memory
        if rates[group] is None or nothing_left:
            return fresh
        if _shapes(before) != _shapes(fresh):
            raise ValueError(f"group {group!r} trains on with another optimizer, which cannot take over its state")
        return before

    def moved(state: DiscriminativeState, new: DiscriminativeState) -> DiscriminativeState:
        before, fresh = state.inner.inner_states, new.inner.inner_states
        if not set(before) == set(fresh) == set(rates):
            raise ValueError(f"the phases have different groups: {sorted(before)}, {sorted(fresh)} and {sorted(rates)}")
        inner_states = {group: carried(before[group], fresh[group], group) for group in fresh}
        return new._replace(
            skipped=state.skipped,
            skipped_in_a_row=state.skipped_in_a_row,
            scale=state.scale,
            inner=new.inner._replace(inner_states=inner_states),
        )

    return map_discriminative(moved, opt_state, new)


def _groups(plan: Sequence[Phase]) -> list[str]:
    """The groups of a plan, in the order of its first phase."""
    if not plan:
        raise ValueError("a plan has at least one phase")
    groups = list(plan[0].rates)
    for phase in plan:
        if set(phase.rates) != set(groups):
            raise ValueError(f"phase {phase.name!r} has the groups {', '.join(phase.rates)}, not {', '.join(groups)}")
    return groups


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _shapes(tree: PyTree) -> tuple[Any, list[tuple[tuple[int, ...], Any]]]:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]
