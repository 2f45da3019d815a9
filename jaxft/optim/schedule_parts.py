"""Building blocks of schedules: clipped steps, interpolation, warm-up, float32 values, and checks of arguments.

`jaxft.optim.schedules` and `jaxft.optim.named_schedules` use them.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxft.base.limits import FLOAT32_MAX, INT32_MAX

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]
"""An `optax.Schedule` that always returns an array."""


def clipped_step(step: jax.typing.ArrayLike, total_steps: int) -> jax.Array:
    """The step as float32, between 0 and `total_steps`; exact up to 2**24 steps."""
    return jnp.clip(jnp.asarray(step, jnp.float32), 0.0, float(total_steps))


def between(low: float | jax.Array, high: float, fraction: jax.Array) -> jax.Array:
    """Interpolates linearly: exactly `low` at fraction 0 and exactly `high` at 1."""
    # low + (high - low) * fraction would not be exact at 1; this sum rounds to outside the range if low is high.
    value = high * fraction + low * (1.0 - fraction)
    return jnp.clip(value, jnp.minimum(low, high), jnp.maximum(low, high))


def warmed_up(
    t: jax.Array, warmup_steps: int, peak_value: float, after: jax.Array, start_value: float = 0.0, first_step: int = 0
) -> jax.Array:
    """Linear warm-up from `start_value` to the peak, then `after`; step 0 is step `first_step` of the warm-up."""
    rise = between(start_value, peak_value, (t + first_step) / max(warmup_steps, 1))
    return jnp.where(t < warmup_steps, rise, after)


def as_float32(schedule: optax.Schedule) -> Schedule:
    """The schedule in float32, also under strict promotion, which refuses some of optax's schedules."""

    def float32_schedule(step: jax.typing.ArrayLike) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"):
            return jnp.asarray(schedule(step), jnp.float32)

    return float32_schedule


def is_finite(value: float) -> bool:
    """Whether a number is finite, also in float32."""
    return math.isfinite(value) and abs(value) <= FLOAT32_MAX


def check_peak(value: float, name: str = "peak_value") -> None:
    """Raises a ValueError for a learning rate that is negative or not finite."""
    if not (value >= 0.0 and is_finite(value)):
        raise ValueError(f"{name} is {value}: give a finite learning rate from 0")


def check_steps(total_steps: int) -> None:
    """Raises a ValueError for a schedule without steps, or with more than a counter of 32 bits holds."""
    if not 1 <= total_steps <= INT32_MAX:
        raise ValueError(f"the schedule has {total_steps} steps: give 1 to {INT32_MAX:,}")


def check_end(end_value: float, peak_value: float) -> None:
    """Raises a ValueError for a last learning rate that is negative, NaN or above the peak."""
    if not 0.0 <= end_value <= peak_value:
        raise ValueError(f"the last learning rate is {end_value}: give a number from 0 to the peak of {peak_value}")


def check_warmup(peak_value: float, warmup_steps: int, total_steps: int, end_value: float) -> None:
    """Raises a ValueError if the arguments of a schedule with warm-up and decay are out of range."""
    check_peak(peak_value)
    check_steps(total_steps)
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warm-up has {warmup_steps} steps: give a number from 0 to the total of {total_steps}")
    check_end(end_value, peak_value)
