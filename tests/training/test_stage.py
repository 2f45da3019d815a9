"""A stage that is stopped anywhere and resumed ends with the same bits as one that never was."""

import os
import signal
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft.errors import InputError, Stopped
from jaxft.optim import averaging
from jaxft.optim.unfreezing import full, gradual_unfreezing
from jaxft.training.batches import Batches
from jaxft.training.metrics_log import read_metrics
from jaxft.training.run import Run, StageResult
from jaxft.training.selection import Selection, best_score
from jaxft.training.stage import Stage, check_stage, run_stage
from tests.faults.jobs import without_times

STEPS = 4  # per epoch
PARAMS = {"body": jnp.array([1.0, -2.0, 0.5]), "head": jnp.array([0.3, 0.1, -0.2])}
LABELS = {"body": "body", "head": "head"}


def loss_fn(params, carry, batch, key):
    """A regression with dropout and a carried mean, so that key and carry both matter."""
    body = params["body"] if key is None else params["body"] * jax.random.bernoulli(key, 0.7, (3,)).astype(jnp.float32)
    prediction = (batch["x"] * body[None, :]) @ params["head"]
    carry = 0.9 * carry + 0.1 * prediction.mean()
    return jnp.mean((prediction - batch["y"] + carry) ** 2), (carry, {})


def batch(step):
    rng = np.random.default_rng(step)
    return {"x": rng.normal(size=(8, 3)).astype(np.float32), "y": rng.normal(size=8).astype(np.float32)}


def toy_stage(make_batch=batch, plan=None, clip_norm: float | None = 1.0, evaluate=None, **options):
    def measure(params, carry):
        loss = float(loss_fn(params, carry, batch(10**6), None)[0])
        return {"loss": loss, "score": -loss}

    return Stage(
        name="toy",
        plan=plan or gradual_unfreezing(["body", "head"], 0.1, epochs_per_phase=2, final_epochs=2),
        make_loss_fn=lambda phase: loss_fn,
        optimizer=optax.adam(1.0),
        labels=LABELS,
        clip_norm=clip_norm,
        params=PARAMS,
        carry=jnp.zeros(()),
        key=jax.random.key(0),
        batches=Batches(make_batch, STEPS, tokens_per_epoch=8 * STEPS),
        evaluate=evaluate or measure,
        **options,
    )


def train(folder, run_class=Run, average=None, best=True, nan_from=None, every=None, stop=None, **options):
    def poisoned(step):
        made = batch(step)
        return made if nan_from is None or step < nan_from else {**made, "y": made["y"] * np.float32("nan")}

    with run_class(folder, log_every=1, checkpoint_seconds=1e9, **options) as run:
        selection = Selection(is_best=best_score("score") if best else None, is_over=stop)
        return run_stage(run, toy_stage(poisoned, average=average, evaluate_every=every, selection=selection))


class StoppedAt(Run):
    """A run that gets SIGTERM while it takes a given step."""

    def __init__(self, folder, stop_at, **options):
        super().__init__(folder, **options)
        self.steps_left = stop_at

    def pausing(self):
        self.steps_left -= 1
        if self.steps_left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().pausing()


def log_without_times(folder):
    return without_times(read_metrics(folder / "metrics.jsonl"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


@pytest.mark.parametrize("stop_at", [1, STEPS, STEPS + 1, 2 * STEPS, 2 * STEPS + 1, 3 * STEPS + 2, 4 * STEPS])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, uninterrupted, stop_at):
    whole_folder, whole = uninterrupted
    with pytest.raises(Stopped, match=r"SIGTERM.*--resume"):
        train(tmp_path, StoppedAt, stop_at=stop_at)
    resumed = train(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, (resumed.params, resumed.carry), (whole.params, whole.carry))
    assert resumed.report["evaluations"] == whole.report["evaluations"]
    assert log_without_times(tmp_path) == log_without_times(whole_folder)


FREQUENT = {"every": 3, "stop": lambda evaluations: len(evaluations) == 5}


@pytest.fixture(scope="module")
def often_evaluated():
    return train(None, **FREQUENT)


def test_evaluations_come_every_x_steps_and_at_the_end_of_a_phase_until_the_stage_is_over(often_evaluated):
    assert [evaluation["step"] for evaluation in often_evaluated.report["evaluations"]] == [3, 6, 8, 11, 14]
    assert often_evaluated.report["steps"] == 14


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", range(1, 13))
def test_stopped_anywhere_between_frequent_evaluations_equals_uninterrupted(tmp_path, often_evaluated, stop_at):
    whole = often_evaluated
    with pytest.raises(Stopped):
        train(tmp_path, StoppedAt, stop_at=stop_at, **FREQUENT)
    resumed = train(tmp_path, **FREQUENT)
    jax.tree.map(np.testing.assert_array_equal, (resumed.params, resumed.carry), (whole.params, whole.carry))
    assert resumed.report["evaluations"] == whole.report["evaluations"]


def test_stopped_again_and_again_with_an_average(tmp_path):
    whole = train(None, average=averaging.ema(0.5), best=False)
    for _ in range(3):
        with pytest.raises(Stopped):
            train(tmp_path, StoppedAt, stop_at=3, average=averaging.ema(0.5), best=False)
    resumed = train(tmp_path, average=averaging.ema(0.5), best=False)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)


