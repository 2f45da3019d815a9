"""Learning-rate schedules: pure functions from a step to a learning rate, as optax takes them.

For anyone with a training loop: every factory returns an `optax.Schedule`, a function of a step count (an int, a NumPy
or JAX integer, traced or not) that gives a float32 scalar. Steps count optimizer updates from 0. No schedule is ever
negative, NaN or above its peak, whatever the number of steps; past the end it holds its last value; and a warm-up of
zero steps starts at the peak. A schedule with `peak_value=1.0` is dimensionless, which is what
`jaxft.discriminative` multiplies with the rate of each group.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]
"""An `optax.Schedule` that always gives an array."""


def slanted_triangular_schedule(
    peak_value: float, total_steps: int, cut_frac: float = 0.1, ratio: float = 32.0
) -> Schedule:
    r"""Slanted triangular learning rates: a short linear rise, then a long linear decay.

    With $cut = T \cdot cut\_frac$, not rounded, and $p$ the height of the triangle at step $t$,

    $$\eta_t = \eta_{max} \frac{1 + p (ratio - 1)}{ratio}, \qquad
      p = t / cut \;\text{ if } t < cut, \;\text{ else }\; (T - t) / (T - cut).$$

    The paper floors $cut$ but keeps a denominator that is right only without rounding; that form turns negative for
    most $T$ and divides by zero for $T < 1 / cut\_frac$. Without the floor the two agree wherever the paper's is
    sound, and $\eta_{max} / ratio \le \eta_t \le \eta_{max}$ holds for every $T \ge 1$.

    Args:
        peak_value: the largest learning rate, $\eta_{max}$.
        total_steps: $T$, in steps (not epochs); the schedule holds `peak_value / ratio` from there on.
        cut_frac: share of the steps spent rising, from 0 (start at the peak) to 1.
        ratio: how many times smaller the first and last rates are than the peak, at least 1.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> schedule = slanted_triangular_schedule(0.01, total_steps=1000)
        >>> [round(float(schedule(step)), 6) for step in (0, 50, 100, 550, 1000, 2000)]
        [0.000312, 0.005156, 0.01, 0.005156, 0.000312, 0.000312]

    References:
        Howard and Ruder, `Universal Language Model Fine-tuning for Text Classification
        <https://arxiv.org/abs/1801.06146>`_, 2018, equation 3.
    """
    _check_peak(peak_value)
    _check_steps(total_steps)
    if not 0.0 <= cut_frac <= 1.0:
        raise ValueError(f"cut_frac is a share of the steps, from 0 to 1, not {cut_frac}")
    if not ratio >= 1.0:
        raise ValueError(f"ratio is how far the rate falls below the peak, at least 1, not {ratio}")
    cut = total_steps * cut_frac

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clock(step, total_steps)
        rise = t / max(cut, _TINY)
        fall = (total_steps - t) / max(total_steps - cut, _TINY)
        height = jnp.clip(jnp.minimum(rise, fall) if cut else fall, 0.0, 1.0)
        return peak_value * (height + (1.0 - height) / ratio)

    return schedule


def warmup_linear_decay_schedule(
    peak_value: float, warmup_steps: int, total_steps: int, end_value: float = 0.0
) -> Schedule:
    r"""Linear warm-up from zero to the peak, then linear decay that starts from the peak: no jump between them.

    $$\eta_t = \eta_{max} \, t / W \;\text{ if } t < W, \;\text{ else }\;
      \eta_{end} + (\eta_{max} - \eta_{end}) (T - t) / (T - W).$$

    The first of `warmup_steps` steps has a rate of 0, as in transformers' "linear".

    Args:
        peak_value: the learning rate when warm-up ends, $\eta_{max}$.
        warmup_steps: $W$, in steps, from 0 to `total_steps`.
        total_steps: $T$, in steps, warm-up included.
        end_value: the learning rate from step $T$ on, $\eta_{end}$, at most `peak_value`.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> schedule = warmup_linear_decay_schedule(2e-5, warmup_steps=10, total_steps=100)
        >>> [round(float(schedule(step)), 8) for step in (0, 5, 10, 55, 100)]
        [0.0, 1e-05, 2e-05, 1e-05, 0.0]

    References:
        Devlin et al., `BERT <https://arxiv.org/abs/1810.04805>`_, 2019, appendix A.2.
    """
    check_warmup(peak_value, warmup_steps, total_steps, end_value)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clock(step, total_steps)
        left = (total_steps - t) / max(total_steps - warmup_steps, 1)
        return warmed_up(t, warmup_steps, peak_value, between(end_value, peak_value, left))

    return schedule


def bert_warmup_schedule(peak_value: float, warmup_steps: int, total_steps: int, end_value: float = 0.0) -> Schedule:
    r"""Warm-up and decay as in Google's BERT: decay counts from step 0, so the rate drops when warm-up ends.

    $$\eta_t = \eta_{max} \, t / W \;\text{ if } t < W, \;\text{ else }\;
      \eta_{end} + (\eta_{max} - \eta_{end}) (1 - t / T).$$

    The jump at $t = W$ takes a share $W / T$ off the peak, which no step reaches unless $W = 0$. Use
    `warmup_linear_decay_schedule` unless the point is to repeat the original.

    Args:
        peak_value: the learning rate that warm-up heads for, $\eta_{max}$.
        warmup_steps: $W$, in steps, from 0 to `total_steps`.
        total_steps: $T$, in steps, warm-up included.
        end_value: the learning rate from step $T$ on, $\eta_{end}$, at most `peak_value`.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> schedule = bert_warmup_schedule(1e-4, warmup_steps=20, total_steps=100)
        >>> [round(float(schedule(step)), 7) for step in (0, 19, 20, 100)]
        [0.0, 9.5e-05, 8e-05, 0.0]

    References:
        `create_optimizer in google-research/bert <https://github.com/google-research/bert/blob/master/optimization.py>`_.
    """
    check_warmup(peak_value, warmup_steps, total_steps, end_value)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clock(step, total_steps)
        left = (total_steps - t) / total_steps
        return warmed_up(t, warmup_steps, peak_value, between(end_value, peak_value, left))

    return schedule


def keras_bert_warmup_schedule(
    peak_value: float, warmup_steps: int, decay_steps: int, min_value: float = 0.0
) -> Schedule:
    r"""Warm-up and decay as in keras-bert's `AdamWarmup`, which counts its steps from 1.

    With $t' = t + 1$,

    $$\eta_t = \eta_{max} \, t' / W \;\text{ if } t' \le W, \;\text{ else }\;
      \eta_{min} + (\eta_{max} - \eta_{min}) (1 - \min(t', D) / D).$$

    So the first step already moves the weights, the last warm-up step (`warmup_steps - 1`) runs at the peak, and the
    rate then drops, as in `bert_warmup_schedule`.

    Args:
        peak_value: the learning rate on the last step of warm-up, $\eta_{max}$.
        warmup_steps: $W$, in steps, from 0 to `decay_steps`.
        decay_steps: $D$, in steps, warm-up included: the total that `train_steps` gives.
        min_value: the learning rate from step $D - 1$ on, or from step $D$ where warm-up takes all steps,
            $\eta_{min}$, at most `peak_value`.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> schedule = keras_bert_warmup_schedule(1e-4, warmup_steps=20, decay_steps=100, min_value=1e-7)
        >>> [round(float(schedule(step)), 9) for step in (0, 19, 20, 99)]
        [5e-06, 0.0001, 7.9021e-05, 1e-07]

    References:
        `AdamWarmup in keras-bert <https://github.com/CyberZHG/keras-bert>`_.
    """
    check_warmup(peak_value, warmup_steps, decay_steps, min_value)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clock(step, decay_steps)
        left = jnp.maximum(decay_steps - (t + 1.0), 0.0) / decay_steps
        return warmed_up(t, warmup_steps, peak_value, between(min_value, peak_value, left), first=1)

    return schedule


def swa_schedule(schedule: optax.Schedule, start_step: int, swa_value: float, anneal_steps: int = 0) -> Schedule:
    r"""Any schedule until averaging starts, then the constant learning rate of stochastic weight averaging.

    With $s$ the start step and $a = \tfrac12 (1 - \cos(\pi \min(1, (t - s) / A)))$, or $a = 1$ where $A = 0$,

    $$\eta_t = schedule(t) \;\text{ if } t < s, \;\text{ else }\; a \, \eta_{swa} + (1 - a) \, schedule(s).$$

    Give a dimensionless `schedule` and `swa_value` (0.1: a tenth of each group's rate) to keep the ratios between
    groups; give `discriminative` a schedule per group to leave them.

    Args:
        schedule: the schedule up to `start_step`.
        start_step: $s$, the first step of averaging.
        swa_value: the learning rate while averaging, in the unit of `schedule`.
        anneal_steps: $A$, steps over which a half cosine leads from one to the other; 0 switches at once.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, `swa_value` held after the annealing.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> schedule = swa_schedule(optax.constant_schedule(1e-5), start_step=100, swa_value=2e-6, anneal_steps=10)
        >>> [round(float(schedule(step)), 8) for step in (0, 100, 105, 110, 500)]
        [1e-05, 1e-05, 6e-06, 2e-06, 2e-06]

    References:
        Izmailov et al., `Averaging Weights Leads to Wider Optima and Better Generalization
        <https://arxiv.org/abs/1803.05407>`_, 2018.
    """
    if start_step < 0 or anneal_steps < 0:
        raise ValueError(f"start_step and anneal_steps count steps from 0, not {start_step} and {anneal_steps}")
    _check_peak(swa_value, "swa_value")
    schedule = lenient(schedule)

    def joined(step: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(step, jnp.float32)
        before = schedule(jnp.minimum(jnp.asarray(step), start_step))
        # At A = 0 the quotient is 0 or a huge number, so the first averaging step needs its own branch below.
        share = 0.5 * (1.0 - jnp.cos(jnp.pi * jnp.clip((t - start_step) / max(anneal_steps, 1), 0.0, 1.0)))
        share = share if anneal_steps else jnp.ones_like(share)
        return jnp.where(t < start_step, before, between(before, swa_value, share))

    return joined


def train_steps(num_examples: int, batch_size: int, epochs: int, warmup_proportion: float = 0.1) -> tuple[int, int]:
    r"""The numbers of training and warm-up steps: $E \lceil N / B \rceil$, and the given share of it, rounded down.

    Args:
        num_examples: $N$, examples in one epoch.
        batch_size: $B$, examples in a batch; the last batch of an epoch may be smaller and counts.
        epochs: $E$.
        warmup_proportion: share of the steps that warm up, from 0 to 1.

    Returns:
        `(total_steps, warmup_steps)`.

    Raises:
        ValueError: where an argument is out of its range.

    Examples:
        >>> train_steps(num_examples=1024, batch_size=32, epochs=10, warmup_proportion=0.1)
        (320, 32)

    References:
        `calc_train_steps in keras-bert <https://github.com/CyberZHG/keras-bert>`_.
    """
    if num_examples < 1 or batch_size < 1 or epochs < 1:
        raise ValueError(
            f"num_examples, batch_size and epochs are at least 1, not {num_examples}, {batch_size}, {epochs}"
        )
    if not 0.0 <= warmup_proportion <= 1.0:
        raise ValueError(f"warmup_proportion is a share of the steps, from 0 to 1, not {warmup_proportion}")
    total_steps = -(-num_examples // batch_size) * epochs
    return total_steps, int(total_steps * warmup_proportion)


_TINY = 1e-12  # stands for a phase of no steps where one is divided by


def clock(step: jax.typing.ArrayLike, total_steps: int) -> jax.Array:
    """The step as float32, held at the end; exact up to 2**24 steps."""
    return jnp.clip(jnp.asarray(step, jnp.float32), 0.0, float(total_steps))


def between(low: float | jax.Array, high: float, share: jax.Array) -> jax.Array:
    """`low` at share 0 and `high` at share 1, both exactly, which `low + (high - low) * share` would miss."""
    mixed = high * share + low * (1.0 - share)  # an ulp outside the two where they are equal
    return jnp.clip(mixed, jnp.minimum(low, high), jnp.maximum(low, high))


def warmed_up(
    t: jax.Array, warmup_steps: int, peak_value: float, after: jax.Array, start_value: float = 0.0, first: int = 0
) -> jax.Array:
    """Linear warm-up from `start_value` to the peak, then `after`; step 0 counts as step `first` of the warm-up."""
    rise = between(start_value, peak_value, (t + first) / max(warmup_steps, 1))
    return jnp.where(t < warmup_steps, rise, after)


def lenient(schedule: optax.Schedule) -> Schedule:
    """The schedule for callers under strict promotion, too: some of optax multiply integers and floats inside."""

    def strict(step: jax.typing.ArrayLike) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"):
            return jnp.asarray(schedule(step), jnp.float32)

    return strict


def _check_peak(value: float, name: str = "peak_value") -> None:
    if not (value >= 0.0 and math.isfinite(value)):
        raise ValueError(f"{name} is a learning rate, finite and not negative, not {value}")


def _check_steps(total_steps: int) -> None:
    if not total_steps >= 1:
        raise ValueError(f"a schedule takes at least one step, not {total_steps}")


def check_end(end_value: float, peak_value: float) -> None:
    """Refuses a last learning rate that is negative, NaN or above the peak."""
    if not 0.0 <= end_value <= peak_value:
        raise ValueError(f"the last learning rate is from 0 to the peak of {peak_value}, not {end_value}")


def check_warmup(peak_value: float, warmup_steps: int, total_steps: int, end_value: float) -> None:
    """Refuses what no schedule with warm-up and decay can be made of."""
    _check_peak(peak_value)
    _check_steps(total_steps)
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warm-up takes from 0 to the {total_steps} steps there are, not {warmup_steps}")
    check_end(end_value, peak_value)
