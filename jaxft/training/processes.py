"""The processes that share a job, joined by `jax.distributed`: all compute, the first writes, and they end together.

Each process runs the same program. What the first does alone, such as reading the texts, the others wait for, however
long it takes. A process that cannot go on tells the others why, through JAX's coordinator, and all of them end.
"""

import atexit
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import JaxRuntimeError
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxft.base.cores import make_devices_of_cores
from jaxft.base.sharding import AXIS
from jaxft.errors import InputError, Stopped, flush, one_line, reason_of, sentence_and_status
from jaxft.training.settings import RunSettings, flatten

HEARTBEAT_SECONDS = 30
"""seconds without a sign of life after which JAX ends the other processes"""
SHUTDOWN_SECONDS = 24 * 3600
"""how long a process that is done waits for the others, the first of which writes the results"""
LOST = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination")
"""words in the errors of XLA where another process has gone"""
ENDED = "jaxft/ended"
"""the name under which a process that fails says why"""
CHUNK = 1 << 26
"""bytes that are sent to the other processes at once"""
HEARING_SECONDS = 3
"""how long the first process, where it fails, waits for the others to hear why"""
_own_folders: list[str] = []
_ending = threading.Event()
_turns: dict[str, int] = {}


def connect(settings: RunSettings) -> None:
    """Joins the other processes, or where there are none lets the cores of the CPU share batches; see `base.cores`.

    Call it before anything is computed.

    They are those of `settings`, of the variables `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`,
    or of a step of Slurm or Open MPI, which JAX knows itself.

    Raises:
        InputError: some of the settings are missing, or the others cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    given = settings.coordinator is not None
    source = "--coordinator" if given else "JAX_COORDINATOR_ADDRESS"
    address = settings.coordinator if given else os.environ.get("JAX_COORDINATOR_ADDRESS") or None
    count = _given(settings.processes, "JAX_NUM_PROCESSES")
    number = _given(settings.process_id, "JAX_PROCESS_ID")
    managed = any(_given(None, name) not in (None, 1) for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    if address is None and not managed:
        if (count, number) != (None, None):
            raise InputError("--processes and --process-id need the address of the first process: give --coordinator")
        make_devices_of_cores()
        return
    if not managed and None in (count, number):
        missing = [flag for flag, given in (("--processes", count), ("--process-id", number)) if given is None]
        more = " and ".join(missing)
        raise InputError(f"{source} {address} is not enough: give {more} too")
    if address is not None and not re.fullmatch(r".+:\d{1,5}", address):
        raise InputError(f"{source} {address} is no address with a port: give one such as 10.0.0.1:1234")
    try:
        jax.distributed.initialize(
            address,
            count,
            number,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        where = "of this step of Slurm or MPI" if address is None else f"at {address}"
        raise InputError(
            f"cannot join the other processes {where} ({reason_of(error)}): check --coordinator, --processes and "
            "--process-id, or the variables of the environment that stand for them"
        ) from error
    watcher = threading.Thread(target=_end_with_others, daemon=True)
    watcher.start()
    atexit.register(_stop_watching, watcher)  # before JAX leaves the coordinator


def _given(setting: int | None, variable: str) -> int | None:
    """The setting or, where there is none, the number in a variable of the environment."""
    text = os.environ.get(variable)
    if setting is not None or not text:
        return setting
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{variable} is {text!r} in the environment: give it a whole number") from None


def is_first() -> bool:
    """Whether this process writes files and shows progress: the first one, or the only one."""
    return jax.process_index() == 0


@contextmanager
def ending_together() -> Iterator[None]:
    """Ends the other processes, with the same sentence, where the `with` block fails in this one.

    Raises:
        InputError: in place of JAX's error, where another process has ended without a word.
    """
    try:
        yield
    except Stopped:  # which they all are at once
        raise
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, BrokenPipeError):  # which ends this process alone without a word
            _tell_others("nobody reads its output", 0)
            raise
        reason = (reason_of(error) if isinstance(error, Exception) else "") or type(error).__name__
        sentence, status = sentence_and_status(error) or (reason, 1)
        lost = status == 1 and isinstance(error, RuntimeError | ValueError) and any(word in reason for word in LOST)
        if not lost:
            _tell_others(sentence, status)
            raise
        sentence = _said_by_another() or (
            f"another process has ended, or cannot be reached ({reason}): look at what it says, and start all of "
            "them again with --resume"
        )
        _tell_others(sentence, 2)
        raise InputError(sentence) from error


def first_then_others(function: Callable[[], Any]) -> Any:
    """The result of `function`, which the first process calls before the others do."""
    if jax.process_count() == 1:
        return function()
    key = _turn("first")
    if not is_first():
        _wait_for(key)
    result = function()
    if is_first():
        _client().key_value_set(key, "done")
    meet()
    return result


def meet() -> None:
    """Waits until all processes are here, however long it takes.

    What they do together next has a time limit on a CPU: half a minute to begin.
    """
    if jax.process_count() == 1:
        return
    name = _turn("meet")
    _client().key_value_set(f"{name}/{jax.process_index()}", "here")
    for number in range(jax.process_count()):
        _wait_for(f"{name}/{number}")


def require_same(value: Any) -> None:
    """Refuses a value, as JSON, that differs between the processes.

    Raises:
        InputError: naming what differs.
    """
    own, theirs = flatten(value), flatten(decided_by_first(value))
    if names := sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name)):
        raise InputError(f"the processes differ in {', '.join(names)}: start them with the same flags and data")
    meet()


@contextmanager
def own_folder(out: Path) -> Iterator[Path]:
    """The folder of a run in the first process, and in the others a temporary one that is removed at the end."""
    if is_first():
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="jaxft-") as folder:
        _own_folders.append(folder)
        yield Path(folder) / out.name


def share_files(folder: Path, patterns: tuple[str, ...]) -> None:
    """Copies files from the folder of the first process into those of the others, which may be on other machines."""
    if jax.process_count() == 1:
        return
    names: list[tuple[str, int]] = []
    if is_first():
        found = sorted({path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()})
        names = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in found]
    for name, size in decided_by_first(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb" if is_first() else "wb") as file:
            for start in range(0, size, CHUNK):
                count = min(CHUNK, size - start)
                own = np.frombuffer(file.read(count), np.uint8) if is_first() else np.zeros(count, np.uint8)
                sent = multihost_utils.broadcast_one_to_all(own)
                if not is_first():
                    file.write(np.asarray(sent).tobytes())


def join(mesh: Mesh | None) -> None:
    """Connects the devices of a mesh, which on CPUs has a time limit, while all processes are at the same place."""
    if mesh is not None and jax.process_count() > 1:
        ones = jax.make_array_from_callback((mesh.size,), NamedSharding(mesh, PartitionSpec(AXIS)), _ones)
        jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones).block_until_ready()


def _ones(index: Any) -> np.ndarray:
    return np.ones(1, np.float32)


def decided_by_first(value: Any) -> Any:
    """The value of the first process, of what JSON holds, in all of them.

    Their own may differ in the last bit, where their processors do, and what is decided by it must not.
    """
    if jax.process_count() == 1:
        return value
    key = _turn("decided")
    if is_first():
        _client().key_value_set(key, json.dumps(value))
        return value
    return json.loads(_wait_for(key))


def from_first(tree: Any) -> Any:
    """The arrays of the first process, in all of them."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def _client() -> Any:
    """The connection to JAX's coordinator, which keeps values by name for all processes."""
    from jax._src.distributed import global_state

    return global_state.client


