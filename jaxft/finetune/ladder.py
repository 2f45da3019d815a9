"""The rows of `--ladder`: one technique of fine-tuning after another, each added to those before it.

The first row has one rate for all layers and nothing else. The other rows add the settings of the run, so a technique
that is switched off has no row.
"""

from dataclasses import replace
from typing import Any

from jaxft.errors import InputError
from jaxft.finetune.plan import SCHEDULES_WITHOUT_WARMUP
from jaxft.finetune.settings import Training

_OFF = Training()
TECHNIQUES: dict[str, dict[str, Any]] = {
    "layer-wise rates": {"layer_rates": _OFF.layer_rates, "head_rate": None},
    "warm-up": {"warmup": 0.0},
    "re-initialised layers": {"reinit_layers": 0},
    "weight averaging": {"swa_start": None, "ema_decay": 0.0},
    "frequent evaluation": {"evaluate_every": None},
}
"""the settings that switch each technique on, with their values while it is off"""
GROUPED = "grouped rates"
"""a row beside that of layer-wise rates; the rows below go on from layer-wise rates"""


def ladder_rows(train: Training, first_rate: float | None) -> dict[str, Training]:
    """The settings of every row, in order.

    Args:
        train: settings with every technique to compare switched on.
        first_rate: the learning rate of the first row; None takes that of `train`.

    Raises:
        InputError: no technique is switched on, or `first_rate` would be mistaken for one.

    Examples:
        >>> list(ladder_rows(Training(layer_rates="decay", warmup=50, evaluate_every=10), 1e-6))
        ['basic', '+ layer-wise rates', 'grouped rates', '+ warm-up', '+ frequent evaluation']
    """
    train = replace(train, ema_decay=train.ema_decay or 0.0)  # an average by default would be in every row
    off = {name: values for name, values in TECHNIQUES.items() if _is_on(train, values)}
    if train.schedule in SCHEDULES_WITHOUT_WARMUP:
        off.pop("warm-up", None)
    if train.keep == "last" and train.patience is None:
        off.pop("frequent evaluation", None)
    if not off:
        raise InputError("--ladder has no technique to compare: give --preset commonlit, or flags of --train")
    if first_rate not in (None, train.peak_rate) and "layer-wise rates" not in off:
        raise InputError(
            "--ladder-rate needs --train.layer-rates or --train.head-rate: give one, or leave --ladder-rate out"
        )
    current = replace(train, **{name: value for values in off.values() for name, value in values.items()})
    rows = {"basic": replace(current, peak_rate=first_rate or train.peak_rate)}
    for technique, values in off.items():
        current = replace(current, **{name: getattr(train, name) for name in values})
        rows[f"+ {technique}"] = current
        if technique == "layer-wise rates" and train.layer_rates == "decay":
            rows[GROUPED] = replace(current, layer_rates="grouped")
    return rows


def _is_on(train: Training, off: dict[str, Any]) -> bool:
    return any(getattr(train, name) != value for name, value in off.items())
