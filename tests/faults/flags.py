"""Gives random values to random flags of every command, and checks what becomes of it.

    python -m tests.faults.flags --tries 1000 --seed 0
    python -m tests.faults.flags --value 2147483647

Each command has to do what it is asked, as far as `--dry-run`, or to end in one sentence, or in the usage message of a
flag that cannot be parsed; see `tests.faults.outcomes`. A try depends on the seed and on its number alone: `--only 17`
repeats try 17. With `--value`, every flag of every command is given that value.
"""

import argparse
import faulthandler
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax

from jaxft import export, predict, push
from jaxft.errors import one_line
from jaxft.finetune.__main__ import main as finetune
from jaxft.finetune.settings import COMMAND as FINETUNE
from jaxft.ner.__main__ import main as ner
from jaxft.ner.settings import COMMAND as NER
from jaxft.pretrain.__main__ import main as pretrain
from jaxft.pretrain.settings import COMMAND as PRETRAIN
from jaxft.training.settings import flag, flatten
from jaxft.ulmfit.__main__ import main as ulmfit
from jaxft.ulmfit.presets import COMMAND as ULMFIT
from tests.checkpoints import write_checkpoint
from tests.data.corpus_files import write
from tests.data.tagged_forms import FORMS, TRUTH
from tests.faults.outcomes import fault_of, run
from tests.faults.targets import classifier, delimited, language_model, plain_text

VALUES = (
    *("-1", "0", "1", "2", "3", "0.5", "-0.5", "2147483647", "4294967295", "4294967296", "12345678901234567890"),
    *("1e39", "1e-320"),
    *("1e400", "nan", "inf", "-inf", "1_000", "1e3", "0x10", "٣", "True", "None", "none", "", " ", "'", '"', "\n"),
    *(
        "a\nb",
        "x" * 5000,
        "1" * 5000,
        "naïve",
        "文件",
        "\udcff",
        "\x1b[31m",
        "-",
        "--",
        "--out",
        "..",
        "/",
        "~nobody/a",
    ),
    *("{}", "[]", '{"pos": 2}', '{"pos": 1e400}', "[" * 5000, "text,text", ",", "label", "missing.csv", "/dev/null"),
    *("{folder}", "{folder}/reviews.csv", "{folder}/model", "both", "backward", "auto", "all", "best", "constant"),
)
"""what a flag may be given; `{folder}` is that of the inputs"""


@dataclass(frozen=True)
class Program:
    """A command with valid arguments, and the flags that it has."""

    main: Callable[[Sequence[str]], object]
    arguments: str
    flags: Sequence[str]


def flags_of(settings: Any) -> list[str]:
    return [flag(name) for name in flatten(asdict(settings)) if name not in ("dry_run", "out", "files")]


def request_flags(request: Any) -> list[str]:
    return [flag(field.name) for field in fields(request)]


def programs() -> list[Program]:
    jobs = [
        (ulmfit, ULMFIT, "--data {folder}/reviews.csv"),
        (finetune, FINETUNE, "--data {folder}/reviews.csv --model {folder}/encoder --max-length 16"),
        (ner, NER, "--data {folder}/train --dev-fraction 0.2"),
        (pretrain, PRETRAIN, "--text {folder}/text.txt"),
    ]
    found = [
        Program(main, f"{line} --out {{folder}}/run --dry-run", flags_of(next(iter(command.presets.values()))))
        for main, command, line in jobs
    ]
    return [
        *found,
        Program(predict.main, "{folder}/model --text good", request_flags(predict.Request)),
        Program(predict.main, "{folder}/model --input {folder}/reviews.csv", request_flags(predict.Request)),
        Program(predict.main, "{folder}/language_model --generate good", request_flags(predict.Request)),
        Program(export.main, "{folder}/model --output {folder}/exported", request_flags(export.Request)),
        Program(push.main, "{folder}/model user/name", request_flags(push.Request)),
    ]


def write_inputs(folder: Path) -> None:
    write(folder / "reviews.csv", delimited(","))
    write(folder / "text.txt", plain_text())
    write(folder / "train", FORMS["columns, spaces"][1](TRUTH * 4))
    write_checkpoint(folder / "encoder")
    classifier().save(folder / "model")
    language_model().save(folder / "language_model")


