"""The vocabulary: the mapping between tokens and ids.

`jaxft.data.store` builds one and encodes with it, the jobs save it with a run, and the readers of others' weights find
with `matches` which embedding row a token has there. `V` is the number of tokens.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxft.data.text import BOS, PAD, SPECIALS, UNK
from jaxft.errors import InputError
from jaxft.files import write_text

# fastai fills a vocabulary up to a multiple of 8 with this token, so it may occur several times.
_FILLER = "xxfake"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids.

    Attributes:
        tokens: V distinct tokens, `xxunk`, `xxpad` and `xxbos` among them; only fastai's filler `xxfake` may repeat.

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
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads a file that `save` wrote.

        Raises:
            InputError: the file is missing or is not a vocabulary.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"the vocabulary {path} cannot be read ({error.strerror}): check the path") from error
        except ValueError as error:
            raise InputError(
                f"{path} is not a vocabulary (it is not JSON: {error}): put back an intact copy"
            ) from error
        tokens = content.get("tokens") if isinstance(content, dict) else None
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise InputError(f'{path} is not a vocabulary: give a file of the form {{"tokens": ["{UNK}", ...]}}')
        try:
            return cls(tuple(tokens))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes the tokens as JSON in one step.

        Raises:
            InputError: the disk is full or the folder is not writable.
        """
        # JSON in ASCII, because a lone surrogate, which broken input may hold, does not encode as UTF-8
        write_text(path, json.dumps({"tokens": self.tokens}, indent=0))

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

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids, which are integers in [0, V)."""
        return [self.tokens[i] for i in ids]

    def matches(self, other: "Vocabulary") -> np.ndarray:
        """The id in `other` of each token, -1 if `other` lacks it: int32 (V,)."""
        return np.fromiter((other._ids.get(token, -1) for token in self.tokens), np.int32, len(self))
