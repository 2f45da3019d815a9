"""Fills the disk at many points of every command that writes, makes room, and runs the command again.

Run it from the root of the repository: `python -m tests.faults.full_disk --points 12 --seed 0 --command ner`. A full
disk is one that refuses every operation that needs room, or one on which no file grows beyond a size, from a chosen
operation on. The program says what was not as it has to be, and ends with status 1 then: one sentence that names the
file, status 2, nothing half-written, and the same result as ever once there is room.
"""

import os
import sys
import tempfile
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.base.files import cache_folder
from tests.faults.jobs import differences, outcome, strays, write_inputs
from tests.faults.process import GROWS, Fault, Starter, fresh_folder

ROOMS = (0, 50, 1500, 20_000)
"""bytes that a file may have on a full disk"""
FILLS = 3
"""the most times that the disk fills up before there is room"""
SOON = 40
"""operations in which it fills up again"""


@dataclass(frozen=True)
class Command:
    """A command that writes into the folder `run` of its place.

    Attributes:
        job: as in `python -m jaxft.<job>`.
        arguments: of the command, but for what it writes.
        output: the flag and the file or folder that it writes, below its place.
        uses: the command whose model it uses.
        operations: its file operations.
        expected: what it leaves where the disk has room.
    """

    job: str
    arguments: list[str]
    output: tuple[str, str] = ("--out", "run")
    uses: str | None = None
    operations: list[str] = field(default_factory=list)
    expected: dict[str, Any] = field(default_factory=dict)

    def prepare(self, place: Path, compiled: Path) -> list[str]:
        """Makes the place, and returns all arguments."""
        fresh_folder(place, compiled)
        flag, name = self.output
        if "/" in name:
            (place / name).parent.mkdir()
        return [*self.arguments, flag, str(place / name)]

    def points(self) -> list[int]:
        """The numbers of the operations that need room, the first of each kind and file."""
        first = {name: number for number, name in reversed(list(enumerate(self.operations, 1)))}
        return sorted(number for name, number in first.items() if name.startswith(GROWS))


@dataclass
class Result:
    """At which points the disk of a command filled up, and what was wrong."""

    command: str
    done: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.command}: {', then '.join(self.done)}: {'; '.join(self.wrong) or 'as it has to be'}"


def commands(folder: Path) -> dict[str, Command]:
    """The commands by name; the run of each is `folder/<name>/run`."""
    jobs = write_inputs(folder)
    trained = {name: Command(name, arguments) for name, arguments in jobs.items()}
    tracked = Command("ner", [*jobs["ner"], "--track", "tensorboard"])
    texts = ["--input", str(folder / "reviews.csv")]
    return {
        **trained,
        "tracked": tracked,
        "predict": Command("predict", [str(folder / "ner/run"), *texts], ("--output", "run/answers.csv"), "ner"),
        "export": Command("export", [str(folder / "pretrain/run")], ("--output", "run"), "pretrain"),
    }


def with_room(starter: Starter, place: Path, command: Command, compiled: Path) -> Command:
    """The command, with what it does and leaves where the disk has room."""
    ended = starter.run(place, command.job, command.prepare(place, compiled))
    if ended.status:
        raise SystemExit(f"{command.job} does not run: {ended.output}")
    return replace(command, operations=ended.operations, expected=outcome(place / "run"))


def attempt(
    starter: Starter, place: Path, name: str, command: Command, compiled: Path, fault: Fault, rng: np.random.Generator
) -> Result:
    """Runs a command on a disk that fills up, goes on with it on another one a few times, and then with room."""
    result, arguments = Result(name), command.prepare(place, compiled)
    for _ in range(rng.integers(1, FILLS + 1)):
        if not on_full_disk(starter, place, command, arguments, fault, result):
            break
        fault = random_fault(int(rng.integers(1, SOON)), rng)
    else:
        ended = starter.run(place, command.job, [*arguments, *resume(place, command)])
        if ended.status or not ended.is_tidy:
            result.wrong.append(f"with room, status {ended.status} with {ended.output[-2000:]}")
        elif different := differences(place / "run", command.expected):
            result.wrong.append(f"with room, other {', '.join(different)}")
    result.wrong += [f"left {path.relative_to(place)}" for path in strays(place)]
    return result


