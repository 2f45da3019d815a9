"""Files of small made-up sentences with people and places, and settings under which a tagger learns them quickly."""

from pathlib import Path

import numpy as np

from jaxft.ner.settings import Settings, parse

NAMES, CITIES = ["ada", "grace", "alan"], ["london", "paris", "rome"]
QUICK = ["--train.epochs", "6", "--train.batch-size", "8", "--model.lstm-size", "8", "--model.embedding-size", "16"]
QUICK += ["--train.peak-rate", "0.03", "--model.dropout", "0.1", "--model.min-count", "1", "--train.min-steps", "0"]


def write(path: Path, count: int, seed: int, joined: str = " ") -> None:
    """A file of sentences with a token and its tag in each line."""
    rng = np.random.default_rng(seed)
    with open(path, "w") as file:
        for _ in range(count):
            for _ in range(rng.integers(1, 4)):
                file.write(f"{rng.choice(['so', 'then', 'and', 'today'])}{joined}O\n")
                if rng.random() < 0.6:
                    file.write(f"{rng.choice(NAMES)}{joined}B-PER\nbyron{joined}I-PER\n")
                if rng.random() < 0.4:
                    file.write(f"in{joined}O\n{rng.choice(CITIES)}{joined}B-LOC\n")
            file.write("\n")


def write_parts(folder: Path) -> str:
    """Files of train, dev and test, by what their names begin with."""
    for part, count, seed in (("train", 80, 0), ("dev", 16, 1), ("test", 24, 2)):
        write(folder / f"small.{part}", count, seed)
    return str(folder / "small")


def settings(data: str, out: Path, *flags: str) -> Settings:
    return parse(["--data", data, "--out", str(out), *QUICK, *flags])
