"""Learning-rate schedules for fine-tuning, as `optax.Schedule`: slanted triangles, warm-up with decay, and SWA.

A schedule is a function of a step (an int, or a NumPy or JAX integer, traced or not) that returns a float32 scalar.
Steps count optimizer updates from 0. For every number of steps, a schedule is never negative, NaN or above its peak,
holds its last value after the end, and starts at the peak if warm-up has no steps. A schedule with `peak_value=1.0` is
dimensionless; `jaxft.discriminative` multiplies it by the rate of each group.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxft.optim.schedule_parts import (
    Schedule,
    as_float32,
    between,
    check_peak,
    check_steps,
    check_warmup,
    clipped_step,
    warmed_up,
)

_TINY = 1e-12  # replaces a number of steps of 0 in a denominator


def slanted_triangular_schedule(
    peak_value: float, total_steps: int, cut_frac: float = 0.1, ratio: float = 32.0
) -> Schedule:
    r"""Slanted triangular learning rates: a short linear rise, then a long linear decay.

    With $cut = T \cdot cut\_frac$, not rounded, and $p$ the height of the triangle at step $t$,

    $$\eta_t = \eta_{max} \frac{1 + p (ratio - 1)}{ratio}, \qquad
      p = t / cut \;\text{ if } t < cut, \;\text{ else }\; (T - t) / (T - cut).$$

    The paper rounds $cut$ down, but its denominator is correct only without rounding. Its formula is negative for most
    $T$ and divides by zero for $T < 1 / cut\_frac$. The two formulas agree if $cut$ is a whole number, and
    $\eta_{max} / ratio \le \eta_t \le \eta_{max}$ holds here for every $T \ge 1$.

    Args:
        peak_value: $\eta_{max}$, the largest learning rate.
        total_steps: $T$, in steps (not epochs); the schedule holds `peak_value / ratio` from this step on.
        cut_frac: fraction of the steps that rise, from 0 (start at the peak) to 1.
        ratio: how many times smaller the first and the last rate are than the peak, at least 1.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> schedule = slanted_triangular_schedule(0.01, total_steps=1000)
        >>> [round(float(schedule(step)), 6) for step in (0, 50, 100, 550, 1000, 2000)]
        [0.000312, 0.005156, 0.01, 0.005156, 0.000312, 0.000312]

    References:
        Howard and Ruder, `Universal Language Model Fine-tuning for Text Classification
        <https://arxiv.org/abs/1801.06146>`_, 2018, equation 3.
    """
    check_peak(peak_value)
    check_steps(total_steps)
    if not 0.0 <= cut_frac <= 1.0:
        raise ValueError(f"cut_frac is {cut_frac}: give a fraction of the steps, from 0 to 1")
    if not ratio >= 1.0:
        raise ValueError(f"ratio is {ratio}: give the peak divided by the last rate, at least 1")
    cut = total_steps * cut_frac

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clipped_step(step, total_steps)
        rise = t / max(cut, _TINY)
        fall = (total_steps - t) / max(total_steps - cut, _TINY)
        height = jnp.clip(jnp.minimum(rise, fall) if cut else fall, 0.0, 1.0)
        return peak_value * (height + (1.0 - height) / ratio)

    return schedule


def warmup_linear_decay_schedule(
    peak_value: float, warmup_steps: int, total_steps: int, end_value: float = 0.0
) -> Schedule:
    r"""Linear warm-up from zero to the peak, then linear decay from the peak, without a jump between them.

    $$\eta_t = \eta_{max} \, t / W \;\text{ if } t < W, \;\text{ else }\;
      \eta_{end} + (\eta_{max} - \eta_{end}) (T - t) / (T - W).$$

    The first of `warmup_steps` steps has a rate of 0, as in transformers' "linear".

    Args:
        peak_value: $\eta_{max}$, the learning rate at the end of warm-up.
        warmup_steps: $W$, in steps, from 0 to `total_steps`.
        total_steps: $T$, in steps, warm-up included.
        end_value: $\eta_{end}$, the learning rate from step $T$ on, at most `peak_value`.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> schedule = warmup_linear_decay_schedule(2e-5, warmup_steps=10, total_steps=100)
        >>> [round(float(schedule(step)), 8) for step in (0, 5, 10, 55, 100)]
        [0.0, 1e-05, 2e-05, 1e-05, 0.0]

    References:
        Devlin et al., `BERT <https://arxiv.org/abs/1810.04805>`_, 2019, appendix A.2.
    """
    decay_steps = max(total_steps - warmup_steps, 1)
    return _linear_decay(peak_value, warmup_steps, total_steps, end_value, lambda t: (total_steps - t) / decay_steps)


def bert_warmup_schedule(peak_value: float, warmup_steps: int, total_steps: int, end_value: float = 0.0) -> Schedule:
    r"""Warm-up and decay as in Google's BERT: the decay counts from step 0, so the rate drops after warm-up.

    $$\eta_t = \eta_{max} \, t / W \;\text{ if } t < W, \;\text{ else }\;
      \eta_{end} + (\eta_{max} - \eta_{end}) (1 - t / T).$$

    The jump at $t = W$ is a fraction $W / T$ of the peak, and no step reaches the peak unless $W = 0$. Use it only to
    reproduce the original. The arguments have the ranges of `warmup_linear_decay_schedule`.

    Args:
        peak_value: $\eta_{max}$, which the warm-up approaches.
        warmup_steps: $W$.
        total_steps: $T$.
        end_value: $\eta_{end}$.

    Returns:
        A schedule like `warmup_linear_decay_schedule`.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> schedule = bert_warmup_schedule(1e-4, warmup_steps=20, total_steps=100)
        >>> [round(float(schedule(step)), 7) for step in (0, 19, 20, 100)]
        [0.0, 9.5e-05, 8e-05, 0.0]

    References:
        `create_optimizer in google-research/bert <https://github.com/google-research/bert/blob/master/optimization.py>`_.
    """
    return _linear_decay(peak_value, warmup_steps, total_steps, end_value, lambda t: (total_steps - t) / total_steps)


def keras_bert_warmup_schedule(
    peak_value: float, warmup_steps: int, decay_steps: int, min_value: float = 0.0
) -> Schedule:
    r"""Warm-up and decay as in keras-bert's `AdamWarmup`, which counts its steps from 1.

    With $t' = t + 1$,

    $$\eta_t = \eta_{max} \, t' / W \;\text{ if } t' \le W, \;\text{ else }\;
      \eta_{min} + (\eta_{max} - \eta_{min}) (1 - \min(t', D) / D).$$

    The first step has a rate above 0, the last warm-up step (`warmup_steps - 1`) has the peak rate, and then the rate
    drops, as in `bert_warmup_schedule`.

    Args:
        peak_value: $\eta_{max}$, the learning rate at the last step of warm-up.
        warmup_steps: $W$, in steps, from 0 to `decay_steps`.
        decay_steps: $D$, in steps, warm-up included: the total that `train_steps` returns.
        min_value: $\eta_{min}$, the learning rate from step $D - 1$ on, or from step $D$ if warm-up takes all steps; at
            most `peak_value`.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, held after the end.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> schedule = keras_bert_warmup_schedule(1e-4, warmup_steps=20, decay_steps=100, min_value=1e-7)
        >>> [round(float(schedule(step)), 9) for step in (0, 19, 20, 99)]
        [5e-06, 0.0001, 7.9021e-05, 1e-07]

    References:
        `AdamWarmup in keras-bert <https://github.com/CyberZHG/keras-bert>`_.
    """

    def remaining(t: jax.Array) -> jax.Array:
        return jnp.maximum(decay_steps - (t + 1.0), 0.0) / decay_steps

    return _linear_decay(peak_value, warmup_steps, decay_steps, min_value, remaining, first_step=1)


def swa_schedule(schedule: optax.Schedule, start_step: int, swa_value: float, anneal_steps: int = 0) -> Schedule:
    r"""Any schedule until averaging starts, then a constant learning rate for stochastic weight averaging (SWA).

    With $s$ the start step and $a = \tfrac12 (1 - \cos(\pi \min(1, (t - s) / A)))$, or $a = 1$ where $A = 0$,

    $$\eta_t = schedule(t) \;\text{ if } t < s, \;\text{ else }\; a \, \eta_{swa} + (1 - a) \, schedule(s).$$

    With a dimensionless `schedule` and `swa_value` (0.1 is a tenth of each group's rate) the ratios between the groups
    stay. For the same absolute rate in all groups, give `discriminative` one schedule per group.

    Args:
        schedule: the schedule up to `start_step`.
        start_step: $s$, the first step of averaging.
        swa_value: $\eta_{swa}$, the learning rate while averaging, in the unit of `schedule`.
        anneal_steps: $A$, steps of the half cosine from `schedule` to `swa_value`; 0 switches at once.

    Returns:
        An `optax.Schedule`: a step counted from 0 -> () float32 learning rate, `swa_value` held after the annealing.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> schedule = swa_schedule(optax.constant_schedule(1e-5), start_step=100, swa_value=2e-6, anneal_steps=10)
        >>> [round(float(schedule(step)), 8) for step in (0, 100, 105, 110, 500)]
        [1e-05, 1e-05, 6e-06, 2e-06, 2e-06]

    References:
        Izmailov et al., `Averaging Weights Leads to Wider Optima and Better Generalization
        <https://arxiv.org/abs/1803.05407>`_, 2018.
    """
    if start_step < 0 or anneal_steps < 0:
        raise ValueError(f"start_step and anneal_steps are {start_step} and {anneal_steps}: give numbers from 0")
    check_peak(swa_value, "swa_value")
    schedule = as_float32(schedule)

    def joined(step: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(step, jnp.float32)
        before = schedule(jnp.minimum(jnp.asarray(step), start_step))
        annealed = 0.5 * (1.0 - jnp.cos(jnp.pi * jnp.clip((t - start_step) / max(anneal_steps, 1), 0.0, 1.0)))
        fraction = annealed if anneal_steps else jnp.ones_like(annealed)
        return jnp.where(t < start_step, before, between(before, swa_value, fraction))

    return joined


def train_steps(num_examples: int, batch_size: int, epochs: int, warmup_proportion: float = 0.1) -> tuple[int, int]:
    r"""The numbers of training and warm-up steps: $E \lceil N / B \rceil$, and a fraction of it, rounded down.

    Args:
        num_examples: $N$, examples in one epoch.
        batch_size: $B$, examples in a batch; the last batch of an epoch may be smaller and counts as a step.
        epochs: $E$, number of epochs.
        warmup_proportion: fraction of the steps that warm up, from 0 to 1.

    Returns:
        `(total_steps, warmup_steps)`.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> train_steps(num_examples=1024, batch_size=32, epochs=10, warmup_proportion=0.1)
        (320, 32)

    References:
        `calc_train_steps in keras-bert <https://github.com/CyberZHG/keras-bert>`_.
    """
    if num_examples < 1 or batch_size < 1 or epochs < 1:
        raise ValueError(
            f"num_examples, batch_size and epochs are {num_examples}, {batch_size} and {epochs}: give at least 1 each"
        )
    if not 0.0 <= warmup_proportion <= 1.0:
        raise ValueError(f"warmup_proportion is {warmup_proportion}: give a fraction of the steps, from 0 to 1")
    total_steps = -(-num_examples // batch_size) * epochs
    return total_steps, int(total_steps * warmup_proportion)


def _linear_decay(
    peak_value: float,
    warmup_steps: int,
    total_steps: int,
    end_value: float,
    remaining: Callable[[jax.Array], jax.Array],
    first_step: int = 0,
) -> Schedule:
    """Warm-up, then `end_value` plus the fraction `remaining(t)` of the way up to the peak; checks the arguments."""
    check_warmup(peak_value, warmup_steps, total_steps, end_value)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        t = clipped_step(step, total_steps)
        decay = between(end_value, peak_value, remaining(t))
        return warmed_up(t, warmup_steps, peak_value, decay, first_step=first_step)

    return schedule
