"""Weights of classes in a loss, so that a rare class counts as much as a user wants it to."""

import json
from collections.abc import Sequence

import numpy as np

from jaxft.errors import InputError


def class_weights(setting: str, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray | None:
    """The weight of each class, (C,) float32; None where all classes weigh the same.

    Args:
        setting: `none`; `balanced`, which gives a class of n among N texts of C classes the weight N / (C n); or a JSON
            object from names of classes to weights, 1 for those that it does not name.
        labels: (N,) int, the classes of the rows that are trained on.
        classes: names of the C classes.

    Examples:
        >>> class_weights("balanced", np.array([0, 0, 1, 1, 1, 1]), ["ham", "spam"]).tolist()
        [1.5, 0.75]
        >>> class_weights('{"spam": 3}', np.array([0, 1]), ["ham", "spam"]).tolist()
        [1.0, 3.0]

    Raises:
        InputError: `setting` is neither of these, or names another class or a weight that is not above 0.
    """
    if setting == "none":
        return None
    if setting == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        return (len(labels) / (len(classes) * np.maximum(counts, 1))).astype(np.float32)
    try:
        named = json.loads(setting)
    except ValueError:
        named = None
    if not isinstance(named, dict):
        raise InputError(
            f"--class-weights {setting} is not a known setting: give none, balanced, or a JSON object such as "
            f"'{json.dumps({classes[0]: 2})}'"
        )
    weights = np.ones(len(classes), np.float32)
    for name, weight in named.items():
        if name not in classes:
            raise InputError(f"--class-weights names {name!r}, which is not a class: give {', '.join(classes)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e6:
            raise InputError(f"--class-weights gives {name!r} the weight {weight!r}: give a number above 0, below 1e6")
        weights[classes.index(name)] = weight
    return weights
