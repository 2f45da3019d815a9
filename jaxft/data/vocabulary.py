"""The vocabulary: how a text becomes tokens, words or subwords, and the mapping between tokens and ids.

`jaxft.data.store` builds one and encodes with it, the jobs save it with a run, and the readers of others' weights find
with `matches` which embedding row a token has there. `V` is the number of tokens.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from jaxft.base.files import require_file, write_text
from jaxft.data.detokenize import detokenize
from jaxft.data.subwords import Merges, apply_rules, join_subwords, learn_subwords, subword_tokenizer
from jaxft.data.text import BOS, PAD, SPECIALS, UNK, tokenize
from jaxft.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# fastai fills a vocabulary up to a multiple of 8 with this token, so it may occur several times.
_FILLER = "xxfake"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids.

    Attributes:
        tokens: V distinct tokens, `xxunk`, `xxpad` and `xxbos` among them; only fastai's filler `xxfake` may repeat.
        merges: how characters become subwords; None for a vocabulary of words.

    Raises:
        InputError: one of the three is missing, or a token occurs twice.

    Examples:
        >>> vocabulary = Vocabulary.build({"film": 9, "good": 5, "bad": 5, "rare": 1}, min_count=2)
        >>> vocabulary.tokens[-3:]
        ('film', 'bad', 'good')
        >>> vocabulary.encode(["xxbos", "rare", "film"])
        array([2, 0, 9], dtype=int32)
        >>> vocabulary.decode([2, 0, 9])
        ['xxbos', 'xxunk', 'film']
    """

    tokens: tuple[str, ...]
    merges: Merges | None = None
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids: dict[str, int] = {}
        for i, token in enumerate(self.tokens):
            if ids.setdefault(token, i) != i and token != _FILLER:
                raise InputError(
                    f"the vocabulary holds {token!r} twice, as ids {ids[token]} and {i}: remove one of them"
                )
        for special in (UNK, PAD, BOS):
            if special not in ids:
                raise InputError(f"the vocabulary lacks the special token {special}: use one that this tokenizer made")
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def build(cls, counts: Mapping[str, int], max_size: int = 60_000, min_count: int = 3) -> "Vocabulary":
        """Builds a vocabulary of the most frequent tokens, as fastai's `make_vocab` does but for the filler tokens.

        Args:
            counts: number of occurrences of each token.
            max_size: the largest number of tokens, the nine special ones included.
            min_count: a token with fewer occurrences is left out.

        Returns:
            The special tokens in fastai's order, then the others from frequent to rare; tokens with equal counts are
            sorted by name, so that the order of the documents does not matter.

        Raises:
            InputError: `max_size` has no room for the special tokens.
        """
        if max_size < len(SPECIALS):
            raise InputError(
                f"a vocabulary of at most {max_size} tokens has no room for the special ones: allow at least "
                f"{len(SPECIALS)}"
            )
        frequent = (token for token, count in counts.items() if count >= min_count and token not in SPECIALS)
        ranked = sorted(frequent, key=lambda token: (-counts[token], token))
        return cls((*SPECIALS, *ranked[: max_size - len(SPECIALS)]))

    @classmethod
    def of_subwords(cls, texts: Iterable[str], max_size: int, min_count: int) -> "Vocabulary":
        """Learns subwords from raw texts; see `jaxft.data.subwords.learn_subwords`.

        Examples:
            >>> vocabulary = Vocabulary.of_subwords(["很好看", "很难看"] * 9, max_size=300, min_count=3)
            >>> vocabulary.tokenize("很好看!")
            ['xxbos', '▁很好看', '<0x21>']
            >>> vocabulary.detokenize(vocabulary.tokenize("很好看!"))
            '很好看!'
        """
        return cls(*learn_subwords(texts, max_size, min_count))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads a file that `save` wrote.

        Raises:
            InputError: the file is missing or is not a vocabulary.
        """
        require_file(path)
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"the vocabulary {path} cannot be read ({error.strerror}): check the path") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not a vocabulary, as it is not JSON: put back an intact copy") from error
        tokens, merges = (content.get("tokens"), content.get("merges")) if isinstance(content, dict) else (None, None)
        if not _strings(tokens) or not (merges is None or _pairs(merges)):
            raise InputError(f'{path} is not a vocabulary: give a file of the form {{"tokens": ["{UNK}", ...]}}')
        try:
            return cls(tuple(tokens), None if merges is None else tuple((a, b) for a, b in merges))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes the tokens as JSON in one step.

        Raises:
            InputError: the disk is full or the folder is not writable.
        """
        content = {"tokens": self.tokens} | ({} if self.merges is None else {"merges": self.merges})
        # JSON in ASCII, because a lone surrogate, which broken input may hold, does not encode as UTF-8
        write_text(path, json.dumps(content, indent=0))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def unk(self) -> int:
        """The id of `xxunk`, which stands for every token that the vocabulary lacks."""
        return self._ids[UNK]

    @property
    def pad(self) -> int:
        """The id of `xxpad`, which fills a batch up to its length."""
        return self._ids[PAD]

    @property
    def bos(self) -> int:
        """The id of `xxbos`, which starts every text."""
        return self._ids[BOS]

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """The ids of T tokens, int32 (T,); unknown tokens get the id of `xxunk`."""
        get, unk = self._ids.get, self.unk
        return np.fromiter((get(token, unk) for token in tokens), np.int32)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        assert self.merges is not None
        return subword_tokenizer(self.tokens, self.merges)

    def encode_texts(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of raw texts, `xxbos` first, int32 (T,) each."""
        if self.merges is None:
            return [self.encode(tokenize(text)) for text in texts]
        encodings = self._tokenizer.encode_batch_fast([apply_rules(text) for text in texts])
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids, which are integers in [0, V)."""
        return [self.tokens[i] for i in ids]

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a raw text, `xxbos` first; words may be ones that the vocabulary lacks."""
        return tokenize(text) if self.merges is None else self.decode(self.encode_texts([text])[0])

    def detokenize(self, tokens: Iterable[str]) -> str:
        """The readable text of tokens, without special ones."""
        return detokenize(tokens if self.merges is None else join_subwords(self._tokenizer, tokens))

    def matches(self, other: "Vocabulary") -> np.ndarray:
        """The id in `other` of each token, -1 if `other` lacks it: int32 (V,)."""
        return np.fromiter((other._ids.get(token, -1) for token in self.tokens), np.int32, len(self))


def _strings(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _pairs(value: object) -> bool:
    return isinstance(value, list) and all(_strings(pair) and len(pair) == 2 for pair in value)
