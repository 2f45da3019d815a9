"""Texts that are out of the ordinary: one very long text among short ones, and words of thousands of signs.

    python tests/benchmarks/odd_texts.py --run RUN --data reviews.csv [--rounds N] [--peer PYTHON_WITH_FASTAI]

Predictions by the model of a finished run are timed with the start of the program: of 300 short texts, of one of
1.1 MB, and of all together. Words of many signs are made into ids in one process each, whose processor time is counted
without imports; fastai gets the same text.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median

from tokenizing import OURS, PEER, timed

SHORT, LONG = 300, 1_100_000
"""texts, and characters of one"""
SIGNS = ("😀😃", "*_", "([")
PAIRS = (1_650, 3_300, 6_600)


def seconds_to_predict(run: str, texts: Sequence[str], folder: Path) -> float:
    """From the start of the command to its end."""
    path = folder / "texts.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    command = [sys.executable, "-m", "jaxft.predict", run, "--input", str(path), "--output", str(folder / "out.csv")]
    started = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Runs the rounds and prints two tables of medians."""
    from jaxft.data.corpus import open_corpus

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of a finished run")
    parser.add_argument("--data", required=True, help="imdb, or a file or folder that jaxft.ulmfit --data takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="a Python with fastai and spaCy")
    options = parser.parse_args()
    short = [document.text for document in islice(open_corpus(options.data).documents(), SHORT)]
    whole = " ".join(short)
    long = (whole * (LONG // len(whole) + 1))[:LONG]
    parts = {"short ones": short, "the long one": [long], "together": [*short, long]}
    print("| texts | s to predict |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, texts in parts.items():
            times = [seconds_to_predict(options.run, texts, Path(folder)) for _ in range(options.rounds)]
            print(f"| {name} | {median(times):.1f} |", flush=True)
        path = Path(folder) / "texts.json"
        sides = {"jaxft": (sys.executable, OURS), **({"fastai": (options.peer, PEER)} if options.peer else {})}
        print(f"\n| word | signs | {' | '.join(f'{name}, s' for name in sides)} |\n{'|---' * (2 + len(sides))}|")
        for signs in SIGNS:
            for pairs in PAIRS:
                path.write_text(json.dumps([signs * pairs]))
                rounds = [
                    [timed(python, code, path)[0] for python, code in sides.values()] for _ in range(options.rounds)
                ]
                seconds = " | ".join(f"{median(column):.3f}" for column in zip(*rounds, strict=True))
                print(f"| `{signs}`... | {2 * pairs:,} | {seconds} |", flush=True)


if __name__ == "__main__":
    main()
