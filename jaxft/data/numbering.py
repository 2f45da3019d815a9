"""Turns a stream of texts into token ids, in worker processes if there is more than one chunk of texts.

`jaxft.data.store` calls it. A worker is a new Python process that imports `jaxft.data.worker` alone. It is not forked,
because jax runs threads, and not started by `multiprocessing`, which would import the job's main module, and with it
jax, in every worker. `T` is the number of tokens in a chunk of `n` texts.
"""

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

from jaxft.base.machine import usable_cores
from jaxft.data.vocabulary import Vocabulary
from jaxft.data.worker import NumberedTexts, Numberer
from jaxft.errors import InputError

# Large enough that sending a chunk costs little, small enough to hold several in memory.
_CHUNK_CHARACTERS = 1_000_000

# The parent packages are entered by their folders, so that `jaxft/__init__.py`, which imports jax, does not run.
_START = """
import sys, types
folder, kind, *sys.path = sys.argv[1:]
for name, path in ("jaxft", folder), ("jaxft.data", folder + "/data"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from jaxft.data.worker import serve
serve(kind == "pretokenized")
"""


def _in_chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of at least `_CHUNK_CHARACTERS` characters, but for the last."""
    chunk, characters = [], 0
    for text in texts:
        chunk.append(text)
        characters += len(text)
        if characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _number_in(process: subprocess.Popen[bytes], texts: list[str]) -> NumberedTexts:
    """Sends a chunk to a worker process and waits for its answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(texts, process.stdin, pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
        return NumberedTexts(*pickle.load(process.stdout))
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        raise InputError(
            f"a tokenizing process ended with status {process.wait()}: free some memory and run the command again"
        ) from error


@contextmanager
def _worker(pretokenized: bool) -> Iterator[Callable[[list[str]], Future[NumberedTexts]]]:
    """Starts a worker process, and a thread that sends it chunks one after the other.

    Yields:
        A function from a chunk to the future of its answer.
    """
    kind = "pretokenized" if pretokenized else "raw"
    command = [sys.executable, "-c", _START, str(Path(__file__).parents[1]), kind, *sys.path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        with ThreadPoolExecutor(1) as thread:
            try:
                yield lambda texts: thread.submit(_number_in, process, texts)
            finally:
                # After an error or Ctrl-C the process may be busy, and the thread waits for it.
                thread.shutdown(wait=False, cancel_futures=True)
                process.kill()
    finally:
        with suppress(OSError):
            process.communicate()


def _number_in_workers(
    chunks: Iterable[list[str]], count: int, pretokenized: bool
) -> Iterator[tuple[int, NumberedTexts]]:
    """The index of the worker and its answer for each chunk, in order.

    The workers take turns, and each holds at most two chunks.
    """
    pending: deque[tuple[int, Future[NumberedTexts]]] = deque()
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(pretokenized)) for _ in range(count)]
        for i, chunk in enumerate(chunks):
            pending.append((i % count, workers[i % count](chunk)))
            if len(pending) == 2 * count:
                worker, answer = pending.popleft()
                yield worker, answer.result()
        for worker, answer in pending:
            yield worker, answer.result()


def number_texts(
    texts: Iterable[str], tokens: list[str], workers: int | None = None, pretokenized: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokenizes a stream of texts; tokens get their ids in order of appearance, after xxbos and xxrep.

    The ids do not depend on the number of workers.

    Args:
        texts: the texts; a few chunks are read ahead of what is yielded.
        tokens: an empty list, to which each new token is appended, so that `tokens[i]` has id i.
        workers: number of processes; None starts one for each usable core. This process does a stream of one chunk.
        pretokenized: whether the texts are tokens separated by spaces.

    Yields:
        For each chunk of n texts: the number of tokens of each, int32 (n,), and the ids of all in a row, int32 (T,).

    Raises:
        InputError: a worker process ended.
    """
    chunks = _in_chunks(texts)
    first_chunks = list(islice(chunks, 2))
    chunks = chain(first_chunks, chunks)
    workers = usable_cores() if workers is None else workers
    if workers > 1 and len(first_chunks) > 1:
        answers = _number_in_workers(chunks, workers, pretokenized)
    else:
        number = Numberer(pretokenized)
        answers = ((0, number(chunk)) for chunk in chunks)
    ids = {token: i for i, token in enumerate(tokens)}
    # For each worker, a table from its ids to the ids of the stream.
    tables: dict[int, np.ndarray] = {}
    for worker, answer in answers:
        for token in answer.new_tokens:
            if ids.setdefault(token, len(ids)) == len(tokens):
                tokens.append(token)
        new = np.fromiter((ids[token] for token in answer.new_tokens), np.int32, len(answer.new_tokens))
        tables[worker] = np.concatenate([tables.get(worker, np.zeros(0, np.int32)), new])
        yield np.frombuffer(answer.lengths, np.int32), tables[worker][np.frombuffer(answer.ids, np.int32)]


def number_subwords(
    texts: Iterable[str], tokens: list[str], vocabulary: Vocabulary
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same as `number_texts` for the subwords of a vocabulary, all of which are appended to `tokens`."""
    tokens.extend(vocabulary.tokens)
    for chunk in _in_chunks(texts):
        ids = vocabulary.encode_texts(chunk)
        yield np.array([len(row) for row in ids], np.int32), np.concatenate(ids)
