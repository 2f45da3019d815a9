"""What becomes of a command with damaged input: an answer, or one sentence; all else is a fault.

`mutations` and `flags` run the commands in this process, so that a try takes milliseconds.
"""

import io
import json
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import cast

from jaxft.errors import run_job

MOST_CPU_SECONDS, MOST_SECONDS, MOST_MEGABYTES = 20, 90, 1024
"""what a command may take; on a machine with other work, more than what this process computes passes"""
NOT_FINITE = re.compile(r"(?<![\w.'\"])[+-]?(nan|inf|infinity)(?![\w.'\"])", re.IGNORECASE)
PROGRESS = re.compile(r"\r?(?:tokenizing|learning subwords):.*\n?")
NOTE = re.compile(r"jaxft: .*\S")


class Hang(BaseException):
    """A command takes too long; no `except Exception` of the package catches it."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        status: the exit status; 1 with a traceback.
        out, err: what it wrote.
        megabytes: the memory that it took on top of what the process had.
    """

    status: int
    out: str
    err: str
    megabytes: float


def run(command: Callable[[], object]) -> Outcome:
    """Runs a command as its own process would, and catches what it writes."""
    status, out, err = 0, io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8", "replace")
    before = _start_peak()
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(_time_limit())
        try:
            run_job(cast(Callable[[], None], command))
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            status = 1
            traceback.print_exc(limit=-6)
    return Outcome(status, _written(out), _written(err), _peak() - before)


def fault_of(outcome: Outcome, names: Sequence[str], usage: bool = False) -> str | None:
    """What is wrong with an outcome; None if it is one of those that are allowed.

    Args:
        outcome: of a command.
        names: of which a refusal mentions one: the damaged file, its folder, or a flag.
        usage: whether the message about a flag that cannot be parsed is allowed, which takes several lines.
    """
    if "Hang" in outcome.err or outcome.megabytes > MOST_MEGABYTES:
        return f"takes too long or too much: {outcome.megabytes:.0f} MB, {outcome.err[-1500:]}"
    if outcome.status == 0:
        found = [number for number in _not_finite(outcome.out) if number not in names]
        if found:
            return f"answers with a number that is not finite: {found[0]}"
        told = PROGRESS.sub("", outcome.err).splitlines()
        return None if all(map(NOTE.fullmatch, told)) else f"answers and writes {outcome.err[-1500:]}"
    if outcome.status != 2:
        return f"ends with status {outcome.status}: {outcome.err[-3000:]}"
    if usage and outcome.err.startswith("╭") and "Traceback" not in outcome.err:
        return None
    *notes, sentence = PROGRESS.sub("", outcome.err).rstrip("\n").split("\n")
    if not all(NOTE.fullmatch(line) for line in (*notes, sentence)) or len(notes) > 1:
        return f"writes more than a sentence: {outcome.err[-3000:]}"
    if not any(name in sentence for name in names):
        return f"names none of {list(names)}: {sentence[:600]}"
    if len(sentence) > 1500:
        return f"writes {len(sentence)} characters: {sentence[:300]}"
    return None


def _not_finite(out: str) -> list[str]:
    with suppress(ValueError):
        found: list[str] = []
        json.loads(out, parse_constant=lambda name: found.append(name) or 0.0)
        return found
    return [match[0] for match in NOT_FINITE.finditer(out)]


def _written(stream: io.TextIOWrapper) -> str:
    with suppress(ValueError):
        stream.flush()
    content = stream.detach()
    assert isinstance(content, io.BytesIO)
    return content.getvalue().decode(errors="replace")


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raises `Hang` in the block where the platform can, which Windows cannot."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    timers = {
        signal.SIGALRM: (signal.ITIMER_REAL, MOST_SECONDS),
        signal.SIGPROF: (signal.ITIMER_PROF, MOST_CPU_SECONDS),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds, 1.0)  # again, where a handler swallows it
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def _start_peak() -> float:
    """Starts to measure the peak of this process's memory, and returns what it has now, in MB; Linux alone."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    if sys.platform != "linux":
        return 0.0
    return int(re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
