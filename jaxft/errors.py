"""The errors that end a job with one sentence: every module raises the first, and `run_job` prints both."""

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


class InputError(ValueError):
    """Bad input; the message is one sentence naming the file, row or flag and the remedy."""


class TextError(InputError):
    """A model refuses one of the texts that it was given; `at` names the place that the text comes from.

    Args:
        index: of the text.
        complaint: the rest of the sentence.

    Examples:
        >>> error = TextError(1, "is not a pair: add the second text")
        >>> print(error, error.at("a.csv, row 3"), sep="\\n")
        texts[1] is not a pair: add the second text
        a.csv, row 3 is not a pair: add the second text
    """

    def __init__(self, index: int, complaint: str):
        super().__init__(f"texts[{index}] {complaint}")
        self.index, self.complaint = index, complaint

    def at(self, place: str) -> InputError:
        """The error with the name of the place, such as a line of a file."""
        return InputError(f"{place} {self.complaint}")


class Stopped(Exception):
    """The run was asked to stop and has saved itself; the message says how to go on."""


def reason_of(error: Exception) -> str:
    """What another library's error says, on one line of at most 200 characters.

    Examples:
        >>> reason_of(ValueError("no such\\n  host"))
        'no such host'
        >>> reason_of(OSError(28, "No space left on device"))
        'No space left on device'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200]


CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""characters that end a line, or change what a terminal shows"""
LONGEST_MESSAGE = 1_000
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""what the errors of XLA say where memory cannot be allocated"""
DISK_ERRORS = [getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES")]
"""what the operating system says of a disk without naming a file"""


def one_line(message: str) -> str:
    """A message on one line of some hundred characters, whatever names and values it holds.

    Examples:
        >>> print(one_line("a\\nb.csv is empty"), len(one_line("a" * 9_000)))
        a\\nb.csv is empty 905
    """
    message = CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), message)
    return message if len(message) <= LONGEST_MESSAGE else f"{message[:600]} ... {message[-300:]}"


def sentence_and_status(error: BaseException) -> tuple[str, int] | None:
    """What ends a job is told in, and its exit status; None for an error that is a fault of the program.

    Examples:
        >>> sentence_and_status(InputError("a.csv is empty: add rows")), sentence_and_status(KeyError("a"))
        (('a.csv is empty: add rows', 2), None)
    """
    if isinstance(error, InputError):
        return str(error), 2
    if isinstance(error, OSError):
        if error.filename is None and error.errno not in DISK_ERRORS:
            return None
        name = "" if error.filename is None else f"{error.filename}: "
        reason = error.strerror or reason_of(error)
        return f"{name}{reason}: check the path, its permissions, and the free space of the disk", 2
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY in str(error)):
        return "the memory does not suffice: lower the sizes of the model, the batch size or the length of the texts", 2
    if isinstance(error, Stopped | KeyboardInterrupt):
        return str(error) or "stopped", 130
    return None


def _stop_at_once(number: int = signal.SIGINT, frame: FrameType | None = None) -> NoReturn:
    """Answers Ctrl-C during imports, in which libraries print `KeyboardInterrupt` or go on in spite of it."""
    os.write(2, b"jaxft: stopped\n")
    os._exit(130)


def _stop_if_interrupted(ignored: "UnraisableHookArgs") -> None:
    """Answers Ctrl-C that comes where Python cannot raise, as in a callback of its garbage collector."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        _stop_at_once()
    sys.__unraisablehook__(ignored)


def let_interrupts_raise() -> None:
    """Turns Ctrl-C into `KeyboardInterrupt` in a process of `run_job`, once it has imported most libraries.

    From here on there are temporary files to remove.
    """
    if signal.getsignal(signal.SIGINT) is _stop_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def flush(stream: TextIO | None) -> None:
    """Flushes standard output or standard error, if it is there."""
    if stream is not None:  # else it was closed before the program began
        stream.flush()


def run_job(job: Callable[[], None]) -> None:
    """Runs `job`; bad input ends it with one line on standard error and status 2, a stop with status 130.

    So does an error of the operating system, such as a full disk or a name that is too long, and a lack of memory.
    Ctrl-C ends the process at once until `let_interrupts_raise` is called, and after the end of the job.

    A reader of standard output that goes away early, such as `head`, is no error.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in a background process
        signal.signal(signal.SIGINT, _stop_at_once)
        sys.unraisablehook = _stop_if_interrupted
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError, ValueError):  # where it is closed
            sys.stdout.reconfigure(errors="surrogateescape")  # which prints the name of any file
    try:
        job()
        flush(sys.stdout)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit does not fail again
    except BaseException as error:
        if (told := sentence_and_status(error)) is None:
            raise
        print(f"jaxft: {one_line(told[0])}", file=sys.stderr)
        sys.exit(told[1])
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _stop_at_once)
