"""Batches of documents of similar length, for training and prediction with classifiers, encoders and taggers.

Every batch is a pure function of (seed, epoch, index), so a run resumes from a number.

Axes: B batch, T time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

Batch = Mapping[str, np.ndarray]
Item = TypeVar("Item")
MAX_WIDTHS = 4
"""largest number of widths of `quantile_widths`"""


@dataclass(frozen=True)
class LengthBatches:
    """Batches of documents of similar length, padded to one of a few widths.

    Args:
        ids: all tokens, one after the other; may be memory-mapped.
        offsets: (N + 1,) int, document n is `ids[offsets[n]:offsets[n + 1]]`.
        documents: indices of the documents, in the order of the results.
        labels: (N, ...) labels of every document of the store, int32 or float32.
        batch_size: B; fewer documents than that make one smaller batch.
        widths: ascending widths that batches are padded to; the last must hold the longest document.
        pad: id that padding is filled with.
        padding: the side of the padding.
        columns: by name, another int for every id, and the int that pads it.

    Examples:
        >>> ids, offsets = np.array([5, 6, 7, 8, 9, 5]), np.array([0, 1, 5, 6])
        >>> batches = LengthBatches(ids, offsets, np.arange(3), np.array([1, 0, 1]), batch_size=2, widths=(2, 4), pad=0)
        >>> [positions.tolist() for positions in batches.evaluation_batches()]
        [[1, 0], [2]]
        >>> batches.evaluation_batch(np.array([1, 0]))["tokens"].tolist()
        [[6, 7, 8, 9], [0, 0, 0, 5]]
    """

    ids: np.ndarray
    offsets: np.ndarray
    documents: np.ndarray
    labels: np.ndarray
    batch_size: int
    widths: tuple[int, ...]
    pad: int
    padding: Literal["left", "right"] = "left"
    columns: Mapping[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    _orders: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def steps_per_epoch(self) -> int:
        """The number of training batches in an epoch; it leaves out the rest of the documents, others in each epoch."""
        return max(1, len(self.documents) // self.batch_size)

    def training_batch(self, step: int, seed: int, rows: np.ndarray | None = None) -> Batch:
        """Batch `step`, counted from the first epoch, or some of its rows.

        It holds `tokens` (B, T), `lengths` (B,), `labels` (B, ...) and each of `columns` (B, T), all int32 but for
        labels of another dtype. With padding on the left, the longest document comes first.

        Documents are shuffled, sorted by width and, with padding on the left, which models need not read, also by
        approximate length; then the batches are shuffled. The widest batch comes first, so memory runs out at once or
        never. Lengths are blurred by a tenth where there are few batches and by a fiftieth where there are many: few
        batches sorted by exact length would hold the same documents in every epoch. The last epoch's order is kept.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        if (order := self._orders.get((seed, epoch))) is None:
            order = self._order(seed, epoch)
            self._orders.clear()
            self._orders[seed, epoch] = order
        return self._assemble(order[index], rows)

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        """The documents of every batch of an epoch, (steps_per_epoch, B)."""
        rng = np.random.default_rng([seed, epoch])
        size = min(self.batch_size, len(self.documents))
        chosen = rng.permutation(self.documents)[: size * self.steps_per_epoch]
        blur = np.clip(8 / self.steps_per_epoch, 0.02, 0.1)
        blurred_lengths = (
            self._lengths(chosen) * rng.uniform(1 - blur, 1 + blur, len(chosen))
            if self.padding == "left"
            else np.zeros(len(chosen))
        )
        chosen = chosen[np.lexsort((blurred_lengths, self._width_index(chosen)))].reshape(-1, size)
        order = chosen[np.append(rng.permutation(len(chosen) - 1), len(chosen) - 1)[::-1]]
        if self.padding == "right":
            return order
        return np.take_along_axis(order, np.argsort(-self._lengths(order), axis=1, kind="stable"), axis=1)

    def evaluation_batches(self) -> list[np.ndarray]:
        """Positions in `documents`, batch by batch, longest first; together every position exactly once."""
        order = np.argsort(-self._lengths(self.documents), kind="stable")
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def evaluation_batch(self, positions: np.ndarray) -> Batch:
        """The documents at `positions`, filled up to the batch size with copies of the last one."""
        filled = np.append(positions, np.full(self.batch_size - len(positions), positions[-1]))
        return self._assemble(self.documents[filled.astype(np.int64)])

    def map(self, function: Callable[[Batch], Any], at_once: int = 1) -> np.ndarray:
        """Applies `function`, whose results are (B, C), to every batch: (N, C) float32 in the order of `documents`.

        With `at_once` above 1, so many threads compute a batch each, with memory for each: the products of one batch
        may be too small to use all cores. JAX's context managers do not reach threads.
        """
        if not len(self.documents):
            return np.zeros((0, 1), np.float32)
        result = np.zeros((len(self.documents), 0), np.float32)
        for positions, values in self._evaluated(function, at_once):
            if not result.shape[1]:
                result = np.zeros((len(result), values.shape[1]), np.float32)
            result[positions] = values[: len(positions)]  # a copy: views would keep the device's memory
        return result

    def map_tokens(self, function: Callable[[Batch], Any]) -> list[np.ndarray]:
        """Applies `function`, whose results are (B, T), to every batch: an array for each document, in their order."""
        lengths, result = self._lengths(self.documents), [np.zeros(0, np.int32)] * len(self.documents)
        for positions, values in self._evaluated(function):
            for position, row in zip(positions, values, strict=False):
                start = 0 if self.padding == "right" else len(row) - lengths[position]
                result[position] = row[start : start + lengths[position]]
        return result

    def _evaluated(self, function: Callable[[Batch], Any], at_once: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions and values of every batch, in order."""
        if at_once == 1:
            started = ((p, function(self.evaluation_batch(p))) for p in self.evaluation_batches())
            for positions, values in _ahead(started, 1):
                yield positions, np.asarray(values)
            return
        pool = ThreadPoolExecutor(at_once)
        try:
            futures = (
                (p, pool.submit(lambda p: np.asarray(function(self.evaluation_batch(p))), p))
                for p in self.evaluation_batches()
            )
            for positions, future in _ahead(futures, at_once):
                yield positions, future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _lengths(self, documents: np.ndarray) -> np.ndarray:
        return self.offsets[documents + 1] - self.offsets[documents]

    def _width_index(self, documents: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.widths, self._lengths(documents))

    def _assemble(self, documents: np.ndarray, rows: np.ndarray | None = None) -> Batch:
        lengths = self._lengths(documents)
        width = self.widths[int(np.searchsorted(self.widths, lengths.max()))]  # that of all rows
        if rows is not None:
            documents, lengths = documents[rows], lengths[rows]
        batch = {"lengths": lengths.astype(np.int32), "labels": self.labels[documents]}
        for name, (flat, fill) in {"tokens": (self.ids, self.pad), **self.columns}.items():
            batch[name] = np.full((len(documents), width), fill, np.int32)
            for row, document, length in zip(batch[name], documents, lengths, strict=True):
                place = slice(width - length, None) if self.padding == "left" else slice(length)
                row[place] = flat[self.offsets[document] : self.offsets[document + 1]]
        return batch


def _ahead(items: Iterator[Item], count: int) -> Iterator[Item]:
    """The same items, with up to `count` of the following ones requested before an item is handed out."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def quantile_widths(lengths: np.ndarray) -> tuple[int, ...]:
    """Widths for `LengthBatches`: quantiles of the lengths, fewer for few texts, because each width is compiled.

    Examples:
        >>> quantile_widths(np.arange(1, 1001))
        (336, 672, 1000)
    """
    buckets = min(MAX_WIDTHS, 1 + len(lengths) // 500)
    quantiles = np.quantile(lengths, np.arange(1, buckets + 1) / buckets, method="higher")
    longest = int(lengths.max())
    return tuple(sorted({min(-(-int(width) // 8) * 8, longest) for width in quantiles}))


def length_widths(longest: int, max_length: int, bptt: int, buckets: int = 1) -> tuple[int, ...]:
    """Widths for `LengthBatches`: even steps, multiples of 48, up to `max_length`, the last of which holds it all.

    The words before a document's last `max_length` are read in chunks of `bptt`, as many as hold words. The last width
    may therefore be far above the longest document and costs only memory for ids. It is `max_length` plus 16, 128, 256,
    512 ... chunks, so corpora of different lengths share a few shapes. From 256 chunks on, `max_length` plus 16 chunks
    is a width too, so that a single long document does not set the memory of all. Up to `max_length` a training step
    keeps states for the whole width.

    Examples:
        >>> length_widths(longest=1000, max_length=300, bptt=70, buckets=3)
        (144, 240, 1420)
        >>> length_widths(longest=90, max_length=400, bptt=70, buckets=2)
        (48, 96)
        >>> length_widths(longest=20_000, max_length=300, bptt=70)
        (1420, 36140)
    """
    top = min(longest, max_length)
    step = -(-top // buckets)
    widths = {min(-(-min(step * (i + 1), top) // 48) * 48, max_length) for i in range(buckets)}
    *shorter, last = sorted(widths)
    chunks = 16
    while last < longest:
        last, chunks = max_length + chunks * bptt, max(128, 2 * chunks)
    if last > max_length + 128 * bptt:
        shorter.append(max_length + 16 * bptt)
    return (*shorter, last)
