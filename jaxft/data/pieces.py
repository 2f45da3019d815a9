"""Texts as word pieces, by the tokenizer of a checkpoint.

`transformers` is imported in the functions that use it, because its import takes a second.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxft.base.files import require_file
from jaxft.data.growing import GrowingArray
from jaxft.data.length_batches import quantile_widths
from jaxft.errors import InputError, reason_of

SENTENCEPIECE_FILES = ("sentencepiece.bpe.model", "spiece.model", "spm.model")
"""what a tokenizer is read from only where the package sentencepiece is installed"""
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", *SENTENCEPIECE_FILES)
"""a folder with none of these has no tokenizer; transformers would make one that knows no word"""
TOKENIZER_PARTS = (
    *TOKENIZER_FILES,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "bpe.codes"),
    *("tokenizer.model", "sentencepiece.model"),
)
"""all files that a tokenizer may be read from"""


LongTexts = Literal["cut", "windows"]
"""what becomes of a text with too many pieces: its end is cut off, or it is read in windows that overlap"""
MOST_UPPER_CASE = 0.01
"""largest share of upper-case pieces in a vocabulary for lower-case texts"""
OVERLAP = 0.25
"""share of a window that the next one repeats"""
AT_ONCE = 1000
"""texts with the tokenizer at once, which takes some 55 KB for each"""


@dataclass(frozen=True)
class Pieces:
    """The word pieces of N texts in M rows, one after the other; a row is a text, or a window of one.

    Attributes:
        ids: all ids, int32; of many, memory-mapped.
        offsets: (M + 1,) int64, row m is `ids[offsets[m]:offsets[m + 1]]`.
        texts: (M,) int64, ascending: the text that each row is of.
        token_type_ids: for every id, 0 in the first text of a pair and 1 in the second, int8; None for single texts.
        truncated: number of texts that are cut.
        cut: number of pieces that are cut off.
    """

    ids: np.ndarray
    offsets: np.ndarray
    texts: np.ndarray
    token_type_ids: np.ndarray | None
    truncated: int
    cut: int

    @property
    def lengths(self) -> np.ndarray:
        """The number of pieces of each row."""
        return np.diff(self.offsets)

    def widths(self) -> tuple[int, ...]:
        """Widths for `LengthBatches`."""
        return quantile_widths(self.lengths)

    def rows(self, texts: np.ndarray) -> np.ndarray:
        """The rows of some of the texts, those of a text side by side."""
        first, end = self._spans(texts)
        return np.concatenate([np.arange(a, b) for a, b in zip(first, end, strict=True)] or [first])

    def means(self, texts: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The mean over the rows of each text, from values (R, C) of `rows(texts)`: (len(texts), C)."""
        first, end = self._spans(texts)
        counts = end - first
        if (counts == 1).all():
            return values
        return np.add.reduceat(values, np.cumsum(counts) - counts) / counts[:, None].astype(values.dtype)

    def _spans(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first row of each text, and the row after its last."""
        return np.searchsorted(self.texts, texts, "left"), np.searchsorted(self.texts, texts, "right")


def load_tokenizer(folder: Path, model_type: str | None = None) -> Any:
    """The tokenizer of a checkpoint folder; code in the folder is not run.

    Args:
        folder: of the checkpoint.
        model_type: type of the model, for a folder whose config.json does not name it.

    Raises:
        InputError: the folder has no tokenizer, a damaged one, or one that would lower-case the texts of a vocabulary
            with upper-case pieces.
    """
    for name in TOKENIZER_PARTS:
        require_file(folder / name)
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise InputError(f"{folder} holds no tokenizer ({', '.join(TOKENIZER_FILES)}): download the whole checkpoint")
    # Otherwise transformers warns on import that torch is not installed.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = {} if model_type is None else {"config": AutoConfig.for_model(model_type)}
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **config)
        tokenizer("a ꙮ")  # which some damaged ones cannot do, such as those that lack the unknown piece
    except Exception as error:  # each format raises its own
        if alone := _sentencepiece_alone(folder):
            raise InputError(
                f"{folder} holds its tokenizer as {alone}, which needs the package sentencepiece ({reason_of(error)}): "
                "install it, or add the tokenizer.json of the same model"
            ) from error
        raise InputError(
            f"{folder} holds no tokenizer that can be read ({reason_of(error)}): download it again"
        ) from error
    _check_case(tokenizer, folder)
    return tokenizer


def _sentencepiece_alone(folder: Path) -> str | None:
    """The file of sentencepiece in a folder that has no other file of a tokenizer."""
    found = [name for name in TOKENIZER_FILES if (folder / name).exists()]
    return found[0] if found and set(found) <= set(SENTENCEPIECE_FILES) else None


def _check_case(tokenizer: Any, folder: Path) -> None:
    """Refuses to lower-case the texts of a vocabulary with upper-case pieces where no file says to do so."""
    settings = folder / "tokenizer_config.json"
    is_said = settings.exists() and "do_lower_case" in settings.read_text(encoding="utf-8")
    if is_said or (folder / "tokenizer.json").exists() or not tokenizer.is_fast:
        return
    normalizer = tokenizer.backend_tokenizer.normalizer
    pieces = [piece for piece in tokenizer.get_vocab() if piece[:1] not in ("[", "<")]
    upper_case = sum(piece != piece.lower() for piece in pieces)
    if normalizer and normalizer.normalize_str("A") == "a" and upper_case > MOST_UPPER_CASE * len(pieces):
        raise InputError(
            f"{folder} has upper-case pieces and no {settings.name} with do_lower_case, without which texts are "
            'lower-cased: write it, with {"do_lower_case": false} for a cased model'
        )


def check_vocabulary(tokenizer: Any, rows: int, name: str) -> None:
    """Refuses a tokenizer with pieces that the word embeddings have no row for.

    Special tokens without a row that the tokenizer does not add itself, such as a mask, are read as plain text.

    Args:
        tokenizer: from `load_tokenizer`.
        rows: of the word embeddings.
        name: of the checkpoint, for the error.

    Raises:
        InputError: naming the first such piece.
    """
    outside = {number: piece for piece, number in tokenizer.get_vocab().items() if number >= rows}
    given = tokenizer("a")["input_ids"]
    if (largest := max(given, default=0)) >= rows and largest not in outside:  # it surrounds texts, and is no piece
        raise InputError(
            f"the tokenizer in {name} gives the piece number {largest} and the model has only {rows} pieces: name a "
            "folder in which both belong together"
        )
    used = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id, *given}
    unused = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special} - used
    if wrong := sorted(outside.keys() - unused):
        raise InputError(
            f"the tokenizer in {name} has the piece {outside[wrong[0]]!r} with the number {wrong[0]} and the model "
            f"only {rows} pieces: name a folder in which both belong together"
        )
    if outside:
        tokenizer.split_special_tokens = True


def filler_id(tokenizer: Any) -> int:
    """The piece that stands for a text or a token without pieces: the unknown one, padding, or the first."""
    return next((id for id in (tokenizer.unk_token_id, tokenizer.pad_token_id) if id is not None), 0)


def makes_windows(tokenizer: Any) -> bool:
    """Whether a tokenizer splits a long text into windows; those that are written in Python do not."""
    return tokenizer.is_fast


def encode(tokenizer: Any, texts: Sequence[tuple[str, ...]], max_length: int, long_texts: LongTexts = "cut") -> Pieces:
    """Splits texts, or pairs of texts, into pieces, with the special pieces of the tokenizer.

    A text without any piece, such as an empty one where the tokenizer adds none, is one unknown piece.

    Args:
        tokenizer: the tokenizer of a checkpoint, from `load_tokenizer`.
        texts: N tuples, each of one text or two.
        max_length: largest number of pieces of a row; the longer text of a pair is cut first.
        long_texts: what becomes of a text with more pieces; pairs can only be cut.

    Raises:
        InputError: the tokenizer cannot make windows.
    """
    if long_texts == "windows" and not makes_windows(tokenizer):
        raise InputError(
            "the tokenizer of the checkpoint cannot make windows, for want of a tokenizer.json: give --long-texts cut"
        )
    parts = (texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE))
    return _joined(_encode_part(tokenizer, part, max_length, long_texts == "windows") for part in parts)


def _joined(parts: Iterable[Pieces]) -> Pieces:
    """The pieces of all texts, from those of `AT_ONCE` texts after the other."""
    ids, token_type_ids = GrowingArray(np.int32), GrowingArray(np.int8)
    pairs, lengths, texts, truncated, cut = False, [np.zeros(1, np.int64)], [], 0, 0
    for number, part in enumerate(parts):
        ids.append(part.ids)
        if part.token_type_ids is not None:
            pairs = True
            token_type_ids.append(part.token_type_ids)
        lengths.append(part.lengths)
        texts.append(part.texts + number * AT_ONCE)
        truncated, cut = truncated + part.truncated, cut + part.cut
    return Pieces(
        ids=ids.finished(),
        offsets=np.cumsum(np.concatenate(lengths)),
        texts=np.concatenate(texts),
        token_type_ids=token_type_ids.finished() if pairs else None,
        truncated=truncated,
        cut=cut,
    )


def _encode_part(tokenizer: Any, texts: Sequence[tuple[str, ...]], max_length: int, windows: bool) -> Pieces:
    pairs = len(texts[0]) == 2
    columns = list(zip(*texts, strict=True))
    encoded = tokenizer(
        *(list(column) for column in columns),
        truncation="longest_first",
        max_length=max_length,
        stride=int(OVERLAP * max_length) if windows else 0,
        return_overflowing_tokens=windows,
        return_attention_mask=False,
        return_token_type_ids=pairs,
    )
    rows = [ids or [filler_id(tokenizer)] for ids in encoded["input_ids"]]
    lengths = np.array([len(ids) for ids in rows], np.int64)
    truncated, cut = (0, 0) if windows else _count_cut(tokenizer, columns, encoded, lengths)
    return Pieces(
        ids=np.concatenate(rows).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        texts=np.array(encoded["overflow_to_sample_mapping"] if windows else range(len(texts)), np.int64),
        token_type_ids=np.concatenate([ids or [0] for ids in encoded["token_type_ids"]]).astype(np.int8)
        if pairs
        else None,
        truncated=truncated,
        cut=cut,
    )


def _count_cut(tokenizer: Any, columns: Sequence[Sequence[str]], encoded: Any, lengths: np.ndarray) -> tuple[int, int]:
    """The number of texts that are cut, and of the pieces that are cut off."""
    if encoded.encodings is None:  # written in Python, which does not say what it cuts
        whole = tokenizer(*(list(column) for column in columns), return_attention_mask=False)["input_ids"]
        more = np.array([len(ids) for ids in whole], np.int64) - lengths
        return int((more > 0).sum()), int(more[more > 0].sum())
    long = [i for i, encoding in enumerate(encoded.encodings) if encoding.overflowing]
    whole = tokenizer(*([column[i] for i in long] for column in columns))["input_ids"] if long else []
    return len(long), sum(map(len, whole)) - int(lengths[long].sum())
