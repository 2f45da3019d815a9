"""Schedules by the names that command lines and configuration files use: transformers' names, and ours.

The values are optax's wherever optax has the schedule; the contract of `jaxft.optim.schedules` holds for all of them.
"""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxft.optim.schedules import (
    Schedule,
    bert_warmup_schedule,
    between,
    check_end,
    check_warmup,
    clock,
    keras_bert_warmup_schedule,
    lenient,
    slanted_triangular_schedule,
    warmed_up,
    warmup_linear_decay_schedule,
)


def schedule_by_name(
    name: str, peak_value: float, total_steps: int, warmup_steps: int = 0, **options: float | str | None
) -> Schedule:
    """The schedule of that name, for a command line or a configuration file; `SCHEDULE_NAMES` lists them.

    Names shared with transformers give the values that transformers gives, up to `total_steps`; from there on they
    hold (transformers' cosine rises again). Their options are `num_cycles` (cosine_with_restarts), `end_value` and
    `power` (polynomial), `timescale` (inverse_sqrt), `min_value` (cosine_with_min_lr) and `decay_steps`, `min_ratio`,
    `decay_type` (warmup_stable_decay: "cosine", "linear" or "1-sqrt"; the last tenth of the steps unless told).
    Ours take the options of their own functions: `end_value` (linear, bert), `min_value` (keras_bert), `cut_frac` and
    `ratio` (slanted_triangular); one_cycle takes `peak_frac`, `div_factor` and `final_div_factor`. The peak is at step
    `warmup_steps`, but a step earlier for keras_bert, and bert never reaches it after a warm-up. Without warm-up it is
    at step 0, but for slanted_triangular and one_cycle where `cut_frac` and `peak_frac` place it.

    Args:
        name: one of `SCHEDULE_NAMES`.
        peak_value: the largest learning rate.
        total_steps: steps, warm-up included.
        warmup_steps: steps, from 0 to `total_steps`, or below it for "one_cycle"; "constant" takes none.
        **options: as above.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: for an unknown name or option, or an argument out of its range.

    Examples:
        >>> schedule = schedule_by_name("cosine", 1e-3, total_steps=100, warmup_steps=10)
        >>> [round(float(schedule(step)), 6) for step in (0, 10, 55, 100)]
        [0.0, 0.001, 0.0005, 0.0]
    """
    if name not in _BY_NAME:
        raise ValueError(f"there is no schedule {name!r}; choose one of {', '.join(SCHEDULE_NAMES)}")
    check_warmup(peak_value, warmup_steps, total_steps, 0.0)
    known = list(inspect.signature(_BY_NAME[name]).parameters)[3:]
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"schedule {name!r} has no option {unknown[0]!r}; it takes {', '.join(known) or 'none'}")
    return _BY_NAME[name](peak_value, total_steps, warmup_steps, **options)


def _constant(peak_value: float, total_steps: int, warmup_steps: int) -> Schedule:
    if warmup_steps:
        raise ValueError("schedule 'constant' has no warm-up; choose 'constant_with_warmup' or set warmup_steps=0")
    return _after_warmup(lambda t: jnp.ones_like(t), peak_value, total_steps, 0)


def _constant_with_warmup(peak_value: float, total_steps: int, warmup_steps: int) -> Schedule:
    return _after_warmup(lambda t: jnp.ones_like(t), peak_value, total_steps, warmup_steps)


def _linear(peak_value: float, total_steps: int, warmup_steps: int, end_value: float = 0.0) -> Schedule:
    return warmup_linear_decay_schedule(peak_value, warmup_steps, total_steps, end_value)


def _bert(peak_value: float, total_steps: int, warmup_steps: int, end_value: float = 0.0) -> Schedule:
    return bert_warmup_schedule(peak_value, warmup_steps, total_steps, end_value)


def _keras_bert(peak_value: float, total_steps: int, warmup_steps: int, min_value: float = 0.0) -> Schedule:
    return keras_bert_warmup_schedule(peak_value, warmup_steps, total_steps, min_value)


def _cosine(peak_value: float, total_steps: int, warmup_steps: int) -> Schedule:
    return _cosine_with_min_lr(peak_value, total_steps, warmup_steps)


def _cosine_with_min_lr(peak_value: float, total_steps: int, warmup_steps: int, min_value: float = 0.0) -> Schedule:
    check_end(min_value, peak_value)
    alpha = min_value / peak_value if peak_value else 0.0
    decay = optax.cosine_decay_schedule(1.0, max(total_steps - warmup_steps, 1), alpha=alpha)
    return _after_warmup(decay, peak_value, total_steps, warmup_steps)


def _cosine_with_restarts(peak_value: float, total_steps: int, warmup_steps: int, num_cycles: int = 1) -> Schedule:
    if num_cycles < 1:
        raise ValueError(f"num_cycles counts the cycles of cosine_with_restarts, at least 1, not {num_cycles}")
    decay_steps = max(total_steps - warmup_steps, 1)

    def decay(t: jax.Array) -> jax.Array:
        # A cycle rarely takes a whole number of steps, which optax.sgdr_schedule asks for.
        phase = jnp.where(t < decay_steps, (num_cycles * (t / decay_steps)) % 1.0, 1.0)
        return 0.5 * (1.0 + jnp.cos(jnp.pi * phase))

    return _after_warmup(decay, peak_value, total_steps, warmup_steps)