def _turn(kind: str) -> str:
    """The name of the next value of a kind; the processes ask for them in the same order."""
    _turns[kind] = _turns.get(kind, 0) + 1
    return f"jaxft/{kind}/{_turns[kind]}"


def _wait_for(key: str) -> str:
    """The value of another process, as soon as there is one."""
    while (value := _value(key)) is None:
        time.sleep(0.2)
    return value


def _value(key: str) -> str | None:
    """The value of another process, None where there is none yet.

    Raises:
        JaxRuntimeError: the coordinator has gone.
    """
    try:
        return _client().key_value_try_get(key)
    except JaxRuntimeError as error:
        if "NOT_FOUND" in str(error):
            return None
        raise


def _said_by_another() -> str | None:
    """The sentence with which another process has just ended, if it has said one."""
    with suppress(JaxRuntimeError):
        return _client().blocking_key_value_get(ENDED, 2_000)
    return None


def _tell_others(sentence: str, status: int) -> None:
    """Ends the other processes with a sentence, and this one without waiting for them once Python is done."""
    _ending.set()
    atexit.register(_leave, status)
    with suppress(JaxRuntimeError):  # another process may have told it before
        _client().key_value_set(ENDED, f"process {jax.process_index()} has ended: {one_line(sentence)}")
    if not is_first():
        _tell_heard()
        return
    until = time.monotonic() + HEARING_SECONDS  # the coordinator is here, and the others have to hear before it goes
    for number in range(1, jax.process_count()):
        with suppress(JaxRuntimeError):
            left = max(1, int(1000 * (until - time.monotonic())))
            _client().blocking_key_value_get(f"jaxft/heard/{number}", left)


def _tell_heard() -> None:
    with suppress(JaxRuntimeError):
        _client().key_value_set(f"jaxft/heard/{jax.process_index()}", "heard")


def _end_with_others() -> None:
    """Ends this process as soon as another one tells why it has ended."""
    sentence = None
    while sentence is None:
        if _ending.wait(0.5):
            return
        try:
            sentence = _value(ENDED)
        except JaxRuntimeError:  # the coordinator has gone, with the first process
            sentence = "the first process has ended without a word: look at what it says"
    if not _ending.is_set():
        os.write(2, f"jaxft: {sentence}\n".encode())
        _tell_heard()
        for folder in _own_folders:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(2)


def _stop_watching(watcher: threading.Thread) -> None:
    _ending.set()
    watcher.join()


def _leave(status: int) -> None:
    flush(sys.stdout)
    flush(sys.stderr)
    os._exit(status)
