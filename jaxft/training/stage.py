"""Runs a stage of training through a plan of phases so that it can be stopped anywhere and resumed: every job's engine.

A run folder holds at most one checkpoint, of the stage under way, and one parameter file per finished stage.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.errors import InputError, Stopped
from jaxft.optim.accumulation import GradFn
from jaxft.optim.averaging import Average
from jaxft.optim.discriminative import discriminative, rescale
from jaxft.optim.phases import Phase, migrate, phase_schedule
from jaxft.training import checkpoint
from jaxft.training.report import MetricsLog, progress_bar, show, truncate_metrics
from jaxft.training.train_step import LossFn, TrainState, fit, make_train_step

MOST_SKIPPED = 10
"""steps in a row with a loss or gradient that is not finite, after which a run gives up"""


Judgement = Callable[[Sequence[Mapping[str, Any]]], bool]
"""what decides by the evaluations of a stage so far"""


@dataclass(frozen=True)
class StageResult:
    """What a finished stage hands on: parameters, what lives beside them, and what is reported of it."""

    params: Any
    carry: Any
    report: dict[str, Any]


def read_stage(folder: Path, stage: str) -> StageResult | None:
    """The result of a finished stage of the run in `folder`, None where it has not finished."""
    path = _stage_file(folder, stage)
    if not path.exists():
        return None
    tree = checkpoint.load_params(path)
    return StageResult(tree.get("params", {}), tree.get("carry", {}), checkpoint.read_meta(path)["report"])


def _stage_file(folder: Path, stage: str) -> Path:
    return folder / f"stage-{stage}.safetensors"


class Run:
    """A run folder in use: its metrics log, its checkpoint and its finished stages.

    Args:
        folder: an existing folder; None keeps nothing and logs nothing, for use from a notebook.
        log_every: steps between two lines of the log.
        checkpoint_seconds: seconds between two checkpoints.

    Examples:
        >>> with Run(None) as run:
        ...     run.write("stage", 0, loss=1.0)
        ...     run.position("stage"), run.finished("stage")
        ({}, None)
    """

    def __init__(self, folder: Path | None, *, log_every: int = 20, checkpoint_seconds: float = 120.0):
        self.folder, self.log_every, self.checkpoint_seconds = folder, log_every, checkpoint_seconds
        self._stop: str | None = None
        self._saved_at = time.monotonic()
        self._log: MetricsLog | None = None
        if folder is not None:
            truncate_metrics(folder / "metrics.jsonl", self._position().get("log_bytes", self._finished_bytes()))
            self._log = MetricsLog(folder / "metrics.jsonl")

    @property
    def _checkpoint(self) -> Path | None:
        return None if self.folder is None else self.folder / "checkpoint.safetensors"

    def _position(self) -> dict[str, Any]:
        path = self._checkpoint
        return checkpoint.read_meta(path) if path is not None and path.exists() else {}

    def _finished_bytes(self) -> int:
        """Size of the log when the last stage finished, 0 before the first did."""
        assert self.folder is not None
        files = self.folder.glob(_stage_file(self.folder, "*").name)
        return max((checkpoint.read_meta(file)["log_bytes"] for file in files), default=0)

    def finished(self, stage: str) -> StageResult | None:
        """The result of a stage that an earlier part of this run completed, else None."""
        return None if self.folder is None else read_stage(self.folder, stage)

    def finish(self, results: Mapping[str, StageResult]) -> None:
        """Stores the results of stages by their names, then drops the checkpoint that they came from."""
        if self.folder is None or self._checkpoint is None:
            return
        for stage, result in results.items():
            meta = {"report": result.report, "log_bytes": self._log_bytes()}
            tree = {"params": result.params, "carry": result.carry} if result.carry else {"params": result.params}
            checkpoint.save_params(_stage_file(self.folder, stage), tree, meta)
        self._checkpoint.unlink(missing_ok=True)

    def position(self, stage: str) -> dict[str, Any]:
        """What the checkpoint says of how far `stage` has got; empty where there is no checkpoint of it."""
        position = self._position()
        return position if position.get("stage") == stage else {}

    def restore(self, template: Any) -> Any:
        """The tree in the checkpoint."""
        assert self._checkpoint is not None
        return checkpoint.restore(self._checkpoint, template)[0]

    def save(self, tree: Any, position: Mapping[str, Any]) -> None:
        """Writes the checkpoint."""
        if self._checkpoint is not None:
            checkpoint.save(self._checkpoint, tree, {**position, "log_bytes": self._log_bytes()})
        self._saved_at = time.monotonic()

    def write(self, stage: str, step: int, **values: Any) -> None:
        """Adds a line to the metrics log."""
        if self._log is not None:
            self._log.write(stage, step, **values)

    def _log_bytes(self) -> int:
        return 0 if self._log is None else self._log.size()

    def pausing(self) -> bool:
        """Whether it is time for a checkpoint, because time has passed or the run is asked to stop."""
        return self._stop is not None or time.monotonic() - self._saved_at > self.checkpoint_seconds

    def stop_if_asked(self) -> None:
        """Raises `Stopped` once Ctrl-C or SIGTERM has come; the checkpoint has just been written."""
        if self._stop is not None:
            kept = "" if self.folder is None else f"; {self.folder} goes on from here with --resume"
            raise Stopped(f"stopped by {self._stop}{kept}")

    @contextmanager
    def deferring_signals(self) -> Iterator[None]:
        """Turns the first Ctrl-C or SIGTERM into a wish to stop after the step under way; a second one ends at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            self._stop = signal.Signals(number).name
            signal.signal(number, previous[signal.Signals(number)])

        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in previous:
                signal.signal(number, ask)
        except ValueError:  # signals reach the main thread only
            yield
            return
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            self._log.close()


