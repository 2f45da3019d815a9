"""What a tagging job says of the sentences that it read, before it trains and with `--dry-run`."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from jaxft.data.spans import Sentence, read_spans
from jaxft.data.tag_pieces import TagPieces

MOST_TOKENS = 20
"""largest number of tokens of the first sentence that are shown"""


def preview_lines(
    sentences: Mapping[str, Sequence[Sentence]], pieces: Mapping[str, TagPieces], unknown: int
) -> list[str]:
    """What each part holds, and the first sentence of train with its tags.

    Args:
        sentences: of train, dev and test; a part may be empty.
        pieces: the same as ids.
        unknown: the id of an unknown piece.
    """
    parts = [part for part in ("train", "dev", "test") if sentences.get(part)]
    return [
        *(f"{count_line(part, sentences[part])}; {length_line(pieces[part], unknown)}" for part in parts),
        first_sentence_line(sentences["train"]),
    ]


def count_line(part: str, sentences: Sequence[Sentence]) -> str:
    """The numbers of sentences, tokens and entities of a part.

    Examples:
        >>> count_line("train", [Sentence(("Ada", "left"), ("B-PER", "O"))])
        'train: 1 sentences, 2 tokens, 1 entities (PER 1)'
    """
    tokens = sum(len(sentence.tokens) for sentence in sentences)
    types = Counter(name for sentence in sentences for name, _, _ in read_spans(sentence.tags))
    counts = ", ".join(f"{name} {count:,}" for name, count in sorted(types.items()))
    named = f" ({counts})" if counts else ""
    return f"{part}: {len(sentences):,} sentences, {tokens:,} tokens, {types.total():,} entities{named}"


def first_sentence_line(sentences: Sequence[Sentence]) -> str:
    """The first sentence with the tags of its tokens.

    Examples:
        >>> first_sentence_line([Sentence(("Ada", "left"), ("B-PER", "O"))])
        'first sentence: Ada/B-PER left/O'
    """
    tagged = list(zip(sentences[0].tokens, sentences[0].tags, strict=True))
    shown = " ".join(f"{token}/{tag}" for token, tag in tagged[:MOST_TOKENS])
    return f"first sentence: {shown}{' ...' if len(tagged) > MOST_TOKENS else ''}"


def length_line(pieces: TagPieces, unknown: int) -> str:
    """The lengths of windows in pieces, and the share of the tokens that have an unknown piece.

    Args:
        pieces: of the sentences of a part, at least one.
        unknown: the id of an unknown piece.
    """
    starts = np.flatnonzero(pieces.tags >= 0)
    # the pieces of a token go on to the first piece of the next; special ids between them are never unknown
    share = np.logical_or.reduceat(pieces.ids == unknown, starts).mean()
    cut = int((np.bincount(pieces.windows[:, 0]) > 1).sum())
    in_windows = f", {cut:,} sentences in several windows" if cut else ""
    return (
        f"{int(np.median(pieces.lengths))} pieces in a median sentence, {pieces.lengths.max()} at most{in_windows}; "
        f"{share:.1%} of the tokens unknown"
    )
