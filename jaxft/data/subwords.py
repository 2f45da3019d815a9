"""Subwords by byte-pair encoding: tokens for languages without spaces between words, and for corpora of rare words.

`jaxft.data.vocabulary` makes its tokenizer here, and `jaxft.data.store` learns the merges of a corpus. The rules of
`jaxft.data.text` are applied first, so that capitals and repetitions are marked as in words. A piece begins with the
mark `▁` where a space stands before it. A character that the corpus lacks becomes its bytes, so that nothing is
unknown.

References:
    Sennrich, Haddow & Birch, Neural Machine Translation of Rare Words with Subword Units, ACL 2016.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING, Any

from jaxft.data.text import RULES, SPACE, SPECIALS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Merges = tuple[tuple[str, str], ...]
"""pairs of pieces that are joined into one, in the order in which they are"""
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
LONGEST_PIECE = 16
"""characters"""
_SPECIAL = re.compile(f" ?\\b(?:{'|'.join(SPECIALS)})\\b")


def learn_subwords(texts: Iterable[str], max_size: int, min_count: int) -> tuple[tuple[str, ...], Merges]:
    """Learns a vocabulary of at most `max_size` pieces from raw texts.

    Args:
        texts: raw texts, which are read twice.
        max_size: the largest number of pieces, with the special tokens and 256 bytes among them; characters take at
            most half of the others.
        min_count: occurrences that a pair needs to become a piece.

    Returns:
        The pieces, special tokens first, and the merges.

    Examples:
        >>> pieces, merges = learn_subwords(["low lower lowest"] * 9, max_size=300, min_count=2)
        >>> merges[:2]
        (('l', 'o'), ('▁', 'lo'))
    """
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    tokenizer = _tokenizer(BPE(byte_fallback=True))
    counts = Counter(chain.from_iterable(map(apply_rules, texts)))
    counts.pop(" ", None)
    room = max_size - len(SPECIALS) - len(BYTES)
    # The trainer would choose among characters of equal counts by chance.
    alphabet = [SPACE, *sorted(counts, key=lambda c: (-counts[c], c))][: max(1, room // 2)]
    trainer = BpeTrainer(
        vocab_size=max_size,
        min_frequency=min_count,
        special_tokens=[*SPECIALS, *BYTES],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=LONGEST_PIECE,
        show_progress=False,
    )
    parts = (part for text in texts for part in _SPECIAL.split(apply_rules(text)))
    tokenizer.train_from_iterator(parts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return tuple(sorted(model["vocab"], key=model["vocab"].get)), tuple((a, b) for a, b in model["merges"])


def subword_tokenizer(pieces: Sequence[str], merges: Merges) -> "Tokenizer":
    """The tokenizer of a vocabulary, whose ids are the positions of the pieces; it takes what `apply_rules` returns."""
    from tokenizers import AddedToken
    from tokenizers.models import BPE

    model = BPE({piece: i for i, piece in enumerate(pieces)}, list(merges), byte_fallback=True)
    tokenizer = _tokenizer(model)
    tokenizer.add_special_tokens([AddedToken(name, lstrip=True, single_word=True, special=True) for name in SPECIALS])
    return tokenizer


def apply_rules(text: str) -> str:
    """A raw text with the rules of `jaxft.data.text` applied, `xxbos` first."""
    return reduce(lambda changed, rule: rule(changed), RULES, text)


def join_subwords(tokenizer: "Tokenizer", pieces: Iterable[str]) -> list[str]:
    """The words that pieces make, the special tokens among them, as `jaxft.data.detokenize` takes them."""
    spaced = [SPACE + piece if piece in SPECIALS else piece for piece in pieces]
    return tokenizer.decoder.decode(spaced).strip(" ").split(" ")


def _tokenizer(model: Any) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    words, spaces = Regex(r" ?\p{P}| ?[^\s\p{P}]+|\s+"), pre_tokenizers.Metaspace(SPACE, "never", split=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(words, "isolated"), spaces])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer
