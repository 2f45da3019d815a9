"""The loop takes each step once and reports it in order, before a pause and, on a CPU, before the next step."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft.training.loop import take_steps
from jaxft.training.train_step import TrainState, make_train_step

SGD = optax.sgd(0.25)


def loss_fn(params, carry, batch, key):
    """A parabola around the batch, and the sum of the batches as carry."""
    return jnp.sum((params["w"] - batch) ** 2), ({"sum": carry["sum"] + batch}, {})


def start():
    key, carry = jax.random.key(0), {"sum": jnp.zeros(2)}  # made here, for the first step may donate them
    return TrainState.create({"w": jnp.ones(2)}, SGD, key=key, carry=carry)


def test_the_loop_reports_every_step_once_in_order_and_before_a_pause():
    reported, pauses, asked, steps = [], [], [], itertools.count(1)

    def batch(number):
        asked.append(number)
        return jnp.full(2, float(number))

    def pause():
        return next(steps) % 2 == 0

    state = take_steps(
        start(),
        jax.jit(make_train_step(loss_fn, SGD), donate_argnums=0),
        batch,
        5,
        on_metrics=lambda number, metrics: reported.append((number, type(metrics["loss"]))),
        pause=pause,
        on_pause=lambda state: pauses.append((int(state.step), len(reported))),
    )
    assert int(state.step) == 5
    assert reported == [(number, float) for number in range(5)]
    assert pauses == [(2, 2), (4, 4)]
    assert asked == list(range(5))
    np.testing.assert_allclose(state.carry["sum"], 0 + 1 + 2 + 3 + 4)


def test_on_a_cpu_a_step_is_reported_before_the_next_one_is_asked_for():
    events: list[str | int] = []
    step = make_train_step(loss_fn, SGD)

    def noted(state, batch):
        events.append("step")
        return step(state, batch)

    take_steps(start(), noted, lambda i: jnp.zeros(2), 3, on_metrics=lambda number, _: events.append(number))
    assert events == ["step", 0, "step", 1, "step", 2]


def test_on_a_cpu_a_step_is_given_time_to_free_its_memory_before_the_next_one(monkeypatch):
    events = []
    monkeypatch.setattr("jaxft.training.loop.time.sleep", lambda seconds: events.append("pause"))

    def step(state, number):
        events.append("step")
        return TrainState(state.step + 1, (), (), (), (), state.key), {"number": number}

    take_steps(start(), step, lambda number: number, 2, on_metrics=lambda number, metrics: events.append("report"))
    assert events == ["step", "report", "pause"] * 2


def test_the_loop_goes_on_from_the_step_of_the_state():
    step = jax.jit(make_train_step(loss_fn, SGD))

    def run(state, until):
        return take_steps(state, step, lambda i: jnp.full(2, float(i)), until, on_metrics=lambda *_: None)

    whole, halves = run(start(), 4), run(run(start(), 2), 4)
    jax.tree.map(np.testing.assert_array_equal, whole.params, halves.params)


def test_an_error_while_reporting_ends_the_loop():
    def stop(number, metrics):
        raise RuntimeError(f"stop at {number}")

    with pytest.raises(RuntimeError, match="stop at 0"):
        take_steps(start(), make_train_step(loss_fn, SGD), lambda i: jnp.zeros(2), 3, on_metrics=stop)
