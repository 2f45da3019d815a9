"""Sentences as ids to tag: word pieces or whole tokens, with long sentences in overlapping windows."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, TypeVar

import numpy as np
import regex

from jaxft.data.pieces import filler_id
from jaxft.data.spans import Scheme, read_spans, write_tags
from jaxft.data.vocabulary import Vocabulary

Value = TypeVar("Value")
Unit = Literal["characters", "words"]
_PARTS = r"(?!\p{M}|\p{Cf})\w+"  # a mark that joins the word before it begins no word
# flags, and pictures with a skin tone or joined to other pictures
_EMOJI = r"\p{RI}{2}|\p{ExtPict}(?:[\p{M}\p{Cf}\p{EMod}]|(?<=\u200d)\p{ExtPict})*"
_WORD = regex.compile(
    rf"https?://\S+|\d+(?:[.,]\d+)+|(?:\p{{L}}\.){{2,}}|[@#]?{_PARTS}(?:['\u2019-]{_PARTS})*|{_EMOJI}"
    r"|\S[\p{M}\p{Cf}]*"
)
MAX_CACHED_TOKENS = 200_000
"""largest number of tokens whose pieces are kept between calls"""


def split_text(text: str, unit: Unit) -> list[tuple[int, int]]:
    """Start and end of each token of a raw text: its characters, or its words, marks and emoji, without white space.

    Examples:
        >>> [text[start:end] for text in ["Ada isn't @home."] for start, end in split_text(text, "words")]
        ['Ada', "isn't", '@home', '.']
    """
    if unit == "characters":
        return [(i, i + 1) for i, character in enumerate(text) if not character.isspace()]
    return [match.span() for match in _WORD.finditer(text)]


@dataclass
class TokenIds:
    """The ids of tokens, from a vocabulary of whole tokens or from the tokenizer of a checkpoint.

    Attributes:
        tokenizer: a `Vocabulary`, or a tokenizer of transformers.
    """

    tokenizer: Any
    _cache: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @property
    def special_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before and after a sentence: those of cls and sep, or what a tokenizer without them adds."""
        if isinstance(self.tokenizer, Vocabulary):
            return (), ()
        named = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        if None not in named:
            return (named[0],), (named[1],)
        alone, whole = (self.tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        start = next((i for i in range(len(whole)) if whole[i : i + len(alone)] == alone), 0)
        return tuple(whole[:start]), tuple(whole[start + len(alone) :])

    def encode(self, tokens: Iterable[str]) -> None:
        """Encodes all tokens at once, which is much faster than one by one, and keeps their ids."""
        if len(self._cache) > MAX_CACHED_TOKENS:
            self._cache.clear()
        new = sorted(set(tokens) - self._cache.keys())
        if not new:
            return
        if isinstance(self.tokenizer, Vocabulary):
            pieces = [[number] for number in self.tokenizer.encode(new).tolist()]
        else:  # for a byte-level tokenizer the space before a word is part of the word
            spaced = getattr(self.tokenizer, "add_prefix_space", None) is False
            texts = [f" {token}" if spaced else token for token in new]
            pieces = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        # a token without pieces, such as a control character, still needs an id for its tag
        self._cache |= {t: tuple(ids) or (self.unk_id,) for t, ids in zip(new, pieces, strict=True)}

    @property
    def unk_id(self) -> int:
        """The id of an unknown token."""
        return self.tokenizer.unk if isinstance(self.tokenizer, Vocabulary) else filler_id(self.tokenizer)

    def __call__(self, token: str) -> tuple[int, ...]:
        """The ids of a token that `encode` has encoded, at least one."""
        return self._cache[token]


@dataclass(frozen=True)
class TagPieces:
    """Windows of sentences, one after the other: ids, and the tag of each id.

    Attributes:
        ids: all ids, int32.
        offsets: (N + 1,) int64, window n is `ids[offsets[n]:offsets[n + 1]]`.
        tags: for every id the number of its token's tag, int32; -1 for all but the first piece of a token.
        windows: (N, 2) int64, each window's sentence and the first of its tokens.
        sentence_lengths: (S,) int64, the number of tokens of each sentence.
    """

    ids: np.ndarray
    offsets: np.ndarray
    tags: np.ndarray
    windows: np.ndarray
    sentence_lengths: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """The number of ids of each window."""
        return np.diff(self.offsets)

    def merge_windows(self, predicted: Sequence[np.ndarray], names: Sequence[str]) -> list[list[str]]:
        """Joins the predicted tags of windows to the tags of sentences, in BIO.

        A token that two windows share takes its tag from the window that sees more of its neighbours.

        Args:
            predicted: for each window the number of the tag at every id, -1 where there is none.
            names: the names of the tags by number.
        """
        windows = []
        for numbers in predicted:
            tags = [names[int(number)] for number in numbers[numbers >= 0]]
            windows.append(write_tags(read_spans(tags), len(tags)))  # in BIO the end of a window ends no entity
        return self.merge(windows, "O")

    def merge(self, windows: Sequence[Sequence[Value]], empty: Value) -> list[list[Value]]:
        """Joins a value for each token of each window to those of sentences, as `merge_windows` does tags."""
        whole = [[empty] * size for size in self.sentence_lengths.tolist()]
        before = (-1, 0)  # of the window before: its sentence, and the token after its last one
        for (sentence, start), values in zip(self.windows.tolist(), windows, strict=True):
            shared = before[1] - start if before[0] == sentence else 0
            skip = -(-shared // 2)  # each of two windows gives half of the tokens that they share
            whole[sentence][start + skip : start + len(values)] = values[skip:]
            before = (sentence, start + len(values))
        return whole


def tag_pieces(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]] | None,
    names: Sequence[str],
    scheme: Scheme,
    token_ids: TokenIds,
    max_length: int,
) -> TagPieces:
    """Encodes sentences; a sentence of more than `max_length` ids becomes several windows.

    Windows share a quarter of their ids or two tokens, where the pieces of long words leave room; without that room, an
    entity at the cut is found in two parts.

    Args:
        sentences: tokens of each, at least one.
        tags: tags of each, in any scheme; None for prediction.
        names: names of the tags by number; a tag with another name counts as the first.
        scheme: scheme of these names, in which an entity that a window cuts begins again.
        token_ids: the ids of tokens.
        max_length: largest number of ids of a window, special ids included.
    """
    token_ids.encode(chain.from_iterable(sentences))
    numbers = {name: number for number, name in enumerate(names)}
    before, after = token_ids.special_ids
    capacity = max(1, max_length - len(before) - len(after))
    ids, labels = array("i"), array("i")  # of 4 bytes; a list of the same numbers takes up to 36
    ends, windows = array("q", [0]), array("q")
    for sentence, tokens in enumerate(sentences):
        pieces = [token_ids(token)[:capacity] for token in tokens]
        spans = [] if tags is None else read_spans(tags[sentence])
        for start, end in _windows([len(piece) for piece in pieces], capacity):
            inside = [(n, max(a, start) - start, min(b, end) - start) for n, a, b in spans if a < end and b > start]
            ids.extend(before)
            labels.extend([-1] * len(before))
            for piece, tag in zip(pieces[start:end], write_tags(inside, end - start, scheme), strict=True):
                ids.extend(piece)
                labels.extend([numbers.get(tag, 0), *[-1] * (len(piece) - 1)])
            ids.extend(after)
            labels.extend([-1] * len(after))
            ends.append(len(ids))
            windows.extend((sentence, start))
    return TagPieces(
        ids=np.array(ids, np.int32),
        offsets=np.array(ends, np.int64),
        tags=np.array(labels, np.int32),
        windows=np.array(windows, np.int64).reshape(-1, 2),
        sentence_lengths=np.array([len(tokens) for tokens in sentences], np.int64),
    )


