"""Small made-up tables for every task of fine-tuning, and short ways to read the settings of a job and to run it."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.finetune.__main__ import main
from jaxft.finetune.settings import Settings, parse

GOOD, BAD = ["good", "fine", "great"], ["bad", "dull", "poor"]
FAST = ["--train.peak-rate", "0.003", "--train.dropout", "0", "--max-length", "20", "--train.warmup", "0"]
FAST += ["--train.head", "random", "--train.min-steps", "0", "--dev-fraction", "0.1", "--train.keep", "best"]


def table(path: Path, count: int, row: Callable[[np.random.Generator], dict[str, Any]], seed: int = 0) -> str:
    """A CSV file with rows that `row(rng)` makes."""
    rng = np.random.default_rng(seed)
    rows = [row(rng) for _ in range(count)]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def sentence(rng: np.random.Generator, *words: str) -> str:
    """The words in their places among 2 to 13 others."""
    result = rng.choice(["the", "film", "was", "it", "and", "very", "so", "this"], rng.integers(2, 14)).tolist()
    for word in words:
        result.insert(int(rng.integers(len(result) + 1)), word)
    return " ".join(result)


def review(rng: np.random.Generator) -> dict[str, Any]:
    """A text of one of two classes."""
    label = ["neg", "pos"][rng.integers(2)]
    return {"text": sentence(rng, str(rng.choice(GOOD if label == "pos" else BAD))), "label": label}


def graded(rng: np.random.Generator) -> dict[str, Any]:
    """A text with a number from 1000 to 1060, the more the better."""
    good = int(rng.integers(4))
    words = [str(rng.choice(GOOD)) for _ in range(good)] + [str(rng.choice(BAD)) for _ in range(3 - good)]
    return {"text": sentence(rng, *words), "label": 1000 + 20 * good}


def tagged(rng: np.random.Generator) -> dict[str, Any]:
    """A text with a set of up to three labels."""
    labels = [word for word in ("one", "two", "three") if rng.random() < 0.5]
    return {"text": sentence(rng, *labels), "label": "|".join(labels)}


def settings(checkpoint: Path, data: str, *flags: str) -> Settings:
    return parse(["--model", str(checkpoint), "--data", data, *FAST, *flags])


def run_job(checkpoint: Path, data: str, out: Path, *flags: str) -> dict[str, Any]:
    """Runs the command, and returns its summary."""
    main(["--model", str(checkpoint), "--data", data, "--out", str(out), *FAST, *flags])
    return json.loads((out / "summary.json").read_text())
