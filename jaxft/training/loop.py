"""The loop around a train step: it makes the next batch while the device computes, and reports metrics per step."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from jaxft.training.train_step import TrainState

Metrics = Mapping[str, Any]

FREEING_SECONDS = 5e-4
"""what another thread is given to free the memory of a step"""


def take_steps(
    state: TrainState,
    step: Callable[[TrainState, Any], tuple[TrainState, Metrics]],
    batch: Callable[[int], Any],
    until: int,
    *,
    on_metrics: Callable[[int, dict[str, float]], None],
    pause: Callable[[], bool] = lambda: False,
    on_pause: Callable[[TrainState], None] = lambda state: None,
) -> TrainState:
    """Takes steps until `state.step` is `until`.

    Args:
        state: where to start; it is given away (donated) to the first step.
        step: the jitted train step.
        batch: `batch(i)` makes the batch of step i; it runs in a thread, one step ahead of the device.
        until: number of the step to stop before.
        on_metrics: called with the number of each step and its metrics as floats; except on a CPU one step late, so
            that an accelerator never waits for the host. An exception that it raises ends the loop.
        pause: asked after each step whether to call `on_pause`; it may decide by the metrics that `on_metrics` has got.
        on_pause: called with the state between two steps, all metrics reported; the state must not be kept.

    Returns:
        The state after the last step.

    Examples:
        >>> import jax.numpy as jnp
        >>> def step(state, batch):
        ...     return TrainState(state.step + 1, state.params + batch, (), (), (), state.key), {"sum": state.params}
        >>> seen = []
        >>> state = TrainState(jnp.array(0), jnp.array(0), (), (), (), jax.random.key(0))
        >>> on_metrics = lambda number, metrics: seen.append((number, metrics["sum"]))
        >>> state = take_steps(state, step, lambda i: i, 3, on_metrics=on_metrics)
        >>> int(state.params), seen
        (3, [(0, 0.0), (1, 0.0), (2, 1.0)])
    """
    start = int(state.step)
    if start >= until:
        return state
    late: list[tuple[int, Metrics]] = []
    # A CPU gains nothing by it, and a step that is asked for before the last one has given its memory back takes more.
    at_once = jax.default_backend() == "cpu"

    def report() -> None:
        while late:
            number, metrics = late.pop()
            on_metrics(number, {name: float(value) for name, value in jax.device_get(dict(metrics)).items()})

    with ThreadPoolExecutor(max_workers=1) as ahead:
        upcoming = ahead.submit(batch, start)
        for number in range(start, until):
            ready = upcoming.result()
            if number + 1 < until:
                upcoming = ahead.submit(batch, number + 1)
            state, metrics = step(state, ready)
            report()
            late.append((number, metrics))
            if at_once:
                report()
                # The thread that ends a step wakes this one first, and then frees the step's memory: in one of 200
                # steps too late for the next, and the process would hold twice as much until it ends.
                time.sleep(FREEING_SECONDS)
            if pause():
                report()
                on_pause(state)
        report()
    return state
