"""A stage of training: what it consists of (`Stage`), and the engine that runs it so that it can stop and resume.

Every job describes its stages as values of `Stage` and hands them to `run_stage`.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from jaxft.base.sharding import current_mesh, gathered, mesh_size, place
from jaxft.errors import InputError
from jaxft.optim.averaging import Average
from jaxft.optim.discriminative import applied_metrics, discriminative, rescale
from jaxft.optim.phases import Phase, Plan, migrate, phase_schedule
from jaxft.optim.whole_batch import GradFn, LossFn, value_and_grad
from jaxft.training.batches import Batches
from jaxft.training.devices import WISHES, place_part, sharded, with_wishes
from jaxft.training.loop import take_steps
from jaxft.training.processes import decided_by_first, from_first, join, meet
from jaxft.training.progress import progress_bar, show
from jaxft.training.run import Run, StageResult
from jaxft.training.selection import Selection
from jaxft.training.train_step import TrainState, make_train_step

MAX_SKIPPED_STEPS = 10
"""steps in a row with a loss or gradient that is not finite, after which a run gives up"""


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Attributes:
        name: of the stage in the log and in file names.
        plan: phases in order; each gives every group its rate, or None to freeze it.
        make_loss_fn: gives the loss function of a phase, as `make_train_step` takes it; a model may skip work for
            groups that the phase freezes.
        optimizer: the update rule with learning rate 1, as `jaxft.discriminative` takes it.
        labels: a pytree like `params` with the group of each parameter.
        clip_norm: the largest norm of the trainable gradients; None for no clip.
        params: parameters to start from.
        carry: what else lives from step to step, to start from.
        carry_axis: along which the arrays of the carry have the rows of the batch; None where rows share it.
        key: the PRNG key of the stage.
        batches: what to train on.
        evaluate: `evaluate(params, carry)` gives metrics of the held-out split, `loss` among them;
            None if nothing is held out.
        evaluate_every: steps between two evaluations of a phase, the last of which is at its end; None evaluates after
            every epoch.
        selection: what the evaluations decide.
        average: average of the parameters that is evaluated and returned in place of the raw ones; None for none.
        value_and_grad: as in `make_train_step`; where devices share a batch, of the rows of all, as the functions of
            `jaxft.optim` are.
        rate_multipliers: (steps,) float, multiplies the rate of each step of the stage besides its schedule; None for
            1 everywhere.
    """

    name: str
    plan: Plan
    make_loss_fn: Callable[[Phase], LossFn]
    optimizer: optax.GradientTransformation
    labels: Any
    clip_norm: float | None
    params: Any
    carry: Any
    key: jax.Array
    batches: Batches
    evaluate: Callable[[Any, Any], dict[str, float]] | None
    evaluate_every: int | None = None
    selection: Selection = field(default_factory=Selection)
    average: Average | None = None
    value_and_grad: Callable[[LossFn], GradFn] | None = None
    carry_axis: int | None = None
    rate_multipliers: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.evaluate is None and self.selection != Selection():
            raise ValueError(f"{self.name} selects by evaluations and has none: give evaluate")

    @cached_property
    def phase_ends(self) -> list[int]:
        """The step after the last one of every phase."""
        return (np.cumsum([phase.epochs for phase in self.plan]) * self.batches.steps_per_epoch).tolist()

    def transformation(self, index: int) -> optax.GradientTransformation:
        """The optimizer of a phase."""
        phase, end = self.plan[index], self.phase_ends[index]
        schedule = phase_schedule(phase, self.batches.steps_per_epoch)
        if self.rate_multipliers is not None:
            begin = end - phase.epochs * self.batches.steps_per_epoch
            schedule = _multiplied(schedule, jnp.asarray(self.rate_multipliers[begin:end], jnp.float32))
        return discriminative(self.optimizer, self.labels, phase.rates, schedule, self.clip_norm)

    def train_step(self, index: int) -> Callable[[TrainState, Any], tuple[TrainState, Mapping[str, jax.Array]]]:
        """The train step of a phase, whose devices each compute the gradient of their rows."""
        mesh, axis = self.batches.mesh(), self.batches.axis

        def shared(loss_fn: LossFn) -> GradFn:
            return sharded((self.value_and_grad or value_and_grad)(loss_fn), mesh, axis, self.carry_axis)

        return make_train_step(self.make_loss_fn(self.plan[index]), self.transformation(index), self.average, shared)

    def weights(self, state: TrainState) -> Any:
        """The parameters to evaluate and to return: the average where there is one."""
        return state.params if self.average is None else self.average.value(state.average)


def run_stage(run: Run, stage: Stage) -> StageResult:
    """Trains a stage through the phases of its plan and evaluates on the way.

    Between phases, groups that were already training keep their moments and new ones start fresh. A checkpoint holds
    everything that a step reads, so a resumed stage ends with the same bits as one that was never stopped.

    Args:
        run: where to log and save, and whether to resume.
        stage: what to train.

    Returns:
        Parameters and carry of the evaluation that was kept, or the last ones. The report holds `seconds`, `tokens`,
        `tokens_per_s`, `steps`, `steps_per_epoch`, `evaluations` (`step`, `epoch`, `phase` and metrics of each) and,
        where one was chosen, that one as `kept`; and `skipped_steps`, the number of steps whose gradient was not
        finite, if there were any.

    Raises:
        InputError: the loss was not finite for several steps in a row.
        Stopped: Ctrl-C or SIGTERM; the checkpoint is written.

    Examples:
        >>> from jaxft.optim.unfreezing import full
        >>> def loss_fn(params, carry, batch, key):
        ...     return jnp.sum((params["w"] - batch) ** 2), (carry, {})
        >>> stage = Stage(
        ...     "parabola", full(["all"], peak_rate=0.25, epochs=2), lambda phase: loss_fn, optax.sgd(1.0),
        ...     labels={"w": "all"}, clip_norm=None, params={"w": jnp.zeros(())}, carry=(), key=jax.random.key(0),
        ...     batches=Batches(lambda step: jnp.ones(()), steps_per_epoch=8, tokens_per_epoch=8),
        ...     evaluate=lambda params, carry: {"loss": float(abs(params["w"] - 1))},
        ... )
        >>> [round(evaluation["loss"], 3) for evaluation in run_stage(Run(None), stage).report["evaluations"]]
        [0.004, 0.0]
    """
    return _StageRun(run, stage).train()


def check_stage(stage: Stage) -> None:
    """Builds the optimizer of every phase and takes one abstract step with each, which computes and compiles nothing.

    Args:
        stage: what would be trained; its `params` and `carry` may be shapes, as from `jax.eval_shape`.

    Raises:
        ValueError, TypeError, InputError: what the first step of a run would raise.
    """
    batch = stage.batches.batch(0)
    for index in range(len(stage.plan)):
        tx = stage.transformation(index)
        create = partial(TrainState.create, tx=tx, average=stage.average)
        state = jax.eval_shape(
            lambda params, carry, key, create=create: create(params, key=key, carry=carry),
            stage.params,
            stage.carry,
            stage.key,
        )
        jax.eval_shape(stage.train_step(index), state, batch)


def describe_shares(stage: Stage) -> list[str]:
    """At most one line: how many rows of each batch a device and a process compute, where there are several devices."""
    shares = stage.batches.shares()
    if current_mesh() is None or not shares:
        return []
    rows, devices = stage.batches.rows, mesh_size(current_mesh())
    if shares["devices"] == 1:
        return [f"{stage.name}: one of {devices} devices computes each batch of {rows} rows"]
    own = f"{shares['rows_per_device']} of {rows} rows of each batch"
    line = f"{stage.name}: {own} on each of {shares['devices']} of {devices} devices"
    processes = jax.process_count()
    per_process = shares["rows_per_device"] * shares["devices"] // processes
    return [line if processes == 1 else f"{line}, {per_process} in each of {processes} processes"]


