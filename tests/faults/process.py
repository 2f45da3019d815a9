"""Runs a command of jaxft in a process of its own, with a fault at a chosen file operation or moment.

Processes are forked from one that has imported what the commands need, so that each begins its work at once. It needs
a system with `fork`, `setsid` and limits of file sizes, such as Linux.
"""

import errno
import importlib
import mmap
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

CHANGES = {
    "os.rename": "rename",  # os.replace too
    "os.remove": "remove",
    "os.rmdir": "remove folder",
    "shutil.rmtree": "remove folder",
    "os.link": "link",
    "os.truncate": "truncate",
    "os.mkdir": "make folder",
}
"""audit events of Python -> what they do to the file that they name first"""
GROWS = ("open", "fsync", "link", "make folder")
"""operations that need room on the disk"""
LOG_BYTES = 1 << 20
"""room for the log of the operations of a process"""
SECONDS = 300
"""after which a process counts as hanging"""


@dataclass(frozen=True)
class Fault:
    """What happens to a process at its file operation number `at`, counted from 1.

    Attributes:
        at: number of the operation.
        how: "kill" ends the process before the operation; "refuse" says from then on that the disk is full, where an
            operation needs room; "fill" lets no file grow beyond `room` bytes from then on.
        room: bytes of a file.
    """

    at: int
    how: Literal["kill", "refuse", "fill"]
    room: int = 0


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: exit status, negative for the signal that ended it.
        output: standard output and standard error.
        operations: its file operations, each as what was done and to which file.
        seconds: how long it ran.
    """

    status: int
    output: str
    operations: list[str]
    seconds: float

    @property
    def is_tidy(self) -> bool:
        """Whether it told the user nothing that only a programmer understands."""
        return not any(word in self.output for word in ("Traceback", "Exception ignored", "Error", "Errno"))

    @property
    def complaints(self) -> list[str]:
        """The lines of the output that begin with the name of the program, as its errors do; a lost tracker is none."""
        lines = self.output.replace("\r", "\n").splitlines()
        return [line for line in lines if line.startswith("jaxft: ") and "takes no more metrics" not in line]


class Starter:
    """Starts processes in which the file operations below a folder are counted."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.preloaded"])
        self._lock = threading.Lock()  # to start a process asks all others whether they have ended, and so does to join

    def run(
        self,
        folder: Path,
        job: str,
        arguments: Sequence[str],
        fault: Fault | None = None,
        signals: Sequence[tuple[float, signal.Signals]] = (),
    ) -> Ended:
        """Runs `python -m jaxft.<job>` to its end.

        Args:
            folder: whose file operations count; its `cache` is that of the process.
            job: name of the command.
            arguments: of the command.
            fault: what happens at a file operation.
            signals: sent to the process and its children, each so many seconds after its start.
        """
        receiver, sender = self._context.Pipe(duplex=False)
        log = folder.parent / f"{folder.name}.operations"
        process = self._context.Process(target=_run, args=(sender, folder, log, job, list(arguments), fault))
        started = time.monotonic()
        with self._lock:
            process.start()
        sender.close()
        pid = process.pid
        assert pid is not None
        alarms = [threading.Timer(delay, _send, (pid, number)) for delay, number in signals]
        alarms.append(threading.Timer(SECONDS, _send, (pid, signal.SIGKILL)))
        for alarm in alarms:
            alarm.start()
        with os.fdopen(os.dup(receiver.fileno()), "rb") as stream:
            output = stream.read().decode(errors="replace")
        with self._lock:
            process.join()
        for alarm in alarms:
            alarm.cancel()
        receiver.close()
        status = process.exitcode
        assert status is not None
        operations = log.read_bytes().rstrip(bytes(1)).decode(errors="replace").splitlines()
        log.unlink()
        return Ended(status, output, operations, time.monotonic() - started)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.killpg(pid, number)


def _run(sender: Connection, folder: Path, log: Path, job: str, arguments: list[str], fault: Fault | None) -> None:
    """The life of the process."""
    os.setsid()
    for stream in (1, 2):
        os.dup2(sender.fileno(), stream)
    sender.close()
    os.environ["JAXFT_CACHE"] = str(folder / "cache")
    _watch(folder, _memory_of(log), fault)
    from jaxft.errors import run_job

    name = f"jaxft.{job}" if job in ("predict", "export") else f"jaxft.{job}.__main__"
    command: Callable[[Sequence[str]], None] = importlib.import_module(name).main
    run_job(lambda: command(arguments))


def _memory_of(path: Path) -> mmap.mmap:
    """A new file as memory, which limits of file sizes do not concern."""
    with open(path, "w+b") as file:
        file.truncate(LOG_BYTES)
        return mmap.mmap(file.fileno(), LOG_BYTES)


def _watch(folder: Path, log: mmap.mmap, fault: Fault | None) -> None:
    """Counts and logs the file operations below a folder, but for compiled programs, and brings the fault about."""
    count = 0

    def operation(kind: str, path: str) -> None:
        nonlocal count
        if not path.startswith(f"{folder}/") or path.startswith(f"{folder}/cache/compiled"):
            return
        count += 1
        log.write(f"{kind} {os.path.relpath(path, folder)}\n".encode())
        if fault is None or count < fault.at:
            return
        if fault.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.how == "refuse" and kind in GROWS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([path] if kind != "fsync" else []))
        elif fault.how == "fill":
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.room, resource.RLIM_INFINITY))

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = details
            if isinstance(path, str | bytes | os.PathLike) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                operation("open", os.fsdecode(path))
        elif event in CHANGES and isinstance(details[0], str | bytes | os.PathLike):
            operation(CHANGES[event], os.fsdecode(details[0]))

    def fsync(descriptor: int) -> None:
        operation("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    real_fsync = os.fsync
    os.fsync = fsync
    sys.addaudithook(hook)


def fresh_folder(folder: Path, compiled: Path) -> Path:
    """Makes a folder for a run and its cache; the compiled programs in the cache are shared."""
    (folder / "cache").mkdir(parents=True)
    (folder / "cache/compiled").symlink_to(compiled)
    return folder
