"""Windows of a stream of tokens, for language models: documents laid end to end and read in parallel rows.

Every batch is a pure function of (seed, epoch, index), so a run resumes from a number. Nothing here grows with the
number of words.

Axes: B batch, T time.
"""

from collections.abc import Mapping, Sequence

import numpy as np

Batch = Mapping[str, np.ndarray]


class WindowStream:
    """Documents laid end to end, split into B parallel rows and read in windows of `bptt` tokens.

    A window holds `inputs` and `targets` (B, T) int32, the targets one token ahead, and `reset`, which is True in the
    first window of an epoch. Row b of a window continues row b of the window before, so that a recurrent state can be
    carried over.

    Args:
        ids: all tokens, one after the other; may be memory-mapped.
        offsets: (N + 1,) int, document n is `ids[offsets[n]:offsets[n + 1]]`.
        documents: indices of the documents to read.
        batch_size: B, parallel rows.
        bptt: T, tokens per window.
        seed: shuffles the documents in every epoch, and the last incomplete window is left out; None reads them in the
            given order and pads the end with targets of -1, so that every token is seen once.
        vary: whether to draw the length of each window, with a seed only, so that windows end elsewhere in every epoch;
            see `window_lengths`.

    Raises:
        ValueError: there are fewer tokens than a window of every row needs.

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
            raise ValueError(f"{self.tokens} tokens, too few for {batch_size} rows of {bptt} tokens")
        self._epoch: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    def window_lengths(self, epoch: int) -> np.ndarray:
        """Tokens of every window of an epoch, (steps_per_epoch,) int.

        Where they vary, 95 % are drawn from N(bptt, 5) and 5 % from N(bptt / 2, 5), as Merity et al. 2018 (section
        4.1) do, and rounded to a seventh of `bptt`, so that few shapes are compiled. Where their sum exceeds the
        tokens, the longest windows are shortened.
        """
        if not self._vary or self._seed is None:
            return np.full(self.steps_per_epoch, self._bptt)
        rng, unit = np.random.default_rng([self._seed, epoch, 1]), max(1, round(self._bptt / 7))
        mean = np.where(rng.random(self.steps_per_epoch) < 0.95, self._bptt, self._bptt / 2)
        lengths = np.maximum(unit, np.rint(rng.normal(mean, 5) / unit) * unit).astype(np.int64)
        while (excess := lengths.sum() - self._row) > 0:
            longest = np.flatnonzero(lengths == lengths.max())[: -(-excess // unit)]
            lengths[longest] -= min(unit, lengths.max() - 1)
        return lengths

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The documents in the order of an epoch, their starts in the stream, and the starts of the windows in a row.

        The last epoch is kept.
        """
        if self._epoch is None or self._epoch[0] != epoch:
            documents = self._documents
            if self._seed is not None:
                documents = np.random.default_rng([self._seed, epoch]).permutation(documents)
            lengths = self._offsets[documents + 1] - self._offsets[documents]
            windows = np.concatenate([[0], np.cumsum(self.window_lengths(epoch))])
            self._epoch = (epoch, documents, np.cumsum(lengths) - lengths, windows)
        return self._epoch[1:]

    def batch(self, step: int, rows: np.ndarray | None = None) -> Batch:
        """Window `step`, counted from the start of the first epoch, or some of its rows."""
        epoch, window = divmod(step, self.steps_per_epoch)
        documents, starts, windows = self._order(epoch)
        row_start = (np.arange(self._batch_size) if rows is None else rows)[:, None] * self._row
        within = np.arange(windows[window], windows[window + 1] + 1)[None, :]
        position = row_start + within  # (B, T + 1)
        # A position beyond its row or beyond the stream holds no token of its own and is no target.
        exists = (within <= self._row) & (position < self.tokens)
        position = np.minimum(position, self.tokens - 1)
        document = np.searchsorted(starts, position, side="right") - 1
        tokens = self._ids[self._offsets[documents[document]] + position - starts[document]].astype(np.int32)
        targets = np.where(exists[:, 1:], tokens[:, 1:], np.int32(-1))
        return {"inputs": tokens[:, :-1], "targets": targets, "reset": np.asarray(window == 0)}