class _StageRun:
    """A stage under way: what the checkpoint holds besides the train state, and the progress bar."""

    def __init__(self, run: Run, stage: Stage):
        position = run.position(stage.name)
        self.run, self.stage, self.mesh = run, stage, stage.batches.mesh()
        self.first_phase: int = position.get("phase", 0)
        self.evaluations: list[dict[str, Any]] = position.get("evaluations", [])
        self.kept: dict[str, Any] = position.get("kept", {})
        self.seconds_before, self.started = position.get("seconds", 0.0), time.monotonic()
        self.total_steps = stage.phase_ends[-1]
        self.skipped_in_a_row = 0
        # copies: the first step is given this memory, and the caller may go on using its own
        meet()
        params, carry = from_first((stage.params, stage.carry))
        params, carry, key = jax.tree.map(lambda x: jnp.array(x, copy=True), (params, carry, stage.key))
        tx = stage.transformation(self.first_phase)
        state = TrainState.create(params, tx, key=key, carry=carry, average=stage.average)
        best: Any = _on_host(params, carry) if stage.selection.is_best else ()
        state, self.best = run.restore((state, best)) if position else (state, best)
        self.state: TrainState = self._placed(state)
        join(self.mesh)

    def train(self) -> StageResult:
        """Trains every phase that is left, and returns the result."""
        name, steps_done = self.stage.name, int(self.state.step)
        with self.run.deferring_signals(), progress_bar(name, self.total_steps, initial=steps_done) as self.bar:
            if mesh_size(self.mesh) < mesh_size(current_mesh()):
                for line in describe_shares(self.stage):
                    self.bar.write(f"{line}, because more cannot share it evenly", file=self.bar.fp)
            for index in range(self.first_phase, len(self.stage.plan)):
                self._train_phase(index)
                if self._is_over():
                    break
        return self._result()

    def _train_phase(self, index: int) -> None:
        stage, every = self.stage, self.stage.evaluate_every or self.stage.batches.steps_per_epoch
        phase, end = stage.plan[index], stage.phase_ends[index]
        begin = end - phase.epochs * stage.batches.steps_per_epoch
        tx = stage.transformation(index)
        if index > self.first_phase:
            opt_state: Any = tx.init(self.state.params)
            opt_state = migrate(self.state.opt_state, stage.plan[index - 1], opt_state)
            self.state = self._placed(replace(self.state, opt_state=opt_state))
        step = self._jitted(stage.train_step(index))

        def on_metrics(number: int, metrics: dict[str, float]) -> None:
            self._report_step(number, metrics, phase, is_first=number == begin)

        def on_pause(state: TrainState) -> None:
            self._save(state, index)
            self.run.stop_if_asked()

        while not self._is_over() and (done := self._steps_evaluated()) < end:
            until = min(end, begin + ((done - begin) // every + 1) * every)
            self.state = take_steps(
                self.state,
                step,
                self._batch,
                until,
                on_metrics=on_metrics,
                pause=self.run.pausing,
                on_pause=on_pause,
            )
            self._evaluate(until, phase)
            if until % stage.batches.steps_per_epoch == 0 or self._is_over() or self.run.pausing():
                on_pause(self.state)

    def _placed(self, state: TrainState) -> TrainState:
        """The state on the devices: the rows of the carry divided among them, everything else whole on each."""
        carry = place(state.carry, self.mesh, self.stage.carry_axis)
        return replace(place(replace(state, carry=()), self.mesh), carry=carry)

    def _jitted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        if self.mesh is None:
            return jax.jit(step, donate_argnums=0)
        if jax.process_count() > 1:
            step = with_wishes(step)
        shardings = jax.tree.map(lambda x: x.sharding, self.state)
        return jax.jit(step, donate_argnums=0, out_shardings=(shardings, NamedSharding(self.mesh, PartitionSpec())))

    def _batch(self, number: int) -> Any:
        batch = self.stage.batches.placed(number, self.mesh)
        if self.mesh is None or jax.process_count() == 1:
            return batch
        own = np.array([self.run.wishes()] * len(self.mesh.local_devices))
        return batch, place_part(own, self.mesh)

    def _report_step(self, number: int, metrics: dict[str, float], phase: Phase, is_first: bool) -> None:
        """Moves the bar, logs the metrics now and then, and gives up after too many steps that are not finite.

        The logged `tokens_per_s` is the mean since the stage began or resumed, compilation and evaluations included.
        """
        if wishes := [int(metrics.pop(name)) for name in sorted(metrics) if name.startswith(WISHES)]:
            stop, save = wishes
            self.run.agree(bool(stop), save)
        self.bar.update()
        self.skipped_in_a_row = 0 if math.isfinite(metrics["loss"]) else self.skipped_in_a_row + 1
        most = min(MAX_SKIPPED_STEPS, self.total_steps)
        name, batches = self.stage.name, self.stage.batches
        if max(self.skipped_in_a_row, metrics["skipped_in_a_row"]) >= most:
            checkpoint = f"; the last checkpoint in {self.run.folder} is kept" if self.run.position(name) else ""
            raise InputError(
                f"the loss or gradient of {name} was not finite for {most} steps, the last of them step {number + 1} "
                f"of {self.total_steps}: lower its peak rate in a new run{checkpoint}"
            )
        if number % self.run.log_every == 0 or is_first:
            epoch = number / batches.steps_per_epoch
            speed = _steps_per_second(self.bar) * batches.tokens_per_epoch / batches.steps_per_epoch
            shares = batches.shares()
            self.run.write(name, number, phase=phase.name, epoch=epoch, tokens_per_s=speed, **shares, **metrics)
            rate = max(value for metric, value in metrics.items() if metric.startswith("lr/"))
            show(self.bar, phase=phase.name, loss=metrics["loss"], lr=rate, tokens_per_s=speed)

    def _evaluate(self, step: int, phase: Phase) -> None:
        """Measures the held-out split and does what the selection decides by it."""
        stage, state = self.stage, self.state
        epoch = step / stage.batches.steps_per_epoch
        if stage.evaluate is None:
            self.evaluations.append({"step": step, "epoch": epoch, "phase": phase.name})
            return
        metrics = decided_by_first(stage.evaluate(stage.weights(state), state.carry))
        if stage.average is not None:
            state = replace(state, average=stage.average.observe(state.average, metrics["loss"]))
        self.run.write(stage.name, step, split="held-out", epoch=epoch, phase=phase.name, **metrics)
        scores = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.bar.write(f"{stage.name} epoch {epoch:.4g} ({phase.name}): {scores}", file=self.bar.fp)
        self.evaluations.append({"step": step, "epoch": epoch, "phase": phase.name, **metrics})
        if stage.selection.rate_scale is not None:
            state = replace(state, opt_state=rescale(state.opt_state, stage.selection.rate_scale(self.evaluations)))
        if stage.selection.is_best and (not self.kept or stage.selection.is_best(self.evaluations)):
            self.kept = self.evaluations[-1]
            self.best = _on_host(stage.weights(state), state.carry)
        self.state = self._placed(state)

    def _steps_evaluated(self) -> int:
        return self.evaluations[-1]["step"] if self.evaluations else 0

    def _is_over(self) -> bool:
        is_over = self.stage.selection.is_over
        return bool(self.evaluations) and (
            self._steps_evaluated() == self.total_steps or (is_over is not None and is_over(self.evaluations))
        )

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _save(self, state: TrainState, index: int) -> None:
        progress = {"evaluations": self.evaluations, "kept": self.kept, "seconds": self._seconds()}
        self.run.save((gathered(state), self.best), {"stage": self.stage.name, "phase": index, **progress})

    def _result(self) -> StageResult:
        batches, seconds, steps = self.stage.batches, self._seconds(), self._steps_evaluated()
        tokens = steps * batches.tokens_per_epoch // batches.steps_per_epoch
        report: dict[str, Any] = {
            "seconds": seconds,
            "tokens": tokens,
            "tokens_per_s": tokens / seconds,
            "steps": steps,
            "steps_per_epoch": batches.steps_per_epoch,
            **batches.shares(),
            "evaluations": self.evaluations,
        }
        if skipped := int(applied_metrics(self.state.opt_state)["skipped"]):
            report["skipped_steps"] = skipped
        if self.stage.selection.is_best:
            return StageResult(self.best["params"], self.best["carry"], {**report, "kept": self.kept})
        params, carry = self.stage.weights(self.state), self.state.carry
        if self.mesh is None:
            return StageResult(params, carry, report)
        return StageResult(**_on_host(params, carry), report=report)  # for whatever devices come next


def _on_host(params: Any, carry: Any) -> Mapping[str, Any]:
    """Copies in NumPy arrays: the next step is given the memory of the originals."""
    return jax.tree.map(np.array, gathered({"params": params, "carry": carry}))


def _steps_per_second(bar: tqdm) -> float:
    return (bar.n - bar.initial) / bar.format_dict["elapsed"]


def _multiplied(schedule: optax.Schedule, multipliers: jax.Array) -> optax.Schedule:
    return lambda count: schedule(count) * multipliers[jnp.minimum(jnp.asarray(count), len(multipliers) - 1)]
