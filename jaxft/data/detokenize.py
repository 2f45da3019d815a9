"""The detokenizer, which turns tokens back into readable text for `python -m jaxft.predict --generate`."""

import re
from collections.abc import Iterable

from jaxft.data.text import MAJ, REP, SPECIALS, UP, WREP

_NO_SPACE_BEFORE = re.compile(r"[.,!?;:)\]}%…”’]+|n['’]t|['’](?:s|m|d|re|ve|ll)|[-/]", re.IGNORECASE)
_NO_SPACE_AFTER = ("(", "[", "{", "$", "#", "“", "-", "/")


def detokenize(tokens: Iterable[str]) -> str:
    r"""Joins tokens into a text, and restores the capitals and repetitions that they mark.

    Examples:
        >>> from jaxft.data.text import tokenize
        >>> detokenize(tokenize('GREAT film (I think), and "so" well-made!!!'))
        'GREAT film (I think), and "so" well-made!!!'
    """
    text, quoted, tight = "", False, True
    for word in _words(tokens):
        closes = word == '"' and quoted
        attached = tight or closes or word.isspace() or _NO_SPACE_BEFORE.fullmatch(word)
        text += word if attached else " " + word
        tight = word.isspace() or word in _NO_SPACE_AFTER or (word == '"' and not quoted)
        quoted ^= word == '"'
    return text


def _words(tokens: Iterable[str]) -> Iterable[str]:
    """The words, each changed as the mark before it says."""
    rest = iter(tokens)

    def word() -> str:
        return next((token for token in rest if token not in SPECIALS), "")

    for token in rest:
        match token:
            case _ if token == MAJ:
                yield word().capitalize()
            case _ if token == UP:
                yield word().upper()
            case _ if token in (REP, WREP):
                count, unit = word(), word()
                times = min(int(count), 100) if count.isdecimal() else 1
                yield unit * times if token == REP else " ".join([unit] * times)
            case "i":  # the rules do not mark single capitals
                yield "I"
            case _ if token not in SPECIALS:
                yield token
