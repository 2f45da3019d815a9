"""Batches for the two stages: windows of a language-model stream, and documents of like length.

Every batch is a pure function of (seed, epoch, index), so a run resumes from a number. The jobs call this module; it
reads documents through `ids` and `offsets` of a token store and holds nothing that grows with the number of words.

Axes: B batch, T time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

Batch = Mapping[str, np.ndarray]
Item = TypeVar("Item")
BUCKETS = 4
"""widths that batches are padded to, at most"""


class WindowStream:
    """Documents laid end to end, cut into B parallel rows, read in windows of `bptt` tokens.

    Window `step` holds `inputs` and `targets` (B, T) int32, the targets one word ahead, and `reset`, True where an
    epoch starts. Row b of a window goes on where row b of the window before ended, so a recurrent state can be carried.

    Args:
        ids: all tokens, one after the other; may be memory-mapped.
        offsets: (N + 1,) int, document n is `ids[offsets[n]:offsets[n + 1]]`.
        documents: which documents to read.
        batch_size: B, parallel rows.
        bptt: T, tokens per window.
        seed: shuffles the documents anew for every epoch; None reads them in the given order, and pads the end with
            targets of -1 so that every token is seen once; with a seed the last incomplete window is left out.
        vary: draw the length of each window (with a seed only), so that windows end elsewhere in every epoch; see
            `window_lengths`.

    Raises:
        ValueError: fewer tokens than one window of every row.

    Examples:
        >>> stream = WindowStream(np.arange(20), np.array([0, 20]), [0], batch_size=2, bptt=4, seed=0)
        >>> stream.steps_per_epoch
        2
        >>> stream.batch(1)["inputs"].tolist()
        [[4, 5, 6, 7], [13, 14, 15, 16]]
    """

    def __init__(
        self,
        ids: np.ndarray,
        offsets: np.ndarray,
        documents: Sequence[int] | np.ndarray,
        *,
        batch_size: int,
        bptt: int,
        seed: int | None,
        vary: bool = False,
    ):
        self._ids, self._offsets = ids, np.asarray(offsets, np.int64)
        self._documents = np.asarray(documents, np.int64)
        self._batch_size, self._bptt, self._seed, self._vary = batch_size, bptt, seed, vary
        self.tokens = int((self._offsets[self._documents + 1] - self._offsets[self._documents]).sum())
        predictions = self.tokens - 1
        if seed is None:
            self._row = -(-predictions // batch_size)
            self.steps_per_epoch = -(-self._row // bptt)
        else:
            self._row = predictions // batch_size
            self.steps_per_epoch = self._row // bptt
            if vary and self.steps_per_epoch:
                self.steps_per_epoch = min(self._row, max(1, round(self._row / (0.975 * bptt))))
        if predictions < 1 or self.steps_per_epoch < 1:
            raise ValueError(f"{self.tokens} tokens are too few for {batch_size} rows of {bptt} tokens")
        self._epoch: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    def window_lengths(self, epoch: int) -> np.ndarray:
        """Tokens of every window of an epoch, (steps_per_epoch,) int.

        Where they vary, 95 % are drawn from N(bptt, 5) and 5 % from N(bptt / 2, 5), as Merity et al. 2018 (section
        4.1) do, and rounded to a seventh of `bptt`, so that a few compiled shapes serve all. Where they are more than
        the tokens, the longest are shortened.
        """
        if not self._vary or self._seed is None:
            return np.full(self.steps_per_epoch, self._bptt)
        rng, unit = np.random.default_rng([self._seed, epoch, 1]), max(1, round(self._bptt / 7))
        mean = np.where(rng.random(self.steps_per_epoch) < 0.95, self._bptt, self._bptt / 2)
        lengths = np.maximum(unit, np.rint(rng.normal(mean, 5) / unit) * unit).astype(np.int64)
        while (beyond := lengths.sum() - self._row) > 0:  # the longest windows give way, evenly
            longest = np.flatnonzero(lengths == lengths.max())[: -(-beyond // unit)]
            lengths[longest] -= min(unit, lengths.max() - 1)
        return lengths

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Documents in the epoch's order, where each starts in the stream, and where each window starts in its row; the
        epoch last asked for is kept."""
        if self._epoch is None or self._epoch[0] != epoch:
            documents = self._documents
            if self._seed is not None:
                documents = np.random.default_rng([self._seed, epoch]).permutation(documents)
            lengths = self._offsets[documents + 1] - self._offsets[documents]
            windows = np.concatenate([[0], np.cumsum(self.window_lengths(epoch))])
            self._epoch = (epoch, documents, np.cumsum(lengths) - lengths, windows)
        return self._epoch[1:]

    def batch(self, step: int) -> Batch:
        """Window `step`, counted from the start of the first epoch."""
        epoch, window = divmod(step, self.steps_per_epoch)
        documents, starts, windows = self._order(epoch)
        row_start = np.arange(self._batch_size)[:, None] * self._row
        within = np.arange(windows[window], windows[window + 1] + 1)[None, :]
        position = row_start + within  # (B, T + 1)
        # Beyond its row or the stream a position has no token of its own, and what stands there is no target.
        exists = (within <= self._row) & (position < self.tokens)
        position = np.minimum(position, self.tokens - 1)
        document = np.searchsorted(starts, position, side="right") - 1
        tokens = self._ids[self._offsets[documents[document]] + position - starts[document]].astype(np.int32)
        targets = np.where(exists[:, 1:], tokens[:, 1:], np.int32(-1))
        return {"inputs": tokens[:, :-1], "targets": targets, "reset": np.asarray(window == 0)}


