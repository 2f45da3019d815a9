"""Numbers the tokens of a stream of texts, in worker processes where there is enough to do.

Called by `jaxft.data.store`. A worker is a new Python that imports `jaxft.data.worker` and nothing of the parent's: no
fork, because jax runs threads, and not `multiprocessing`, which would import the job's main module, and with it jax, in
every worker. `T` is the number of tokens in a chunk of `n` texts.
"""

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice
from pathlib import Path

import numpy as np

from jaxft.data.worker import NumberedTexts, Numberer

# Large enough that sending a chunk costs little, small enough that a handful of them in memory do not matter.
_CHUNK_CHARACTERS = 1_000_000

# The parent packages are entered by their folders, so that `jaxft/__init__.py`, which imports jax, does not run.
_START = """
import sys, types
folder, texts, *sys.path = sys.argv[1:]
for name, path in ("jaxft", folder), ("jaxft.data", folder + "/data"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from jaxft.data.worker import serve
serve(texts == "pretokenized")
"""


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk, characters = [], 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _ask(process: subprocess.Popen[bytes], texts: list[str]) -> NumberedTexts:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(texts, process.stdin, pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
        return NumberedTexts(*pickle.load(process.stdout))
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        raise RuntimeError(f"a tokenizing worker ended with status {process.wait()}; was it out of memory?") from error


@contextmanager
def _worker(pretokenized: bool) -> Iterator[Callable[[list[str]], Future[NumberedTexts]]]:
    """A worker behind a thread of its own, so that it answers in the order in which it is asked."""
    texts = "pretokenized" if pretokenized else "raw"
    command = [sys.executable, "-c", _START, str(Path(__file__).parents[1]), texts, *sys.path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        with ThreadPoolExecutor(1) as lane:
            try:
                yield lambda texts: lane.submit(_ask, process, texts)
            finally:
                # After an error or Ctrl-C it may be busy, and its thread with it.
                lane.shutdown(wait=False, cancel_futures=True)
                process.kill()
    finally:
        with suppress(OSError):
            process.communicate()


def _ask_workers(chunks: Iterable[list[str]], count: int, pretokenized: bool) -> Iterator[tuple[int, NumberedTexts]]:
    """Which worker numbered a chunk, and its answer, in order. Workers take turns; each has two chunks at most."""
    pending: deque[tuple[int, Future[NumberedTexts]]] = deque()
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(pretokenized)) for _ in range(count)]
        for i, chunk in enumerate(chunks):
            pending.append((i % count, workers[i % count](chunk)))
            if len(pending) == 2 * count:
                turn, answer = pending.popleft()
                yield turn, answer.result()
        for turn, answer in pending:
            yield turn, answer.result()


def number_texts(
    texts: Iterable[str], tokens: list[str], workers: int | None = None, pretokenized: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokenizes a stream of texts into ids in order of appearance, xxbos and xxrep first, for any number of workers.

    Args:
        texts: Any number of texts; read a few chunks ahead of what is yielded.
        tokens: An empty list; it gains each new token as it appears, so that `tokens[i]` has id i.
        workers: Processes; by default one for each usable core. A stream of one chunk is done in this one.
        pretokenized: Take the texts for tokens with spaces between them.

    Yields:
        For each chunk of n texts: the number of tokens of each, int32 (n,), and all their ids in a row, int32 (T,).

    Raises:
        RuntimeError: A worker died.
    """
    chunks = _in_chunks(texts)
    start = list(islice(chunks, 2))
    chunks = chain(start, chunks)
    workers = usable_cores() if workers is None else workers
    if workers > 1 and len(start) > 1:
        answers = _ask_workers(chunks, workers, pretokenized)
    else:
        number = Numberer(pretokenized)
        answers = ((0, number(chunk)) for chunk in chunks)
    ids = {token: i for i, token in enumerate(tokens)}
    # For each worker, the id here of each of its own.
    tables: dict[int, np.ndarray] = {}
    for worker, answer in answers:
        for token in answer.new_tokens:
            if ids.setdefault(token, len(ids)) == len(tokens):
                tokens.append(token)
        new = np.fromiter((ids[token] for token in answer.new_tokens), np.int32, len(answer.new_tokens))
        tables[worker] = np.concatenate([tables.get(worker, np.zeros(0, np.int32)), new])
        yield np.frombuffer(answer.lengths, np.int32), tables[worker][np.frombuffer(answer.ids, np.int32)]
