"""What several tests of language models need: a table of letters, and a short way to run the job of ULMFiT on it."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxft.ulmfit.__main__ import main

SMALL = """
    --text.min-count 1 --lm.epochs 1 --lm.batch-size 4 --lm.bptt 8 --lm.valid-fraction 0.2
    --classifier.epochs 1 --classifier.batch-size 8 --classifier.max-length 16 --classifier.dev-fraction 0.2
    --classifier.plan last
""".split()  # noqa: SIM905 (reads like a command line)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "letters.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        for i in range(60):
            label = ("early", "late")[i % 2]
            letters = rng.choice(list("abcd" if label == "early" else "efgh"), rng.integers(3, 12))
            writer.writerow([" ".join(letters), label, "test" if i % 3 == 0 else "train"])
    return path


Job = Callable[..., Path]


@pytest.fixture
def job(table: Path, tmp_path: Path) -> Job:
    def run(name: str, *flags: str) -> Path:
        main(["--data", str(table), "--out", str(tmp_path / name), *SMALL, *flags])
        return tmp_path / name

    return run
