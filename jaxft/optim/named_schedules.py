"""Schedules by name, for command lines and configuration files: transformers' names and those of this package.

The values are optax's wherever optax has the schedule. All of them keep the promises of `jaxft.optim.schedules`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxft.optim.schedule_parts import (
    Schedule,
    as_float32,
    between,
    check_end,
    check_warmup,
    clipped_step,
    warmed_up,
)
from jaxft.optim.schedules import (
    bert_warmup_schedule,
    keras_bert_warmup_schedule,
    slanted_triangular_schedule,
    warmup_linear_decay_schedule,
)


def schedule_by_name(
    name: str, peak_value: float, total_steps: int, warmup_steps: int = 0, **options: float | str | None
) -> Schedule:
    """Makes the schedule of a name, for a command line or a configuration file; `SCHEDULE_NAMES` lists the names.

    Names shared with transformers give the values of transformers up to `total_steps`, and hold the last value after
    that (in transformers, cosine rises again). Their options are `num_cycles` (cosine, cosine_with_restarts,
    cosine_with_min_lr), `end_value` and `power` (polynomial), `timescale` (inverse_sqrt), `min_value`
    (cosine_with_min_lr), and `decay_steps`, `min_ratio`, `decay_type`, `warmup_type` and `num_cycles`
    (warmup_stable_decay: types are "cosine", "linear" or "1-sqrt"; by default a tenth of the steps decay). They also
    take transformers' names of these options: `lr_end`, `min_lr`, `min_lr_rate`, `num_decay_steps`, `num_stable_steps`
    and `min_lr_ratio`. The other names take the options of their functions: `end_value` (linear, bert), `min_value`
    (keras_bert), `cut_frac` and `ratio` (slanted_triangular); one_cycle takes `peak_frac`, `div_factor` and
    `final_div_factor`.

    The peak is at step `warmup_steps`, with two exceptions: keras_bert has it one step earlier, and bert does not reach
    it after a warm-up. Without warm-up the peak is at step 0, or where `cut_frac` and `peak_frac` place it.

    Args:
        name: one of `SCHEDULE_NAMES`.
        peak_value: the largest learning rate.
        total_steps: steps, warm-up included.
        warmup_steps: steps of warm-up, from 0 to `total_steps`; below it for "one_cycle", and 0 for "constant".
        **options: options of the schedule, as above.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: if a name or an option does not exist, or an argument is out of its range.

    Examples:
        >>> schedule = schedule_by_name("cosine", 1e-3, total_steps=100, warmup_steps=10)
        >>> [round(float(schedule(step)), 6) for step in (0, 10, 55, 100)]
        [0.0, 0.001, 0.0005, 0.0]

    References:
        `Schedules in transformers <https://huggingface.co/docs/transformers/main_classes/optimizer_schedules>`_.
    """
    if name not in _BY_NAME:
        raise ValueError(f"there is no schedule {name!r}: choose one of {', '.join(SCHEDULE_NAMES)}")
    check_warmup(peak_value, warmup_steps, total_steps, 0.0)
    base = _Base(peak_value, total_steps, warmup_steps)
    options = _in_our_names(name, options, base)
    known = list(inspect.signature(_BY_NAME[name]).parameters)[1:]
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"schedule {name!r} has no option {unknown[0]!r}: give {', '.join(known) or 'none'}")
    return _BY_NAME[name](base, **options)


def _in_our_names(name: str, options: Mapping[str, Any], base: "_Base") -> dict[str, Any]:
    """The options with our names in place of those of transformers, where None stands for an option not given.

    Raises:
        ValueError: two of them say the same.
    """
    ours: dict[str, Any] = {}
    for option, value in options.items():
        renamed, convert = _TRANSFORMERS_OPTIONS.get(name, {}).get(option, (option, None))
        if convert is not None and value is None:
            continue
        if renamed in ours:
            raise ValueError(f"option {option!r} of {name!r} says what another option says: give one of them")
        ours[renamed] = value if convert is None else convert(value, base)
    return ours


class _Base(NamedTuple):
    """The arguments that every named schedule takes."""

    peak_value: float
    total_steps: int
    warmup_steps: int

    @property
    def decay_steps(self) -> int:
        """Steps after warm-up, at least 1, to divide by."""
        return max(self.total_steps - self.warmup_steps, 1)

    def relative(self, value: float) -> float:
        """A learning rate as a fraction of the peak."""
        return value / self.peak_value if self.peak_value else 0.0


def _constant(base: _Base) -> Schedule:
    if base.warmup_steps:
        raise ValueError("schedule 'constant' has no warm-up: choose 'constant_with_warmup' or set warmup_steps=0")
    return _constant_with_warmup(base)


def _constant_with_warmup(base: _Base) -> Schedule:
    return _after_warmup(jnp.ones_like, base)


def _linear(base: _Base, end_value: float = 0.0) -> Schedule:
    return warmup_linear_decay_schedule(base.peak_value, base.warmup_steps, base.total_steps, end_value)


def _bert(base: _Base, end_value: float = 0.0) -> Schedule:
    return bert_warmup_schedule(base.peak_value, base.warmup_steps, base.total_steps, end_value)


def _keras_bert(base: _Base, min_value: float = 0.0) -> Schedule:
    return keras_bert_warmup_schedule(base.peak_value, base.warmup_steps, base.total_steps, min_value)


def _cosine(base: _Base, num_cycles: float = 0.5) -> Schedule:
    return _cosine_with_min_lr(base, num_cycles=num_cycles)


def _cosine_with_min_lr(base: _Base, min_value: float = 0.0, num_cycles: float = 0.5) -> Schedule:
    check_end(min_value, base.peak_value)
    low = base.relative(min_value)
    if num_cycles == 0.5:
        return _after_warmup(optax.cosine_decay_schedule(1.0, base.decay_steps, low), base)
    wave = _cosine_wave(num_cycles)
    return _after_warmup(lambda t: between(low, 1.0, wave(jnp.minimum(t / base.decay_steps, 1.0))), base)


def _cosine_wave(num_cycles: float) -> Callable[[jax.Array], jax.Array]:
    """From 1, through so many cycles of the cosine over a progress from 0 to 1."""
    if not num_cycles > 0.0:
        raise ValueError(f"num_cycles is {num_cycles}: give a positive number")
    return lambda progress: 0.5 * (1.0 + jnp.cos(2.0 * jnp.pi * num_cycles * progress))


def _cosine_with_restarts(base: _Base, num_cycles: int = 1) -> Schedule:
    if num_cycles < 1:
        raise ValueError(f"num_cycles of cosine_with_restarts is {num_cycles}: give at least 1")

    def decay(t: jax.Array) -> jax.Array:
        # optax.sgdr_schedule needs a whole number of steps per cycle, which is rare here.
        phase = jnp.where(t < base.decay_steps, (num_cycles * (t / base.decay_steps)) % 1.0, 1.0)
        return 0.5 * (1.0 + jnp.cos(jnp.pi * phase))

    return _after_warmup(decay, base)


def _polynomial(base: _Base, end_value: float = 1e-7, power: float = 1.0) -> Schedule:
    check_end(end_value, base.peak_value)
    if not power > 0.0:
        raise ValueError(f"power of the polynomial schedule is {power}: give a positive number")
    return _after_warmup(optax.polynomial_schedule(1.0, base.relative(end_value), power, base.decay_steps), base)


def _inverse_sqrt(base: _Base, timescale: int | None = None) -> Schedule:
    scale = (base.warmup_steps or 10_000) if timescale is None else timescale
    if not scale > 0:
        raise ValueError(f"timescale of inverse_sqrt is {timescale}: give a positive number of steps")
    return _after_warmup(lambda t: jnp.sqrt(scale / (t + scale)), base)


def _warmup_stable_decay(
    base: _Base,
    decay_steps: int | None = None,
    min_ratio: float = 0.0,
    decay_type: str = "cosine",
    warmup_type: str = "linear",
    num_cycles: float = 0.5,
) -> Schedule:
    falls: dict[str, Callable[[jax.Array], jax.Array]] = {
        "cosine": _cosine_wave(num_cycles),
        "linear": lambda p: 1.0 - p,
        "1-sqrt": lambda p: 1.0 - jnp.sqrt(p),
    }
    rises: dict[str, Callable[[jax.Array], jax.Array]] = {
        "cosine": lambda p: 0.5 * (1.0 - jnp.cos(jnp.pi * p)),
        "linear": lambda p: p,
        "1-sqrt": lambda p: 1.0 - jnp.sqrt(1.0 - p),
    }
    for option, value in (("decay_type", decay_type), ("warmup_type", warmup_type)):
        if value not in falls:
            raise ValueError(f"{option} is {value!r}: choose one of {', '.join(falls)}")
    if not 0.0 <= min_ratio <= 1.0:
        raise ValueError(f"min_ratio is {min_ratio}: give a fraction of the peak, from 0 to 1")
    after_warmup = base.total_steps - base.warmup_steps
    decay_steps = min(-(-base.total_steps // 10), after_warmup) if decay_steps is None else decay_steps
    if not 0 <= decay_steps <= after_warmup:
        raise ValueError(
            f"decay_steps is {decay_steps}: give a number from 0 to the {after_warmup} steps after warm-up"
        )
    decay_start = base.total_steps - decay_steps

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clipped_step(step, base.total_steps)
        progress = jnp.clip((t - decay_start) / max(decay_steps, 1), 0.0, 1.0)
        decayed = between(min_ratio, 1.0, falls[decay_type](progress))
        ended = jnp.where(t < base.total_steps, decayed, min_ratio)
        risen = rises[warmup_type](jnp.clip(t / max(base.warmup_steps, 1), 0.0, 1.0))
        return base.peak_value * jnp.where(t < base.warmup_steps, between(min_ratio, 1.0, risen), ended)

    return schedule


def _slanted_triangular(base: _Base, cut_frac: float | None = None, ratio: float = 32.0) -> Schedule:
    cut_frac = _peak_fraction("cut_frac", cut_frac, 0.1, base)
    return slanted_triangular_schedule(base.peak_value, base.total_steps, cut_frac, ratio)


def _one_cycle(
    base: _Base, peak_frac: float | None = None, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> Schedule:
    peak_frac = _peak_fraction("peak_frac", peak_frac, 0.3, base)
    if not peak_frac < 1.0:
        raise ValueError(
            f"the peak of one_cycle is at its last step, {base.total_steps}: give a smaller peak_frac or warmup_steps"
        )
    if base.warmup_steps:
        peak_frac += 0.5 / base.total_steps  # optax rounds down to a step, and 29 / 100 * 100 is below 29
    if not (div_factor >= 1.0 and final_div_factor >= 1.0):
        raise ValueError(
            f"div_factor and final_div_factor are {div_factor} and {final_div_factor}: give at least 1 each"
        )
    cycle = optax.cosine_onecycle_schedule(base.total_steps, 1.0, peak_frac, div_factor, final_div_factor)
    return _after_warmup(as_float32(cycle), base._replace(warmup_steps=0))


def _peak_fraction(option: str, value: float | None, default: float, base: _Base) -> float:
    """The place of the peak as a fraction of the steps: the end of warm-up, else the option, else its default."""
    if value is not None and base.warmup_steps:
        raise ValueError(f"{option} and warmup_steps both place the peak: give one of them")
    fraction = base.warmup_steps / base.total_steps if base.warmup_steps else default if value is None else value
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"{option} is {fraction}: give a fraction of the steps, from 0 to 1")
    return fraction


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

_Convert = Callable[[Any, _Base], Any]
_TRANSFORMERS_OPTIONS: dict[str, dict[str, tuple[str, _Convert]]] = {
    "polynomial": {"lr_end": ("end_value", lambda value, base: value)},
    "cosine_with_min_lr": {
        "min_lr": ("min_value", lambda value, base: value),
        "min_lr_rate": ("min_value", lambda value, base: value * base.peak_value),
    },
    "warmup_stable_decay": {
        "num_decay_steps": ("decay_steps", lambda value, base: value),
        "num_stable_steps": ("decay_steps", lambda value, base: base.total_steps - base.warmup_steps - value),
        "min_lr_ratio": ("min_ratio", lambda value, base: value),
    },
}
"""transformers' names of options, with our names and the value there"""


def _after_warmup(decay: Callable[[jax.Array], jax.typing.ArrayLike], base: _Base) -> Schedule:
    """Linear warm-up from 0, then the peak times `decay`, a function of the steps since warm-up."""

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clipped_step(step, base.total_steps)
        fraction = jnp.clip(jnp.asarray(decay(jnp.maximum(t - base.warmup_steps, 0.0)), jnp.float32), 0.0, 1.0)
        return base.peak_value * warmed_up(t, base.warmup_steps, 1.0, fraction)

    return schedule