def _windows(sizes: Sequence[int], capacity: int) -> Iterator[tuple[int, int]]:
    """The first token of every window and the token after its last, given the number of ids of each token.

    A window holds at most `capacity` ids, as does a token. It ends after the window before, and starts a quarter of the
    ids or two tokens before the end of that window, if the next token leaves room.

    Examples:
        >>> list(_windows([1] * 10, 8)), list(_windows([1, 3, 3, 1], 4))
        ([(0, 8), (6, 10)], [(0, 2), (2, 4)])
    """
    sums = np.concatenate([[0], np.cumsum(sizes)])

    def end_of(start: int) -> int:
        return int(np.searchsorted(sums, sums[start] + capacity, side="right")) - 1

    start, end = 0, end_of(0)
    yield start, end
    while end < len(sizes):
        start = max(start + 1, min(end - 2, int(np.searchsorted(sums, sums[end] - capacity // 4))))
        while end_of(start) <= end:
            start += 1
        end = end_of(start)
        yield start, end


def guess_unit(sentences: Sequence[Sequence[str]]) -> Unit:
    """Whether the tokens of sentences are characters or words.

    Examples:
        >>> guess_unit([["北", "京"]]), guess_unit([["in", "a", "city"]])
        ('characters', 'words')
    """
    long_tokens = sum(len(token) > 1 for token in chain.from_iterable(sentences))
    return "characters" if 10 * long_tokens < sum(map(len, sentences)) else "words"