def _polynomial(
    peak_value: float, total_steps: int, warmup_steps: int, end_value: float = 1e-7, power: float = 1.0
) -> Schedule:
    check_end(end_value, peak_value)
    if not power > 0.0:
        raise ValueError(f"power of the polynomial schedule is positive, not {power}")
    end = end_value / peak_value if peak_value else 0.0
    decay = optax.polynomial_schedule(1.0, end, power, max(total_steps - warmup_steps, 1))
    return _after_warmup(decay, peak_value, total_steps, warmup_steps)


def _inverse_sqrt(peak_value: float, total_steps: int, warmup_steps: int, timescale: int | None = None) -> Schedule:
    scale = (warmup_steps or 10_000) if timescale is None else timescale
    if not scale > 0:
        raise ValueError(f"timescale of inverse_sqrt is a positive number of steps, not {timescale}")
    return _after_warmup(lambda t: jnp.sqrt(scale / (t + scale)), peak_value, total_steps, warmup_steps)


def _warmup_stable_decay(
    peak_value: float,
    total_steps: int,
    warmup_steps: int,
    decay_steps: int | None = None,
    min_ratio: float = 0.0,
    decay_type: str = "cosine",
) -> Schedule:
    shapes: dict[str, Callable[[jax.Array], jax.Array]] = {
        "cosine": lambda p: 0.5 * (1.0 + jnp.cos(jnp.pi * p)),
        "linear": lambda p: 1.0 - p,
        "1-sqrt": lambda p: 1.0 - jnp.sqrt(p),
    }
    if decay_type not in shapes:
        raise ValueError(f"decay_type is one of {', '.join(shapes)}, not {decay_type!r}")
    if not 0.0 <= min_ratio <= 1.0:
        raise ValueError(f"min_ratio is a share of the peak, from 0 to 1, not {min_ratio}")
    decay_steps = min(-(-total_steps // 10), total_steps - warmup_steps) if decay_steps is None else decay_steps
    if not 0 <= decay_steps <= total_steps - warmup_steps:
        raise ValueError(
            f"decay_steps is from 0 to the {total_steps - warmup_steps} steps after warm-up, not {decay_steps}"
        )
    stable_steps = total_steps - warmup_steps - decay_steps

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clock(step, total_steps)
        progress = jnp.clip((t - warmup_steps - stable_steps) / max(decay_steps, 1), 0.0, 1.0)
        ended = jnp.where(t < total_steps, between(min_ratio, 1.0, shapes[decay_type](progress)), min_ratio)
        return peak_value * warmed_up(t, warmup_steps, 1.0, ended, start_value=min_ratio)

    return schedule


def _slanted_triangular(
    peak_value: float, total_steps: int, warmup_steps: int, cut_frac: float | None = None, ratio: float = 32.0
) -> Schedule:
    cut_frac = _peak_place("cut_frac", cut_frac, 0.1, total_steps, warmup_steps)
    return slanted_triangular_schedule(peak_value, total_steps, cut_frac, ratio)


def _one_cycle(
    peak_value: float,
    total_steps: int,
    warmup_steps: int,
    peak_frac: float | None = None,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    place = _peak_place("peak_frac", peak_frac, 0.3, total_steps, warmup_steps)
    if not place < 1.0:
        raise ValueError(f"the peak of one_cycle leaves steps to come down in, unlike a peak at step {total_steps}")
    if warmup_steps:
        place += 0.5 / total_steps  # optax rounds down to a step, and 29 / 100 * 100 is below 29
    if not (div_factor >= 1.0 and final_div_factor >= 1.0):
        raise ValueError(f"div_factor and final_div_factor are at least 1, not {div_factor} and {final_div_factor}")
    cycle = optax.cosine_onecycle_schedule(total_steps, 1.0, place, div_factor, final_div_factor)
    return _after_warmup(lenient(cycle), peak_value, total_steps, 0)


def _peak_place(option: str, value: float | None, default: float, total_steps: int, warmup_steps: int) -> float:
    if value is not None and warmup_steps:
        raise ValueError(f"{option} and warmup_steps both place the peak; give one of them")
    place = warmup_steps / total_steps if warmup_steps else default if value is None else value
    if not 0.0 <= place <= 1.0:
        raise ValueError(f"{option} is a share of the steps, from 0 to 1, not {place}")
    return place


_BY_NAME: dict[str, Callable[..., Schedule]] = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "polynomial": _polynomial,
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "warmup_stable_decay": _warmup_stable_decay,
    "slanted_triangular": _slanted_triangular,
    "bert": _bert,
    "keras_bert": _keras_bert,
    "one_cycle": _one_cycle,
}

SCHEDULE_NAMES = tuple(_BY_NAME)


def _after_warmup(
    decay: Callable[[jax.Array], jax.typing.ArrayLike], peak_value: float, total_steps: int, warmup_steps: int
) -> Schedule:
    """Linear warm-up from 0, then `decay` of the steps since, as a share of the peak."""

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clock(step, total_steps)
        share = jnp.clip(jnp.asarray(decay(jnp.maximum(t - warmup_steps, 0.0)), jnp.float32), 0.0, 1.0)
        return peak_value * warmed_up(t, warmup_steps, 1.0, share)

    return schedule
