"""The variants of Adam that BERT was fine-tuned with: Google's `bert_adamw` and keras-bert's `adam_warmup`.

Both differ from `optax.adamw` in epsilon and bias correction. They are complete optax optimizers; inside
`discriminative` their learning rate is 1.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxft.optim.groups import decay_mask
from jaxft.optim.schedule_parts import Schedule, as_float32
from jaxft.optim.schedules import keras_bert_warmup_schedule

PyTree = Any


class ScaleByUncorrectedAdamState(NamedTuple):
    """The state of `scale_by_uncorrected_adam`: float32 moments, also for parameters of other dtypes.

    Attributes:
        mu: the first moments.
        nu: the second moments.
        nu_max: the largest second moments so far; None without AMSGrad.
    """

    mu: PyTree
    nu: PyTree
    nu_max: PyTree | None


def scale_by_uncorrected_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6, amsgrad: bool = False
) -> optax.GradientTransformationExtraArgs:
    r"""Adam's scaling without bias correction, as in Google's BERT.

    $$m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad
      u_t = m_t / (\sqrt{v_t} + \epsilon),$$ with $\max_{i \le t} v_i$ in place of $v_t$ for AMSGrad.

    Args:
        b1: decay of the first moment, from 0 to 1.
        b2: decay of the second moment, from 0 to 1.
        eps: added to the root of the uncorrected second moment; positive, because a gradient that is always 0 gives
            0 / 0 without it.
        amsgrad: whether to divide by the largest second moment so far.

    Returns:
        An optax transformation that, like `optax.scale_by_adam`, has no learning rate and does not change the sign.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> tx = scale_by_uncorrected_adam(0.9, 0.999, eps=1e-8)
        >>> updates, _ = tx.update(jnp.array([2.0]), tx.init(jnp.array([1.0])))
        >>> round(float(updates[0]), 4)  # 0.1 / sqrt(0.001)
        3.1623

    References:
        `AdamWeightDecayOptimizer in google-research/bert
        <https://github.com/google-research/bert/blob/master/optimization.py>`_; Reddi et al., `On the Convergence of
        Adam and Beyond <https://arxiv.org/abs/1904.09237>`_, 2018, for AMSGrad.
    """
    _check_adam(b1, b2, eps)

    def init(params: PyTree) -> PyTree:
        mu, nu, *nu_max = (optax.tree.zeros_like(params, dtype=jnp.float32) for _ in range(3 if amsgrad else 2))
        return ScaleByUncorrectedAdamState(mu, nu, nu_max[0] if amsgrad else None)

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra_args: Any
    ) -> tuple[PyTree, PyTree]:
        del params, extra_args
        grads32 = optax.tree.cast(updates, jnp.float32)
        mu = optax.tree.update_moment(grads32, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(grads32, state.nu, b2, 2)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else None
        updates = jax.tree.map(
            lambda g, m, v: (m / (jnp.sqrt(v) + eps)).astype(g.dtype), updates, mu, nu_max if amsgrad else nu
        )
        return updates, ScaleByUncorrectedAdamState(mu, nu, nu_max)

    return optax.GradientTransformationExtraArgs(init, update)


def bert_adamw(
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float = 0.01,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    exclude: Sequence[str] = ("LayerNorm", "layer_norm", "bias"),
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""The optimizer that BERT was published with: Adam with decoupled weight decay and no bias correction.

    $$\theta_t = \theta_{t-1} - \eta_t \left( c_t \frac{m_t}{\sqrt{v_t} + \epsilon} + \lambda \theta_{t-1} \right),
      \qquad c_t = 1, \;\text{ or }\; \sqrt{1 - \beta_2^t} / (1 - \beta_1^t) \text{ with bias correction.}$$

    Without bias correction the first updates are about three times larger, which is one cause of unstable fine-tuning
    on small data sets. The default follows the published optimizer.

    Args:
        learning_rate: $\eta$, a number or a schedule; 1 inside `discriminative`.
        weight_decay: $\lambda$.
        b1: $\beta_1$.
        b2: $\beta_2$.
        eps: $\epsilon$, added to the root of the uncorrected second moment, positive.
        exclude: regular expressions; a parameter does not decay if one of them is found in its path.
        bias_correction: whether to correct the moments for their initial value of zero.

    Returns:
        A complete optax optimizer.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> params = {"kernel": jnp.array([1.0]), "bias": jnp.array([1.0])}
        >>> tx = bert_adamw(0.1, weight_decay=0.5)
        >>> updates, _ = tx.update({"kernel": jnp.zeros(1), "bias": jnp.zeros(1)}, tx.init(params), params)
        >>> {name: round(float(value[0]), 3) for name, value in optax.apply_updates(params, updates).items()}
        {'bias': 1.0, 'kernel': 0.95}

    References:
        Devlin et al., `BERT <https://arxiv.org/abs/1810.04805>`_, 2019; Zhang et al., `Revisiting Few-sample BERT
        Fine-tuning <https://arxiv.org/abs/2006.05987>`_, 2021, on bias correction.
    """
    _check_adam(b1, b2, eps, weight_decay)
    mask = decay_mask(exclude)
    return optax.chain(
        scale_by_uncorrected_adam(b1, b2, eps),
        optax.scale_by_schedule(_bias_correction(b1, b2)) if bias_correction else optax.identity(),
        optax.add_decayed_weights(weight_decay, mask) if weight_decay else optax.identity(),
        optax.scale_by_learning_rate(as_float32(learning_rate) if callable(learning_rate) else learning_rate),
    )


