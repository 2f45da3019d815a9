"""Fine-tuning for JAX: schedules, layer-wise optimizers and parameter averages for any pytree.

Everything here works with any optax training loop and any pytree of parameters; nothing imports a model, a tokenizer
or plotting code. In order: a schedule says how the learning rate moves, labels and rates say which parameters learn
how fast, `discriminative` makes one optimizer of them, an average follows the weights, a plan of phases says what is
frozen when, and monitors watch the evaluations.

    >>> import jax.numpy as jnp, optax, jaxft
    >>> params = {"body": jnp.ones((2, 2)), "head": jnp.ones(2)}
    >>> labels = jaxft.label_params(params, [("body", "body"), ("head", "head")])
    >>> rates = jaxft.discriminative_rates(["body", "head"], peak_rate=0.01)
    >>> schedule = jaxft.slanted_triangular_schedule(1.0, total_steps=100)
    >>> tx = jaxft.discriminative(optax.adam(1.0), labels, rates, schedule, clip_norm=1.0)
    >>> updates, opt_state = tx.update(params, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)

The jobs are modules, `python -m jaxft.ulmfit` and `python -m jaxft.predict`; `load` reads back what they trained.
"""

import os
from typing import TYPE_CHECKING

from jaxft.accumulation import accumulate_gradients
from jaxft.adam import adam_warmup, bert_adamw, scale_by_uncorrected_adam
from jaxft.averaging import Average, ema, nt_asgd, swa
from jaxft.groups import decay_mask, describe, discriminative_rates, label_params, layerwise_decay_rates
from jaxft.monitors import Monitor, early_stopping, plateau
from jaxft.named_schedules import SCHEDULE_NAMES, schedule_by_name
from jaxft.schedules import (
    bert_warmup_schedule,
    keras_bert_warmup_schedule,
    slanted_triangular_schedule,
    swa_schedule,
    train_steps,
    warmup_linear_decay_schedule,
)
from jaxft.train import TrainState, make_train_step
from jaxft.transforms import DiscriminativeState, applied_metrics, discriminative, rescale
from jaxft.unfreezing import (
    Phase,
    chain_thaw,
    fastai_unfreezing,
    format_plan,
    full,
    gradual_unfreezing,
    last_layer,
    learning_rates,
    migrate,
    phase_at,
    phase_schedule,
)

if TYPE_CHECKING:
    from jaxft.predict import TextClassifier


def load(run: str | os.PathLike[str]) -> "TextClassifier":
    """The finished model of a run, ready to predict: `jaxft.load("runs/ulmfit").predict(["A lovely film."])`.

    Args:
        run: the folder of a finished run, or the model's own folder.

    Raises:
        jaxft.errors.InputError: there is no finished model, or it is damaged.
    """
    from jaxft.predict import load as load_model  # brings in models and tokenizer

    return load_model(run)


__all__ = [
    "SCHEDULE_NAMES",
    "Average",
    "DiscriminativeState",
    "Monitor",
    "Phase",
    "TrainState",
    "accumulate_gradients",
    "adam_warmup",
    "applied_metrics",
    "bert_adamw",
    "bert_warmup_schedule",
    "chain_thaw",
    "decay_mask",
    "describe",
    "discriminative",
    "discriminative_rates",
    "early_stopping",
    "ema",
    "fastai_unfreezing",
    "format_plan",
    "full",
    "gradual_unfreezing",
    "keras_bert_warmup_schedule",
    "label_params",
    "last_layer",
    "layerwise_decay_rates",
    "learning_rates",
    "load",
    "make_train_step",
    "migrate",
    "nt_asgd",
    "phase_at",
    "phase_schedule",
    "plateau",
    "rescale",
    "scale_by_uncorrected_adam",
    "schedule_by_name",
    "slanted_triangular_schedule",
    "swa",
    "swa_schedule",
    "train_steps",
    "warmup_linear_decay_schedule",
]
