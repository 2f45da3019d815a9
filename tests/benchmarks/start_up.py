"""Time from the start of a job to its first training step, and from the start of other commands to their answer.

    python tests/benchmarks/start_up.py --data reviews.csv [--rounds N] [--run RUN] [flags of python -m jaxft.ulmfit]

The job starts with nothing stored, then with all that the first run stores: each round gives both runs a cache of their
own, empty for the first, of compiled programs and the ids of the texts. A finished run of any job, `--run`, answers for
one text.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from jaxft.__main__ import JOBS


def seconds_to_first_step(flags: Sequence[str], out: Path, cache: Path) -> float:
    """Starts the job, waits for the first line of its log, and stops it."""
    command = [sys.executable, "-m", "jaxft.ulmfit", *flags, "--out", str(out)]
    started = time.perf_counter()
    with subprocess.Popen(command, env={**os.environ, "JAXFT_CACHE": str(cache)}, stderr=subprocess.DEVNULL) as job:
        log = out / "metrics.jsonl"
        while not (log.exists() and log.stat().st_size):
            if job.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {job.returncode} before its first step")
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        job.kill()
    return seconds


def seconds_to_answer(*arguments: str) -> float:
    """The time that a command of jaxft takes as a whole."""
    started = time.perf_counter()
    command = [sys.executable, "-m", f"jaxft.{arguments[0]}", *arguments[1:]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Runs the rounds and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", help="folder of a finished run")
    options, rest = parser.parse_known_args()
    answers = {f"{job} --help": [job, "--help"] for job in JOBS}
    if options.run:
        answers["predict RUN --text"] = ["predict", options.run, "--text", "A lovely, warm film with a weak ending."]
    for name, arguments in answers.items():
        print(f"{name}: {median(seconds_to_answer(*arguments) for _ in range(options.rounds)):.1f} s", flush=True)
    first, second = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            cache, runs = Path(folder) / f"cache_{number}", Path(folder) / f"runs_{number}"
            for times, name in ((first, "first"), (second, "second")):
                times.append(seconds_to_first_step(["--data", options.data, *rest], runs / name, cache))
                print(f"{name} run: {times[-1]:.1f} s to the first step", flush=True)
    print(
        f"median {median(first):.1f} s, then {median(second):.1f} s: {median(second) / median(first):.2f} of the first"
    )


if __name__ == "__main__":
    main()