def adam_warmup(
    learning_rate: float,
    warmup_steps: int,
    decay_steps: int,
    min_lr: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-7,
    weight_decay: float = 0.0,
    weight_decay_pattern: Sequence[str] | None = None,
    amsgrad: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""keras-bert's `AdamWarmup`: Adam with warm-up and decay of the learning rate built in.

    $$\theta_t = \theta_{t-1} - \eta_t \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
      \left( \frac{m_t}{\sqrt{v_t} + \epsilon} + \lambda \theta_{t-1} \right)$$

    with $\eta_t$ from `keras_bert_warmup_schedule`, $t$ counted from 1. As in the original, the bias correction
    multiplies the weight decay too, and $\epsilon$ is added to the root of the uncorrected second moment.

    Args:
        learning_rate: the learning rate at the end of warm-up.
        warmup_steps: steps of linear warm-up.
        decay_steps: steps of warm-up and linear decay together: the total that `train_steps` returns.
        min_lr: the learning rate after `decay_steps`.
        b1: $\beta_1$.
        b2: $\beta_2$.
        eps: $\epsilon$, positive.
        weight_decay: $\lambda$.
        weight_decay_pattern: regular expressions (keras-bert takes substrings); a parameter decays only if one of them
            is found in its path. With `None` all parameters decay.
        amsgrad: whether to divide by the largest second moment so far.

    Returns:
        A complete optax optimizer.

    Raises:
        ValueError: if an argument is out of its range.

    Examples:
        >>> tx = adam_warmup(1e-3, warmup_steps=10, decay_steps=100)
        >>> updates, _ = tx.update(jnp.array([2.0]), tx.init(jnp.array([1.0])))
        >>> round(float(updates[0]), 6)  # the rate is a tenth of the peak
        -0.0001

    References:
        `AdamWarmup in keras-bert <https://github.com/CyberZHG/keras-bert>`_; Reddi et al., `On the Convergence of Adam
        and Beyond <https://arxiv.org/abs/1904.09237>`_, 2018, for AMSGrad.
    """
    _check_adam(b1, b2, eps, weight_decay)
    schedule = keras_bert_warmup_schedule(learning_rate, warmup_steps, decay_steps, min_lr)
    correction = _bias_correction(b1, b2)
    mask = decay_mask(exclude=(), include=weight_decay_pattern)
    return optax.chain(
        scale_by_uncorrected_adam(b1, b2, eps, amsgrad),
        optax.add_decayed_weights(weight_decay, mask) if weight_decay else optax.identity(),
        optax.scale_by_learning_rate(lambda step: schedule(step) * correction(step)),
    )


def _bias_correction(b1: float, b2: float) -> Schedule:
    """sqrt(1 - b2^t) / (1 - b1^t) for t = step + 1."""

    def one_minus_power(b: float, t: jax.Array) -> jax.Array:
        # expm1 keeps all digits; 1 - 0.999**1 in float32 has four.
        return -jnp.expm1(t * math.log(b)) if b else jnp.ones_like(t)

    def correction(step: jax.typing.ArrayLike) -> jax.Array:
        t = jnp.asarray(step, jnp.float32) + 1.0
        return jnp.sqrt(one_minus_power(b2, t)) / one_minus_power(b1, t)

    return correction


def _check_adam(b1: float, b2: float, eps: float, weight_decay: float = 0.0) -> None:
    if not (0.0 <= b1 < 1.0 and 0.0 <= b2 < 1.0):
        raise ValueError(f"b1 and b2 are {b1} and {b2}: give decay rates from 0 to below 1")
    if not eps >= jnp.finfo(jnp.float32).tiny:
        raise ValueError(f"eps is {eps}: give a number that is positive in float32")
    if not weight_decay >= 0.0:
        raise ValueError(f"weight_decay is {weight_decay}: give a number from 0")
