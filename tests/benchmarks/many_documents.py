"""Time and memory of what reads all documents, as their number grows: the text stage, epochs, batches and predictions.

    python tests/benchmarks/many_documents.py [--documents 100000 1000000] [--rows 10000 100000]

The documents are made up, of 60 words on average from a vocabulary with the frequencies of a natural one. Each number
has a process of its own.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WORDS = 200_000
SMALL = [
    "--preset",
    "small",
    "--lm.epochs",
    "0",
    "--classifier.plan",
    "full",
    "--classifier.epochs",
    "1",
    "--no-baseline",
]


def write_documents(path: Path, count: int) -> None:
    """A table of `text` and `label`."""
    rng = np.random.default_rng(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for start in range(0, count, 10_000):
            lengths = np.clip(rng.lognormal(3.9, 0.6, min(10_000, count - start)), 5, 600).astype(int)
            words = np.minimum(rng.zipf(1.3, lengths.sum()), WORDS)
            for number, part in enumerate(np.split(words, np.cumsum(lengths)[:-1])):
                writer.writerow([" ".join(f"w{word}" for word in part), "neg" if number % 2 else "pos"])


def timed(function: Callable[[], object]) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def peak_mb(who: int) -> float:
    """The most memory that this process, or the largest of those it has waited for, has had."""
    return resource.getrusage(who).ru_maxrss / 1024


def measure_documents(path: str) -> dict[str, float]:
    """The text stage, then an epoch's order and a batch of the classifier and of the language model."""
    from jaxft.data.length_batches import LengthBatches, length_widths
    from jaxft.data.windows import WindowStream
    from jaxft.ulmfit.inputs import read_texts
    from jaxft.ulmfit.settings import Settings

    settings, empty = Settings(data=path), peak_mb(resource.RUSAGE_SELF)
    results = {"text stage, s": timed(lambda: read_texts(settings, progress=False))}
    results["text stage, MB in the job"] = peak_mb(resource.RUSAGE_SELF) - empty
    results["text stage, MB in a worker process"] = peak_mb(resource.RUSAGE_CHILDREN)
    texts = read_texts(settings, progress=False)
    store, pad = texts.store, texts.store.vocabulary.pad
    widths = length_widths(int(store.lengths.max()), 384, 64)
    batches = LengthBatches(store.ids, store.offsets, texts.train, store.labels, 64, widths, pad)
    windows = WindowStream(store.ids, store.offsets, texts.lm_train, batch_size=64, bptt=72, seed=0)
    for name, batch in (
        ("classifier", lambda step: batches.training_batch(step, 0)),
        ("language model", windows.batch),
    ):
        first = timed(lambda batch=batch: batch(0))
        later = np.median([timed(lambda batch=batch, step=step: batch(step)) for step in range(1, 50)])
        results[f"{name}, order of an epoch, ms"] = 1e3 * (first - later)
        results[f"{name}, batch, ms"] = 1e3 * float(later)
    results["all, MB in the job"] = peak_mb(resource.RUSAGE_SELF) - empty
    return results


def measure_predictions(path: str, run: str) -> dict[str, float]:
    """`jaxft.predict` on a file."""
    command = [sys.executable, "-m", "jaxft.predict", run, "--input", path, "--output", f"{path}.answers.csv"]
    seconds = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    return {"prediction, s": seconds, "prediction, MB": peak_mb(resource.RUSAGE_CHILDREN)}


def main() -> None:
    """Measures each number of documents, then of rows, and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure = measure_predictions if len(options.child) == 2 else measure_documents
        print(json.dumps(measure(*options.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAXFT_CACHE"] = str(Path(folder) / "cache")
        train, run = Path(folder) / "train.csv", str(Path(folder) / "run")
        write_documents(train, 500)
        command = [sys.executable, "-m", "jaxft.ulmfit", "--data", str(train), "--out", run, *SMALL]
        subprocess.run(command, check=True, capture_output=True)
        print_table(Path(folder), options.documents, [])
        print_table(Path(folder), options.rows, [run])


def print_table(folder: Path, counts: list[int], arguments: list[str]) -> None:
    """A column for each number of documents, and how much the last is of the first."""
    columns = []
    for count in counts:
        path = folder / f"{count}.csv"
        write_documents(path, count)
        command = [sys.executable, __file__, "--child", str(path), *arguments]
        columns.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        path.unlink()
    print("\n| | " + " | ".join(f"{count:,}" for count in counts) + " | growth |\n|---|" + "---|" * (len(counts) + 1))
    for name in columns[0]:
        values = [column[name] for column in columns]
        growth = f"{values[-1] / values[0]:.2f}" if values[0] else ""
        print(f"| {name} | " + " | ".join(f"{value:,.1f}" for value in values) + f" | {growth} |")


if __name__ == "__main__":
    main()
