"""Made-up documents with the lengths of real reviews, for classifier_step.py and its peer."""

import csv
from itertools import islice

import numpy as np

WORDS, EMBEDDING, HIDDEN, LAYERS, CLASSES = 10_000, 128, 256, 2, 2
BATCH, EVAL_BATCH, MAX_LENGTH, BPTT = 32, 64, 1440, 72
PAD = 1


def documents(path: str, count: int) -> list[np.ndarray]:
    """Random ids, none of them padding, as many as each of the first texts of a CSV file has words; int64."""
    csv.field_size_limit(1 << 30)
    rng = np.random.default_rng(0)
    with open(path, newline="", encoding="utf-8") as file:
        return [rng.integers(2, WORDS, len(row["text"].split())) for row in islice(csv.DictReader(file), count)]