def run_plan(
    run: Run,
    stage: str,
    plan: Sequence[Phase],
    *,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    labels: Any,
    clip_norm: float | None,
    params: Any,
    carry: Any,
    key: jax.Array,
    batch: Callable[[int], Any],
    steps_per_epoch: int,
    tokens_per_epoch: int,
    evaluate: Callable[[Any, Any], dict[str, float]],
    rate_factors: np.ndarray | None = None,
    average: Average | None = None,
    gradient: Callable[[LossFn], GradFn] | None = None,
    evaluate_every: int | None = None,
    factor: Callable[[Sequence[Mapping[str, Any]]], float] | None = None,
    keep: Judgement | None = None,
    stop: Judgement | None = None,
) -> StageResult:
    """Trains through the phases of `plan`, evaluating after every epoch, or more often.

    Between phases, groups that were already training keep their moments and new ones start fresh. A checkpoint holds
    everything that a step reads, so a resumed stage ends with the same bits as one that was never stopped.

    Args:
        run: where to log and save.
        stage: name of the stage in the log and in file names.
        plan: phases in order; each gives every group its rate, or None to freeze it.
        loss_fn: as in `jaxft.training.train_step`.
        optimizer: the update rule before its learning rate, as `jaxft.discriminative` takes it.
        labels: pytree like `params` with the group of each parameter.
        clip_norm: largest norm of the trainable gradient.
        params, carry, key: where to start.
        batch: `batch(i)` makes the batch of step i, counted from the start of the stage.
        steps_per_epoch, tokens_per_epoch: size of an epoch; tokens are for reporting.
        evaluate: `evaluate(params, carry)` gives metrics of the held-out split, `loss` among them.
        rate_factors: what the rate of each step of the stage is multiplied with, besides its schedule, (steps,) float.
        average: average of the parameters that is evaluated and returned in place of the raw ones.
        gradient: what makes the gradient of the loss; see `make_train_step`.
        evaluate_every: steps between two evaluations of a phase, the last of which is at its end; None evaluates after
            every epoch.
        factor: what all rates are multiplied with from now on, given all evaluations so far; see `jaxft.plateau`.
        keep: says, given all evaluations so far, whether to keep the weights of the last of them in place of those that
            were kept before; None returns the last weights.
        stop: says, given all evaluations so far, whether to end the stage.

    Returns:
        Parameters and carry of the evaluation kept; the report holds `seconds`, `tokens`, `tokens_per_s`, `steps`,
        `evaluations` (`step`, `epoch`, `phase` and metrics of each) and, where one was chosen, that one as `kept`.

    Raises:
        InputError: the loss was not finite for several steps in a row.
        Stopped: Ctrl-C or SIGTERM; the checkpoint is written.

    Examples:
        >>> from jaxft.optim.unfreezing import full
        >>> def loss_fn(params, carry, batch, key):
        ...     return jnp.sum((params["w"] - batch) ** 2), (carry, {})
        >>> result = run_plan(
        ...     Run(None), "parabola", full(["all"], peak_rate=0.25, epochs=2), loss_fn=loss_fn, optimizer=optax.sgd(1.0),
        ...     labels={"w": "all"}, clip_norm=None, params={"w": jnp.zeros(())}, carry=(), key=jax.random.key(0),
        ...     batch=lambda step: jnp.ones(()), steps_per_epoch=8, tokens_per_epoch=8,
        ...     evaluate=lambda params, carry: {"loss": float(abs(params["w"] - 1))},
        ... )
        >>> [round(evaluation["loss"], 3) for evaluation in result.report["evaluations"]]
        [0.004, 0.0]
    """
    position = run.position(stage)
    first = position.get("phase", 0)
    evaluations: list[dict[str, Any]] = position.get("evaluations", [])
    kept: dict[str, Any] = position.get("kept", {})
    before, started = position.get("seconds", 0.0), time.monotonic()
    ends = np.cumsum([phase.epochs for phase in plan]) * steps_per_epoch
    total = int(ends[-1])
    bad, most = 0, min(MOST_SKIPPED, total)

    def transformation(index: int) -> optax.GradientTransformation:
        phase, end = plan[index], int(ends[index])
        schedule = phase_schedule(phase, steps_per_epoch)
        if rate_factors is not None:
            factors = jnp.asarray(rate_factors[end - phase.epochs * steps_per_epoch : end], jnp.float32)
            schedule = _product(schedule, factors)
        return discriminative(optimizer, labels, phase.rates, schedule, clip_norm)

    def seconds() -> float:
        return before + time.monotonic() - started

    def weights(state: TrainState) -> Any:
        return state.params if average is None else average.value(state.average)

    # copies: the first step is given this memory, and the caller may go on using its own
    params, carry, key = jax.tree.map(lambda x: jnp.array(x, copy=True), (params, carry, key))
    state = TrainState.create(params, transformation(first), key=key, carry=carry, average=average)
    best: Any = jax.tree.map(np.array, {"params": params, "carry": carry}) if keep else ()
    if position:
        state, best = run.restore((state, best))

    def save(state: TrainState, phase: int) -> None:
        so_far = {"evaluations": evaluations, "kept": kept, "seconds": seconds()}
        run.save((state, best), {"stage": stage, "phase": phase, **so_far})

    def ended() -> bool:
        return bool(evaluations) and (evaluations[-1]["step"] == total or (stop is not None and stop(evaluations)))

    with run.deferring_signals(), progress_bar(stage, total, initial=int(state.step)) as bar:
        for index in range(first, len(plan)):
            phase, end = plan[index], int(ends[index])
            tx = transformation(index)
            if index > first:
                opt_state: Any = tx.init(state.params)
                state = replace(state, opt_state=migrate(state.opt_state, plan[index - 1], opt_state))
            step = jax.jit(make_train_step(loss_fn, tx, average, gradient), donate_argnums=0)

            begin = end - phase.epochs * steps_per_epoch

            def on_metrics(number: int, metrics: dict[str, float], phase: Phase = phase, begin: int = begin) -> None:
                nonlocal bad
                bar.update()
                bad = 0 if math.isfinite(metrics["loss"]) else bad + 1
                if max(bad, metrics["skipped_in_a_row"]) >= most:
                    checkpoint = f"; the last checkpoint in {run.folder} is kept" if run.position(stage) else ""
                    raise InputError(
                        f"the loss or gradient of {stage} was not finite for {most} steps, the last of them step "
                        f"{number + 1} of {total}: lower its peak rate in a new run{checkpoint}"
                    )
                if number % run.log_every == 0 or number == begin:
                    run.write(stage, number, phase=phase.name, epoch=number / steps_per_epoch, **metrics)
                    rate = max(value for name, value in metrics.items() if name.startswith("lr/"))
                    speed = (bar.n - bar.initial) / bar.format_dict["elapsed"] * tokens_per_epoch / steps_per_epoch
                    show(bar, phase=phase.name, loss=metrics["loss"], lr=rate, tokens_per_s=speed)

            def on_pause(state: TrainState, index: int = index) -> None:
                save(state, index)
                run.stop_if_asked()

            while not ended() and (done := evaluations[-1]["step"] if evaluations else 0) < end:
                every = evaluate_every or steps_per_epoch
                until = min(end, begin + ((done - begin) // every + 1) * every)
                state = fit(state, step, batch, until, on_metrics=on_metrics, pause=run.pausing, on_pause=on_pause)
                metrics = evaluate(weights(state), state.carry)
                if average is not None:
                    state = replace(state, average=average.observe(state.average, metrics["loss"]))
                epoch = until / steps_per_epoch
                run.write(stage, until, split="held-out", epoch=epoch, phase=phase.name, **metrics)
                bar.write(f"{stage} epoch {epoch:.4g} ({phase.name}): " + _listed(metrics), file=bar.fp)
                evaluations.append({"step": until, "epoch": epoch, "phase": phase.name, **metrics})
                if factor is not None:
                    state = replace(state, opt_state=rescale(state.opt_state, factor(evaluations)))
                if keep and (not kept or keep(evaluations)):
                    kept = evaluations[-1]
                    # copies: the next step is given the memory of these
                    best = jax.tree.map(np.array, {"params": weights(state), "carry": state.carry})
                if until % steps_per_epoch == 0 or ended() or run.pausing():
                    save(state, index)
                    run.stop_if_asked()
            if ended():
                break
    tokens = evaluations[-1]["step"] * tokens_per_epoch // steps_per_epoch
    report: dict[str, Any] = {
        "seconds": seconds(),
        "tokens": tokens,
        "tokens_per_s": tokens / seconds(),
        "steps": evaluations[-1]["step"],
        "steps_per_epoch": steps_per_epoch,
        "evaluations": evaluations,
    }
    if keep:
        report["kept"] = kept
        return StageResult(best["params"], best["carry"], report)
    return StageResult(weights(state), state.carry, report)


def _product(schedule: optax.Schedule, factors: jax.Array) -> optax.Schedule:
    return lambda count: schedule(count) * factors[jnp.minimum(jnp.asarray(count), len(factors) - 1)]


def _listed(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
