"""The whole of ULMFiT, from a file of reviews to the accuracy on its test rows, beside fastai's, in turn.

    python tests/benchmarks/whole_job.py --data reviews.csv --peer PYTHON_WITH_FASTAI --script fastai_ulmfit.py
        [--rounds N] [flags of python -m jaxft.ulmfit]

The peer's script takes the file and prints a JSON object with `total_s`, `peak_mb` and a list `test_accuracy`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median


def ours(flags: Sequence[str]) -> dict[str, float]:
    """Runs the job and reads its summary."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "jaxft.ulmfit", *flags, "--out", str(out)], check=True, capture_output=True
        )
        seconds = time.perf_counter() - started
        summary = json.loads((out / "summary.json").read_text())
    return {
        "seconds": seconds,
        "peak_mb": summary["peak_memory_mb"]["process"],
        "accuracy": summary["test"]["accuracy"],
    }


def peers(command: Sequence[str]) -> dict[str, float]:
    """Runs the peer's script and reads what it prints."""
    started = time.perf_counter()
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(answer.splitlines()[-1])
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": found["peak_mb"], "accuracy": found["test_accuracy"][-1]}


def main() -> None:
    """Runs the rounds and prints a markdown table of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a CSV file with columns text, label and split")
    parser.add_argument("--peer", required=True, help="Python with fastai")
    parser.add_argument("--script", required=True, help="the peer's script")
    parser.add_argument("--rounds", type=int, default=1)
    options, rest = parser.parse_known_args()
    runs: dict[str, list[dict[str, float]]] = {"jaxft": [], "fastai": []}
    for _ in range(options.rounds):
        runs["jaxft"].append(ours(["--data", options.data, *rest]))
        runs["fastai"].append(peers([options.peer, options.script, options.data]))
    middle = {name: {key: median(run[key] for run in own) for key in own[0]} for name, own in runs.items()}
    print("| | seconds | of the peer's | peak MB | of the peer's | accuracy |\n" + "|---" * 6 + "|")
    for name, own in middle.items():
        shares = {key: own[key] / middle["fastai"][key] for key in ("seconds", "peak_mb")}
        print(
            f"| {name} | {own['seconds']:,.0f} | {shares['seconds']:.2f} | {own['peak_mb']:,.0f} "
            f"| {shares['peak_mb']:.2f} | {100 * own['accuracy']:.1f} % |"
        )


if __name__ == "__main__":
    main()