def changed(arguments: list[str], flags: Sequence[str], rng: random.Random) -> list[str]:
    """The arguments with some flags more, each with a value of some kind."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name, value = rng.choice(flags), rng.choice(VALUES)
        how = rng.random()
        if how < 0.05:
            name = name[:-1] + rng.choice("xyz")
        elif how < 0.1:
            arguments.append(rng.choice(arguments))
        elif how < 0.15:
            arguments.remove(rng.choice([word for word in arguments if word != "--dry-run"]))
        if how > 0.9:
            arguments = [*arguments, f"{name}={value}"]
        elif how > 0.85:
            arguments = [*arguments, name]
        else:
            arguments = [*arguments, name, value]
    return arguments


class Fuzzer:
    """Valid inputs, and tries that run commands on them.

    Args:
        work: an empty folder for the inputs.
        seed: of all tries.
    """

    def __init__(self, work: Path, seed: int):
        self.seed, self.folder, self.programs = seed, work / "inputs", programs()
        self.folder.mkdir()
        write_inputs(self.folder)
        self.before = set(self.folder.rglob("*"))

    def random_command(self, number: int) -> tuple[Program, list[str]]:
        """The command of a try."""
        rng = random.Random(f"{self.seed} {number}")
        program = rng.choice(self.programs)
        return program, changed(program.arguments.split(), program.flags, rng)

    def commands(self, value: str) -> list[tuple[Program, list[str]]]:
        """Every command with each of its flags at this value."""
        return [
            (program, [*program.arguments.split(), name, value]) for program in self.programs for name in program.flags
        ]

    def fault(self, program: Program, line: Sequence[str]) -> str | None:
        """What is wrong with the outcome of a command; None if nothing is."""
        arguments = [word.replace("{folder}", str(self.folder)) for word in line]
        outcome = run(lambda: program.main(arguments))
        words = [*arguments, *program.arguments.split()]
        given = [
            part[:200]
            for word in words
            for part in (word, *word.split("=", 1))
            if len(part.encode(errors="replace").strip(b"- \n")) > 2
        ]
        values = [one_line(word.split("=", 1)[-1]) for word in words]  # whatever they are, where a sentence begins so
        given += [beginning for value in values for beginning in (f"jaxft: {value} ", f"jaxft: cannot write {value},")]
        given += ["?"] * any("\udcff" in word for word in words)  # as half a surrogate pair is written
        fault = fault_of(outcome, [name for name in given if name != "--dry-run"], usage=True)
        left = set(self.folder.rglob("*")) - self.before
        if fault is None and outcome.status and left:
            fault = f"leaves {sorted(map(str, left))}"
        for path in sorted(left, reverse=True):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        shown = " ".join(word if len(word) < 100 else f"{word[:20]}...({len(word)})" for word in arguments)
        return fault and f"{program.main.__module__} {shown!r}: {fault}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the one try to make")
    parser.add_argument("--value", help="instead of random tries, give every flag this value")
    asked = parser.parse_args(arguments)
    faulthandler.enable()
    jax.config.update("jax_disable_most_optimizations", True)  # the programs are many and small
    work = Path(tempfile.mkdtemp(prefix="flags-"))
    os.environ |= {"JAXFT_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    fuzzer, started, faults = Fuzzer(work, asked.seed), time.monotonic(), 0
    os.chdir(work)
    # the speed of this machine is measured for seconds, and does not depend on flags
    with patch("jaxft.language_model.estimate.product_speed", lambda *_: 1e10):
        if asked.value is None:
            numbers = range(asked.tries) if asked.only is None else [asked.only]
            commands = [(number, *fuzzer.random_command(number)) for number in numbers]
        else:
            commands = [(line[-2], program, line) for program, line in fuzzer.commands(asked.value)]
        for name, program, line in commands:
            faulthandler.dump_traceback_later(120, exit=True)  # where the time limit does not reach
            if fault := fuzzer.fault(program, line):
                faults += 1
                print(f"try {name}: {fault}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(work)
    print(f"{len(commands)} tries in {time.monotonic() - started:.0f} s, {faults} faults")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
