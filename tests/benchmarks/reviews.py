"""Made-up documents with the lengths of real reviews, for classifier_step.py and its peer."""

import csv
from itertools import islice
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
    """Random ids, none of them padding, as many as each of the first texts of a CSV file has words; int64."""
    csv.field_size_limit(1 << 30)
    rng = np.random.default_rng(0)
    with open(path, newline="", encoding="utf-8") as file:
        rows = islice(csv.DictReader(file), size.documents)
        return [rng.integers(2, size.words, len(row["text"].split())) for row in rows]