def test_log_lines_after_the_checkpoint_are_dropped_on_resume(tmp_path, uninterrupted):
    with pytest.raises(Stopped):
        train(tmp_path, StoppedAt, stop_at=5)
    with open(tmp_path / "metrics.jsonl", "a") as log:
        log.write('{"stage": "toy", "step": 5, "loss": 1.0}\n{"stage": "toy", "st')
    train(tmp_path)
    assert log_without_times(tmp_path) == log_without_times(uninterrupted[0])


def test_the_best_epoch_is_returned_and_reported(uninterrupted):
    _, result = uninterrupted
    scores = [epoch["score"] for epoch in result.report["evaluations"]]
    assert result.report["kept"]["score"] == max(scores)
    loss = float(loss_fn(result.params, result.carry, batch(10**6), None)[0])
    assert loss == pytest.approx(-max(scores), rel=1e-6)


def test_the_log_has_the_rates_that_were_applied(uninterrupted):
    lines = [line for line in read_metrics(uninterrupted[0] / "metrics.jsonl") if "lr/head" in line]
    assert len(lines) == 4 * STEPS
    assert all(line["tokens_per_s"] > 0 for line in lines)
    assert [line["lr/body"] > 0 for line in lines] == [False] * 2 * STEPS + [True] * 2 * STEPS
    assert lines[0]["lr/head"] == pytest.approx(0.1 / 32)
    peak = max(line["lr/head"] for line in lines[2 * STEPS :])
    assert lines[-1]["lr/body"] == pytest.approx(lines[-1]["lr/head"] / 2.6)
    assert peak <= 0.1 + 1e-6


def test_a_loss_that_stays_nan_ends_the_run_and_keeps_the_last_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r"toy was not finite for 10 steps.*step 15 of 16.*rate.*is kept") as error:
        train(tmp_path, nan_from=STEPS + 1)
    assert "\n" not in str(error.value)
    with Run(tmp_path) as run:
        kept = run.position("toy")
    assert len(kept["evaluations"]) >= 1
    resumed = train(tmp_path)
    assert all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(resumed.params))


@pytest.mark.parametrize("stop_at", [None, 3, 9])
def test_skipped_steps_of_all_phases_are_counted_though_the_run_was_stopped(tmp_path, stop_at):
    bad = (1, 5, 6)

    def stage():
        return toy_stage(lambda step: {**batch(step), "y": batch(step)["y"] * np.float32("nan" if step in bad else 1)})

    if stop_at is not None:
        with StoppedAt(tmp_path, stop_at, checkpoint_seconds=1e9) as run, pytest.raises(Stopped):
            run_stage(run, stage())
    with Run(tmp_path) as run:
        assert run_stage(run, stage()).report["skipped_steps"] == 3


def test_a_stage_that_skips_nothing_says_nothing_of_it(uninterrupted):
    assert "skipped_steps" not in uninterrupted[1].report


def test_one_bad_batch_is_skipped_and_counted(tmp_path):
    with Run(tmp_path, log_every=1) as run:
        stage = toy_stage(
            lambda step: {**batch(step), "y": batch(step)["y"] * np.float32("nan" if step == 1 else 1)},
            plan=full(["body", "head"], 0.1),
            clip_norm=None,
            evaluate=lambda params, carry: {"loss": 0.0},
        )
        result = run_stage(run, stage)
    assert [line["skipped"] for line in read_metrics(tmp_path / "metrics.jsonl") if "skipped" in line] == [0, 1, 1, 1]
    assert result.report["skipped_steps"] == 1
    assert all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves((result.params, result.carry)))


def test_a_damaged_checkpoint_is_refused(tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, StoppedAt, stop_at=5)
    for path in tmp_path.glob("checkpoint*.safetensors"):
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors is damaged"):
        train(tmp_path)


def test_a_finished_stage_is_stored_and_read_back(tmp_path):
    result = StageResult(PARAMS, {"mean": jnp.ones(2)}, {"loss": 0.5})
    with Run(tmp_path) as run:
        assert run.finished("toy") is None
        run.finish({"toy": result})
        again = run.finished("toy")
    assert again is not None
    jax.tree.map(np.testing.assert_array_equal, (again.params, again.carry), (result.params, result.carry))
    assert again.report == result.report


def test_a_check_takes_shapes_and_every_phase_and_computes_nothing():
    traced = []

    def counted(params, carry, batch, key):
        traced.append(type(params["body"]))
        return loss_fn(params, carry, batch, key)

    stage = replace(toy_stage(), params=jax.eval_shape(lambda: PARAMS), make_loss_fn=lambda phase: counted)
    check_stage(stage)
    assert len(traced) >= len(stage.plan) == 2
    assert not any(issubclass(kind, np.ndarray) for kind in traced)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": full(["body", "head", "pooler"], 0.1, epochs=1)}, "groups that label no parameter: pooler"),
        ({"params": {"body": PARAMS["body"]}}, "differ in structure"),
        ({"batches": Batches(lambda step: {"x": batch(0)["x"][:, :2], "y": batch(0)["y"]}, 4, 4)}, "shapes"),
    ],
)
def test_a_check_raises_what_the_first_step_would(change, message):
    for attempt in (check_stage, partial(run_stage, Run(None))):
        with pytest.raises((ValueError, TypeError), match=message):
            attempt(replace(toy_stage(), **change))
