"""Decisions from the evaluations of a stage: which weights to keep, when to stop, how to scale the learning rates."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxft.optim.monitors import early_stopping, replay

Evaluations = Sequence[Mapping[str, Any]]
"""metrics of every evaluation of a stage so far, in order"""
Mode = Literal["max", "min"]
"""whether higher or lower scores are better"""


EVALUATE_EVERY = 25
"""steps between two evaluations where epochs have fewer"""


def evaluate_every(epochs: int, steps_per_epoch: int, min_steps: int) -> int | None:
    """Steps between two evaluations; None for an epoch, unless `min_steps` asks for more epochs, which are then short.

    Examples:
        >>> evaluate_every(3, 100, min_steps=100), evaluate_every(3, 4, min_steps=100)
        (None, 25)
    """
    return max(EVALUATE_EVERY, steps_per_epoch) if epochs * steps_per_epoch < min_steps else None


@dataclass(frozen=True)
class Selection:
    """What is decided after every evaluation; each function gets all evaluations so far.

    Attributes:
        is_best: whether to keep the weights of the last evaluation in place of those kept before; None keeps the last
            weights of the stage.
        is_over: whether to end the stage; None ends it with its plan.
        rate_scale: multiplier of all learning rates from now on, as `jaxft.plateau` gives it; None leaves them.
    """

    is_best: Callable[[Evaluations], bool] | None = None
    is_over: Callable[[Evaluations], bool] | None = None
    rate_scale: Callable[[Evaluations], float] | None = None


def best_score(score: str, mode: Mode = "max") -> Callable[[Evaluations], bool]:
    """Makes the function that says whether the last evaluation has the best finite score so far.

    Examples:
        >>> best_score("accuracy")([{"accuracy": 0.8}, {"accuracy": 0.9}])
        True
    """
    sign = 1 if mode == "max" else -1

    def is_best(evaluations: Evaluations) -> bool:
        *before, last = (sign * evaluation[score] for evaluation in evaluations)
        return math.isfinite(last) and all(last > other for other in before if math.isfinite(other))

    return is_best


def out_of_patience(score: str, patience: int | None, mode: Mode = "max") -> Callable[[Evaluations], bool] | None:
    """Makes the function that says whether `patience` evaluations in a row have not improved; None never stops.

    Examples:
        >>> is_over = out_of_patience("loss", 1, "min")
        >>> is_over([{"loss": 1.0}, {"loss": 2.0}])
        True
    """
    if patience is None:
        return None
    monitor = early_stopping(patience, mode=mode)
    return lambda evaluations: bool(replay(monitor, (evaluation[score] for evaluation in evaluations)).stop)


def within_standard_error(score: str, examples: int) -> Callable[[Evaluations], bool]:
    """Makes the function that says whether the last share of right answers is within a standard error of the best.

    Few examples cannot tell epochs apart, and an epoch that was lucky early has trained little.

    Args:
        score: name of a share, from 0 to 1, such as "accuracy".
        examples: how many examples the share is of.

    Examples:
        >>> within_standard_error("accuracy", 100)([{"accuracy": 0.9}, {"accuracy": 0.88}])
        True

    References:
        The one-standard-error rule of Breiman, Friedman, Olshen & Stone, Classification and Regression Trees, 1984,
        with the estimate of a share by Agresti & Coull, 1998, which is never 0 or 1.
    """

    def is_as_good(evaluations: Evaluations) -> bool:
        best = max(evaluation[score] for evaluation in evaluations)
        share = (best * examples + 2) / (examples + 4)
        return evaluations[-1][score] >= best - math.sqrt(share * (1 - share) / (examples + 4))

    return is_as_good
