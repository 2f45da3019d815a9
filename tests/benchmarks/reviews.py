"""Made-up documents with the lengths of real reviews, for classifier_step.py and its peer."""

import csv
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CLASSES, MAX_LENGTH, BPTT, EVALUATION_BATCH = 2, 1440, 72, 64
PAD = 1


class Size(NamedTuple):
    """Sizes of the model and of its batches, and how many of these are timed."""

    words: int
    embedding: int
    hidden: int
    layers: int
    batch: int
    taken: int


SIZES = {"full": Size(60_000, 400, 1152, 3, 64, 6), "small": Size(10_000, 128, 256, 2, 32, 32)}


def documents(path: str, size: Size) -> list[np.ndarray]:
    """Random ids, none of them padding, as many as each text of a CSV file has words; int64."""
    csv.field_size_limit(1 << 30)
    rng = np.random.default_rng(0)
    with open(path, newline="", encoding="utf-8") as file:
        return [rng.integers(2, size.words, len(row["text"].split())) for row in csv.DictReader(file)]


def sample(longest: Sequence[int], taken: int) -> list[int]:
    """The numbers of so many batches, spread evenly over all of them in the order of their longest texts."""
    order = np.argsort(longest, kind="stable")
    return [int(n) for n in order[((np.arange(taken) + 0.5) * len(order) / taken).astype(int)]]
