"""The mapping between tokens and ids: built from counts, saved with a run, compared when weights move to new words.

Called by `jaxft.data.store` (building and encoding), by the jobs (saving with the run), and by the readers of other
people's weights (`matches` says which embedding row a token had there). `V` is the number of tokens.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxft.data.text import BOS, PAD, SPECIALS, UNK
from jaxft.errors import InputError

# fastai fills a vocabulary up to a multiple of 8 with this token, so it may come several times.
_FILLER = "xxfake"


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids.

    Args:
        tokens: V tokens; `xxunk`, `xxpad` and `xxbos` among them, none twice (but fastai's filler `xxfake`).

    Raises:
        InputError: One of the three is missing, or a token comes twice.

    Example:
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
                    f"the vocabulary holds {token!r} twice, as ids {ids[token]} and {i}; each token needs one id"
                )
        for special in (UNK, PAD, BOS):
            if special not in ids:
                raise InputError(f"the vocabulary lacks the special token {special}; was it made by another tokenizer?")
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def build(cls, counts: Mapping[str, int], max_size: int = 60_000, min_count: int = 3) -> "Vocabulary":
        """The most frequent tokens, as fastai's `make_vocab` picks them, without its filling up to a multiple of 8.

        Args:
            counts: Occurrences of each token.
            max_size: The most tokens the vocabulary may hold, the nine special ones included.
            min_count: Occurrences below which a token is left out.

        Returns:
            The special tokens in fastai's order, then the others from frequent to rare; equal counts in the tokens'
            own order, so that the order of the documents does not matter.
        """
        if max_size < len(SPECIALS):
            raise InputError(
                f"a vocabulary of at most {max_size} tokens has no room for the {len(SPECIALS)} special ones"
            )
        frequent = (token for token, count in counts.items() if count >= min_count and token not in SPECIALS)
        ranked = sorted(frequent, key=lambda token: (-counts[token], token))
        return cls((*SPECIALS, *ranked[: max_size - len(SPECIALS)]))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            InputError: `path` is missing or is not a vocabulary.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: the vocabulary cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise InputError(f"{path} is not a vocabulary: it is not JSON ({error})") from error
        tokens = content.get("tokens") if isinstance(content, dict) else None
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise InputError(f'{path} is not a vocabulary: it needs the form {{"tokens": ["{UNK}", ...]}}')
        try:
            return cls(tuple(tokens))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Writes the tokens as JSON, whole or not at all."""
        temporary = Path(f"{path}.tmp")
        # ASCII throughout: a lone surrogate, as broken input may hold, has no UTF-8.
        temporary.write_text(json.dumps({"tokens": self.tokens}, indent=0), encoding="ascii")
        os.replace(temporary, path)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def unk(self) -> int:
        """The id of `xxunk`, which stands for every token that is not here."""
        return self._ids[UNK]

    @property
    def pad(self) -> int:
        """The id of `xxpad`, which fills a batch up to its length."""
        return self._ids[PAD]

    @property
    def bos(self) -> int:
        """The id of `xxbos`, which begins every text."""
        return self._ids[BOS]

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """The ids of `tokens`, int32, shape (T,); unknown tokens get that of `xxunk`."""
        get, unk = self._ids.get, self.unk
        return np.fromiter((get(token, unk) for token in tokens), np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of `ids`, integers in [0, V)."""
        return [self.tokens[i] for i in ids]

    def matches(self, other: "Vocabulary") -> np.ndarray:
        """The id in `other` of each token here, or -1 where `other` lacks it: int32, shape (V,)."""
        return np.fromiter((other._ids.get(token, -1) for token in self.tokens), np.int32, len(self))
