"""Texts as word pieces, by the tokenizer of a checkpoint.

`transformers` is imported in the functions that use it, because its import takes a second.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.length_batches import quantile_widths
from jaxft.errors import InputError

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
"""a folder with none of these has no tokenizer; transformers would make one that knows no word"""


@dataclass(frozen=True)
class Pieces:
    """The word pieces of N texts, one after the other.

    Attributes:
        ids: all ids, int32.
        offsets: (N + 1,) int64, text n is `ids[offsets[n]:offsets[n + 1]]`.
        token_type_ids: for every id, 0 in the first text of a pair and 1 in the second, int8; None for single texts.
        truncated: number of texts that are cut.
    """

    ids: np.ndarray
    offsets: np.ndarray
    token_type_ids: np.ndarray | None
    truncated: int

    @property
    def lengths(self) -> np.ndarray:
        """The number of pieces of each text."""
        return np.diff(self.offsets)

    def widths(self) -> tuple[int, ...]:
        """Widths for `LengthBatches`."""
        return quantile_widths(self.lengths)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint folder.

    Raises:
        InputError: the folder has no tokenizer, or a damaged one.
    """
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise InputError(f"{folder} holds no tokenizer ({', '.join(TOKENIZER_FILES)}): download the whole checkpoint")
    # Otherwise transformers warns on import that torch is not installed.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # each format raises its own
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder} holds no tokenizer that can be read ({reason}): download it again") from error


def encode(tokenizer: Any, texts: Sequence[tuple[str, ...]], max_length: int) -> Pieces:
    """Splits texts, or pairs of texts, into pieces, with the special pieces of the tokenizer.

    Args:
        tokenizer: the tokenizer of a checkpoint, from `load_tokenizer`.
        texts: N tuples, each of one text or two.
        max_length: largest number of pieces of a text; the longer text of a pair is cut first.
    """
    pairs = bool(texts) and len(texts[0]) == 2
    columns = list(zip(*texts, strict=True))
    encoded = tokenizer(
        *(list(column) for column in columns),
        truncation="longest_first",
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=pairs,
    )
    lengths = np.array([len(ids) for ids in encoded["input_ids"]], np.int64)
    truncated = sum(bool(encoding.overflowing) for encoding in encoded.encodings or ())
    return Pieces(
        ids=np.concatenate(encoded["input_ids"]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        token_type_ids=np.concatenate(encoded["token_type_ids"]).astype(np.int8) if pairs else None,
        truncated=truncated,
    )
