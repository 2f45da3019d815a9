"""Ends training jobs at random moments and file operations, resumes them, and compares with runs that nobody ended.

Run it from the root of the repository: `python -m tests.faults.kills --tries 200 --seed 0 --job ner`. It says what did
not survive, and ends with status 1 then.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.base.files import cache_folder
from tests.faults.jobs import SETTINGS, differences, outcome, strays, write_inputs
from tests.faults.process import Ended, Fault, Starter, fresh_folder

HOW = {"operation": 0.5, "moment": 0.15, "signal": 0.2, "start": 0.15}
"""share of the ways to end a job: a kill at a file operation, or at a moment; a signal that a job answers, at a moment;
the same while it starts and imports"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_SECONDS = (0.4, 6.0)
"""between which a process is ended while it starts; before, Python itself starts, and prints what it makes of Ctrl-C"""
ENDS = 4
"""the most times that a try ends its job, which is resumed in between"""
SOON = 40
"""file operations in which a resumed job is killed"""


@dataclass
class Reference:
    """A job that nobody ended: its arguments, what it left, and how it ran."""

    arguments: list[str]
    expected: dict[str, Any]
    ended: Ended


@dataclass
class Try:
    """What a try did, and what was wrong."""

    job: str
    done: list[str] = field(default_factory=list)
    ends: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.job}: {', then '.join(self.done)}: {'; '.join(self.wrong) or 'survived'}"


def reference(starter: Starter, folder: Path, job: str, arguments: list[str], compiled: Path) -> Reference:
    """Runs a job to its end."""
    place = fresh_folder(folder / job, compiled)
    ended = starter.run(place, job, [*arguments, "--out", str(place / "run")])
    if ended.status:
        raise SystemExit(f"{job} does not run: {ended.output}")
    return Reference(arguments, outcome(place / "run"), ended)


def attempt(starter: Starter, place: Path, job: str, reference: Reference, rng: np.random.Generator) -> Try:
    """Ends a job several times, asks its unfinished run for a prediction, resumes it and compares."""
    run, result = place / "run", Try(job)
    arguments = [*reference.arguments, "--out", str(run)]
    for _ in range(rng.integers(1, ENDS + 1)):
        if not end_somehow(starter, place, arguments, reference.ended, rng, result):
            break
        if rng.random() < 1 / 3:
            predict(starter, place, run, result)
    ended = starter.run(place, job, [*arguments, *(["--resume"] if run.exists() else [])])
    if ended.status or not ended.is_tidy:
        result.wrong.append(f"resumed with status {ended.status}: {ended.output[-2000:]}")
    elif different := differences(run, reference.expected):
        result.wrong.append(f"other {', '.join(different)}")
    result.wrong += [f"left {path.relative_to(place)}" for path in strays(place)]
    return result


def end_somehow(
    starter: Starter, place: Path, arguments: list[str], whole: Ended, rng: np.random.Generator, result: Try
) -> bool:
    """Runs a job or resumes it, and ends it on the way; returns False if it has ended by then."""
    resumes, how = (place / "run").exists(), rng.choice(list(HOW), p=list(HOW.values()))
    arguments = [*arguments, *(["--resume"] if resumes else [])]
    if how == "operation":
        at = int(rng.integers(1, SOON if resumes else len(whole.operations) + 1))
        ended = starter.run(place, result.job, arguments, Fault(at, "kill"))
        result.done.append(f"killed before file operation {at} ({(ended.operations or ['none'])[-1]})")
        allowed: set[int] = {0, -signal.SIGKILL}
    else:
        number = signal.SIGKILL if how == "moment" else SIGNALS[rng.integers(len(SIGNALS))]
        moment = rng.uniform(*(START_SECONDS if how == "start" else (0, whole.seconds)))
        end = end_at_start if how == "start" else end_at
        ended = end(starter, place, result.job, arguments, moment, number)
        result.done.append(f"{number.name} after {moment:.2f} s{' of a new process' * (how == 'start')}")
        # before and after training, to die of the signal is fine too
        allowed = (
            {0, -number} if number == signal.SIGKILL else {0, 130} if number == signal.SIGINT else {0, 130, -number}
        )
    if ended.status not in allowed or not ended.is_tidy:
        result.wrong.append(f"status {ended.status} with {ended.output[-2000:]}")
    result.ends += ended.status != 0
    return ended.status != 0


def end_at(
    starter: Starter, place: Path, job: str, arguments: list[str], moment: float, number: signal.Signals
) -> Ended:
    """Sends a signal to a job that has imported what it needs."""
    return starter.run(place, job, arguments, signals=[(moment, number)])


def end_at_start(
    starter: Starter, place: Path, job: str, arguments: list[str], moment: float, number: signal.Signals
) -> Ended:
    """Sends a signal to a process and its children that begins as the user's does."""
    command = [sys.executable, "-m", f"jaxft.{job}", *arguments]
    environment = {**os.environ, "JAXFT_CACHE": str(place / "cache")}
    started = time.monotonic()
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            output, _ = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, number)
            output, _ = process.communicate()
    return Ended(process.returncode, output.decode(errors="replace"), [], time.monotonic() - started)


def predict(starter: Starter, place: Path, run: Path, result: Try) -> None:
    """Asks an unfinished run for an answer: it gives one, or refuses in one sentence."""
    model = run / "language_model" if result.job == "pretrain" else run
    asks = ["--generate", "the film"] if result.job == "pretrain" else ["--text", "the film was good"]
    ended = starter.run(place, "predict", [str(model), *asks])
    refused = ended.status == 2 and len(ended.complaints) == 1
    if not ended.is_tidy or not (refused or (ended.status == 0 and not ended.complaints)):
        result.wrong.append(f"predict ends with status {ended.status} and {ended.output[-2000:]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job", choices=list(SETTINGS), action="append", help="a job; by default all")
    parser.add_argument("--processes", type=int, default=2, help="tries at once")
    options = parser.parse_args(arguments)
    jobs = options.job or list(SETTINGS)
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # programs are small, and compiling them takes longer
    starter = Starter()
    with tempfile.TemporaryDirectory(prefix="jaxft-kills-") as temporary, ThreadPoolExecutor(options.processes) as pool:
        folder, compiled = Path(temporary), cache_folder() / "compiled"
        compiled.mkdir(parents=True, exist_ok=True)
        inputs = write_inputs(folder)
        runs = [pool.submit(reference, starter, folder, job, inputs[job], compiled) for job in jobs]
        references = {job: run.result() for job, run in zip(jobs, runs, strict=True)}

        def one(number: int) -> Try:
            job, rng = jobs[number % len(jobs)], np.random.default_rng([options.seed, number])
            result = attempt(starter, fresh_folder(folder / str(number), compiled), job, references[job], rng)
            print(f"{number} {result}", flush=True)
            return result

        tries = list(pool.map(one, range(options.tries)))
    tried = Counter(result.job for result in tries)
    lost = [result for result in tries if result.wrong]
    counts = ", ".join(f"{job} {count}" for job, count in tried.items())
    print(f"{len(tries)} tries ({counts}), ended {sum(result.ends for result in tries)} times, {len(lost)} lost")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