@dataclass(frozen=True)
class LengthBatches:
    """Documents of like length in batches padded to one of a few widths.

    Args:
        ids, offsets: as in `WindowStream`.
        documents: which documents, in the order of the results.
        labels: (N, ...) of every document of the store, int32 or float32.
        batch_size: B; fewer documents than that make one smaller batch.
        widths: ascending widths that batches are padded to; the last must hold the longest document.
        pad: id that padding is filled with.
        padding: on which side it stands.
        columns: by name, another int for every id, and what to pad it with.

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

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in an epoch; the documents left over change from epoch to epoch."""
        return max(1, len(self.documents) // self.batch_size)

    def training_batch(self, step: int, seed: int) -> Batch:
        """Batch `step`, counted from the first epoch: `tokens` (B, T), `lengths` (B,), `labels` (B, ...) and each
        of `columns` (B, T); int32 but for labels that are not.

        Documents are shuffled, brought together by width and, where the padding on their left need not be read, by
        about their length, and the batches shuffled again; the widest comes first, so that memory runs out at once or
        not at all. How exact the lengths are goes with the number of batches, from a tenth to a fiftieth: among few,
        exact lengths would bring the same documents together in every epoch.
        """
        epoch, index = divmod(step, self.steps_per_epoch)
        rng = np.random.default_rng([seed, epoch])
        size = min(self.batch_size, len(self.documents))
        chosen = rng.permutation(self.documents)[: size * self.steps_per_epoch]
        spread = np.clip(8 / self.steps_per_epoch, 0.02, 0.1)
        about = (
            self._lengths(chosen) * rng.uniform(1 - spread, 1 + spread, len(chosen))
            if self.padding == "left"
            else np.zeros(len(chosen))
        )
        chosen = chosen[np.lexsort((about, self._width_index(chosen)))].reshape(-1, size)
        order = np.append(rng.permutation(len(chosen) - 1), len(chosen) - 1)[::-1]
        return self._assemble(chosen[order[index]])

    def evaluation_batches(self) -> list[np.ndarray]:
        """Positions in `documents`, batch by batch, longest first; together every position exactly once."""
        order = np.argsort(-self._lengths(self.documents), kind="stable")
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]

    def evaluation_batch(self, positions: np.ndarray) -> Batch:
        """The documents at `positions`, filled up to the batch size with copies of the last one."""
        filled = np.append(positions, np.full(self.batch_size - len(positions), positions[-1]))
        return self._assemble(self.documents[filled.astype(np.int64)])

    def map(self, function: Callable[[Batch], Any], at_once: int = 1) -> np.ndarray:
        """What `function` makes of every batch, (B, C), as (N, C) float32 in the order of `documents`.

        More than one batch `at_once` are computed by as many threads, each in memory of its own: where the products of
        one are too small for all cores, another fills them. JAX's context managers do not reach threads.
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
        """What `function` makes of every token, (B, T), one array for each document in their order."""
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

    def _assemble(self, documents: np.ndarray) -> Batch:
        lengths = self._lengths(documents)
        width = self.widths[int(np.searchsorted(self.widths, lengths.max()))]
        batch = {"lengths": lengths.astype(np.int32), "labels": self.labels[documents]}
        for name, (flat, fill) in {"tokens": (self.ids, self.pad), **self.columns}.items():
            batch[name] = np.full((len(documents), width), fill, np.int32)
            for row, document, length in zip(batch[name], documents, lengths, strict=True):
                place = slice(width - length, None) if self.padding == "left" else slice(length)
                row[place] = flat[self.offsets[document] : self.offsets[document + 1]]
        return batch


def _ahead(items: Iterator[Item], count: int) -> Iterator[Item]:
    """The same items, each given out when so many after it have been asked for: what makes them need not wait for what
    takes them, and no more than these are held."""
    held: deque[Item] = deque()
    for item in items:
        held.append(item)
        if len(held) > count:
            yield held.popleft()
    yield from held


def quantile_widths(lengths: np.ndarray) -> tuple[int, ...]:
    """Widths for `LengthBatches`: quantiles of the lengths, fewer for few texts, as each one is compiled for.

    Examples:
        >>> quantile_widths(np.arange(1, 1001))
        (336, 672, 1000)
    """
    buckets = min(BUCKETS, 1 + len(lengths) // 500)
    quantiles = np.quantile(lengths, np.arange(1, buckets + 1) / buckets, method="higher")
    longest = int(lengths.max())
    return tuple(sorted({min(-(-int(width) // 8) * 8, longest) for width in quantiles}))


def length_widths(longest: int, max_length: int, bptt: int, buckets: int = 1) -> tuple[int, ...]:
    """Widths for `LengthBatches`: even steps, multiples of 48, up to `max_length`, the last of which holds it all.

    What comes before a document's last `max_length` words is read in chunks of `bptt`, and only as many as there are
    words for. So beyond `max_length` the last width may be far above the documents, at the cost of memory for their ids
    and nothing else: it is 16, 128, 1,024 ... chunks more, which few shapes of corpora share. Up to `max_length` a
    training step keeps states for the whole width.

    Examples:
        >>> length_widths(longest=1000, max_length=300, bptt=70, buckets=3)
        (144, 240, 1420)
        >>> length_widths(longest=90, max_length=400, bptt=70, buckets=2)
        (48, 96)
    """
    top = min(longest, max_length)
    step = -(-top // buckets)
    widths = {min(-(-min(step * (i + 1), top) // 48) * 48, max_length) for i in range(buckets)}
    last, chunks = max(widths), 16
    while last < longest:
        last, chunks = max_length + chunks * bptt, 8 * chunks
    return (*sorted(widths)[:-1], last)