def on_full_disk(
    starter: Starter, place: Path, command: Command, arguments: list[str], fault: Fault, result: Result
) -> bool:
    """Runs a command on a disk that fills up; returns False if it ends as ever, as the rest has room."""
    ended = starter.run(place, command.job, [*arguments, *resume(place, command)], fault)
    room = f"no file beyond {fault.room} bytes" if fault.how == "fill" else "no room"
    at = ended.operations[fault.at - 1] if fault.at <= len(ended.operations) else "after the end"
    result.done.append(f"{room} from operation {fault.at} ({at})")
    told = len(ended.complaints) == 1 and str(place) in ended.complaints[0] and ": " in ended.complaints[0]
    if ended.status == 2 and ended.is_tidy and told:
        result.wrong += half_written(place / "run", command.expected)
    elif ended.status == 0 and ended.is_tidy:
        result.wrong += [f"{result.done[-1]}: other {name}" for name in differences(place / "run", command.expected)]
    else:
        result.wrong.append(f"{result.done[-1]}: status {ended.status} with {ended.output[-2000:]}")
    return ended.status != 0


def resume(place: Path, command: Command) -> list[str]:
    """The flag with which a training job goes on in its folder."""
    return ["--resume"] if command.output[0] == "--out" and (place / "run").exists() else []


def half_written(run: Path, expected: dict[str, Any]) -> list[str]:
    """What a command has left of a file under the name of the whole; a log grows by lines, and is cut on resume."""
    found = {name: content for name, content in outcome(run).items() if not Path(name).name.startswith(".")}
    found.pop("metrics.jsonl", None)
    return [
        f"half-written {name}"
        for name, content in found.items()
        if content == "damaged" or (name in expected and content != expected[name])
    ]


def random_fault(at: int, rng: np.random.Generator) -> Fault:
    """A disk that is full from an operation on, in one of the two ways."""
    return Fault(at, "refuse") if rng.random() < 0.5 else Fault(at, "fill", int(rng.choice(ROOMS)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=12, help="first points of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="append", help="a command; by default all")
    parser.add_argument("--processes", type=int, default=2, help="points at once")
    options = parser.parse_args(arguments)
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # programs are small, and compiling them takes longer
    starter, rng = Starter(), np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="jaxft-disk-") as temporary, ThreadPoolExecutor(options.processes) as pool:
        folder, compiled = Path(temporary), cache_folder() / "compiled"
        compiled.mkdir(parents=True, exist_ok=True)
        known = commands(folder)
        chosen = options.command or list(known)
        needed = dict.fromkeys([*filter(None, (known[name].uses for name in chosen)), *chosen])
        ready = {name: with_room(starter, folder / name, known[name], compiled) for name in needed}
        points = [
            (name, random_fault(at, rng))
            for name in chosen
            for at in rng.permutation(ready[name].points())[: options.points].tolist()
        ]

        def one(number: int) -> Result:
            name, fault = points[number]
            rng = np.random.default_rng([options.seed, number])
            result = attempt(starter, folder / str(number), name, ready[name], compiled, fault, rng)
            print(f"{number} {result}", flush=True)
            return result

        results = list(pool.map(one, range(len(points))))
    tried = Counter(dict.fromkeys(chosen, 0))
    for result in results:
        tried[result.command] += len(result.done)
    counts, lost = ", ".join(f"{name} {n}" for name, n in tried.items()), sum(bool(result.wrong) for result in results)
    print(f"{tried.total()} points ({counts}), {lost} of {len(results)} tries not as they have to be")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
