"""Made-up documents with the lengths of real reviews, for classifier_step.py and its peer."""

import csv
from typing import NamedTuple

import numpy as np

CLASSES, MAX_LENGTH, BPTT, EVALUATION_BATCH = 2, 1440, 72, 64
PAD = 1


class Size(NamedTuple):
    """Sizes of the model and of what it reads."""

    words: int
    embedding: int
    hidden: int
    layers: int
    batch: int
    documents: int


SIZES = {"full": Size(60_000, 400, 1152, 3, 64, 256), "small": Size(10_000, 128, 256, 2, 32, 1024)}


def documents(path: str, size: Size) -> list[np.ndarray]:
    """Random ids, none of them padding, int64; their lengths are those of whole batches of all the file's texts.

    The texts are put in order of length and cut into groups of `EVALUATION_BATCH`, of which evenly spaced ones are
    taken. Batches are then as even as those of a job on the whole file; a few hundred texts of their own would need
    more padding than thousands do.
    """
    csv.field_size_limit(1 << 30)
    with open(path, newline="", encoding="utf-8") as file:
        lengths = np.sort([len(row["text"].split()) for row in csv.DictReader(file)])[::-1]
    groups = lengths[: len(lengths) // EVALUATION_BATCH * EVALUATION_BATCH].reshape(-1, EVALUATION_BATCH)
    taken = size.documents // EVALUATION_BATCH
    middle = (np.arange(taken) + 0.5) * len(groups) / taken
    rng = np.random.default_rng(0)
    return [rng.integers(2, size.words, length) for length in groups[middle.astype(int)].ravel()]
