"""Batches of encoded texts for encoders and taggers, padded on the right.

Finished models and the jobs that train them make their batches here.
"""

from collections.abc import Sequence

import numpy as np

from jaxft.data.length_batches import LengthBatches
from jaxft.data.pieces import Pieces
from jaxft.data.tag_pieces import TagPieces


def prediction_batch_size(count: int, batch_size: int) -> int:
    """The batch size for `count` texts: a power of two or `batch_size`, so that few shapes are compiled.

    Examples:
        >>> [prediction_batch_size(count, 64) for count in (1, 2, 5, 8, 1000)]
        [1, 2, 8, 8, 64]
    """
    return min(batch_size, 1 << (count - 1).bit_length())


def piece_batches(
    pieces: Pieces, texts: np.ndarray, labels: np.ndarray, batch_size: int, widths: Sequence[int]
) -> LengthBatches:
    """Batches of texts, or of windows of them, for an encoder; the model masks the padding.

    Args:
        pieces: the word pieces of N texts.
        texts: numbers of the texts whose rows to take, in the order of the results.
        labels: (N, ...) of all texts.
        batch_size: rows per batch.
        widths: ascending widths in pieces that batches are padded to.
    """
    columns = {} if pieces.token_type_ids is None else {"token_type_ids": (pieces.token_type_ids, 0)}
    rows, labels_of_rows = pieces.rows(texts), labels[pieces.texts]
    return LengthBatches(
        pieces.ids, pieces.offsets, rows, labels_of_rows, batch_size, tuple(widths), 0, "right", columns
    )


def window_batches(pieces: TagPieces, windows: np.ndarray, batch_size: int, widths: Sequence[int]) -> LengthBatches:
    """Batches of windows of sentences for a tagger; padding has the tag -1, and the model masks it.

    Args:
        pieces: the windows of all sentences.
        windows: numbers of the windows to take, in the order of the results.
        batch_size: windows per batch.
        widths: ascending widths in ids that batches are padded to.
    """
    labels = np.zeros(len(pieces.lengths), np.int32)
    columns = {"tags": (pieces.tags, -1)}
    return LengthBatches(pieces.ids, pieces.offsets, windows, labels, batch_size, tuple(widths), 0, "right", columns)
