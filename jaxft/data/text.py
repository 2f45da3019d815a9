r"""Turns a raw text into the tokens that fastai 2 makes of it, so that its pretrained vocabularies fit.

`tokenize` is the door; `jaxft.data.worker` calls it for whole corpora and `jaxft.predict` for single texts. `RULES` is
the definition: small functions from text to text, applied in order, then words split at spaces and by
`jaxft.data.words`. Most of a text's runs of characters have been seen before, so `tokenize` looks each one up and goes
through the rules only for a new one; the result is that of the rules applied to the whole text, which the tests hold
for arbitrary texts.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from itertools import chain
from operator import eq

from jaxft.data.words import split_word

UNK, PAD, BOS, EOS, FLD = "xxunk", "xxpad", "xxbos", "xxeos", "xxfld"
REP, WREP, UP, MAJ = "xxrep", "xxwrep", "xxup", "xxmaj"
SPECIALS = (UNK, PAD, BOS, EOS, FLD, REP, WREP, UP, MAJ)
SPACE = "▁"

# Part of every cache key: raise it with any change that changes a token.
VERSION = 1

# Markup and escapes as they lie about in scraped reviews and in WikiText, in the order in which they are replaced.
_MARKUP = (
    ("#39;", "'"),
    ("amp;", "&"),
    ("#146;", "'"),
    ("nbsp;", " "),
    ("#36;", "$"),
    ("\\n", "\n"),
    ("quot;", "'"),
    ("<br />", "\n"),
    ('\\"', '"'),
    ("<unk>", UNK),
    (" @.@ ", "."),
    (" @-@ ", "-"),
    ("...", " …"),
)


def fix_html(text: str) -> str:
    """Replaces left-over markup: line breaks, entities, WikiText's @-@, three dots by an ellipsis."""
    for old, new in _MARKUP:
        text = text.replace(old, new)
    return html.unescape(text)


_REPEATED_CHARACTER = re.compile(r"(\S)\1{2,}")


def replace_rep(text: str) -> str:
    """A character three times or more: "so goooood" -> "so g xxrep 5 o d"."""
    return _REPEATED_CHARACTER.sub(lambda match: f" {REP} {len(match[0])} {match[1]} ", text)


_REPEATED_WORD = re.compile(r"(?:\s|^)(\w+)\s+((?:\1\s+)+)\1(\s|\W|$)")


def replace_wrep(text: str) -> str:
    """A word three times or more: "no no no." -> "xxwrep 3 no ."."""

    def shorten(match: re.Match[str]) -> str:
        return f" {WREP} {len(match[2].split()) + 2} {match[1]} {match[3]}"

    return _REPEATED_WORD.sub(shorten, text)


_SLASH_OR_HASH = re.compile(r"[/#\\]")


def spec_add_spaces(text: str) -> str:
    """Spaces around slash, backslash and hash."""
    return _SLASH_OR_HASH.sub(r" \g<0> ", text)


_SPACES = re.compile(" {2,}")


def rm_useless_spaces(text: str) -> str:
    """One space for several; other white space stays."""
    return _SPACES.sub(" ", text)


_ALL_CAPS = re.compile(r"(\s|^)([A-Z]+[^a-z\s]*)(?=\s|$)")
_CAPITALISED = re.compile(r"(\s|^)([A-Z][^A-Z\s]*)(?=\s|$)")


def _mark(marker: str, match: re.Match[str]) -> str:
    """The matched word in lower case, behind the marker if it is longer than a letter."""
    return f"{match[1]}{marker + ' ' if len(match[2]) > 1 else ''}{match[2].lower()}"


def replace_all_caps(text: str) -> str:
    """A word in capitals: "GREAT" -> "xxup great"; a single letter is only lower-cased."""
    return _ALL_CAPS.sub(partial(_mark, UP), text)


def replace_maj(text: str) -> str:
    """A capitalised word: "Great" -> "xxmaj great"."""
    return _CAPITALISED.sub(partial(_mark, MAJ), text)


def lowercase(text: str) -> str:
    """Lower case, without white space at the ends, behind `xxbos`."""
    return f"{BOS} {text.lower().strip()}"


RULES: tuple[Callable[[str], str], ...] = (
    fix_html,
    replace_rep,
    replace_wrep,
    spec_add_spaces,
    rm_useless_spaces,
    replace_all_caps,
    replace_maj,
    lowercase,
)


def replace_space(token: str) -> str:
    """A token of white space keeps its spaces visible, so that joined tokens split again."""
    return token.replace(" ", SPACE)


_RUN = re.compile(r"\s+|\S+")


def split_text(text: str) -> Iterator[str]:
    """Words, and white space as tokens: a single space is none, and a longer run loses a space at its start."""
    for run in _RUN.findall(text):
        if not run.isspace():
            yield from split_word(run)
        elif run != " ":
            yield run.removeprefix(" ")


def tokenize_by_rules(text: str, rules: Iterable[Callable[[str], str]] = RULES) -> list[str]:
    """What `tokenize` returns, by definition, at a fraction of its speed."""
    for rule in rules:
        text = rule(text)
    return [replace_space(token) for token in split_text(text)]


# Runs to remember: bounded, because new rare ones never end; these take 30 MB and are 95 of 100 runs of a review.
MEMO_SIZE = 100_000

_OTHER_SPACE = re.compile(r"([^\S ]\s*)")
# Where a rule puts spaces.
_SPACED = re.compile(r"[/#\\]|(\S)\1\1")


def split_runs(text: str) -> list[str]:
    """Cuts a text that `fix_html` has cleaned, without space at its ends, into pieces for `tokens_of`.

    The pieces are runs of non-space characters, and the white space between them that is more than a space.
    """
    if text.isprintable():
        return text.split()
    first, *rest = _OTHER_SPACE.split(text)
    runs = first.split()
    for space, piece in zip(rest[::2], rest[1::2], strict=True):
        # A space that a rule puts before the next run belongs to this one.
        runs.append(space + " " if _SPACED.match(piece) else space)
        runs.extend(piece.split())
    return runs


def _mark_and_split(run: str) -> tuple[str, ...]:
    if run.islower():
        return split_word(run)
    marker, _, word = replace_maj(replace_all_caps(run)).lower().rpartition(" ")
    return (marker, *split_word(word)) if marker else split_word(word)


def tokens_of(run: str) -> tuple[str, ...]:
    """What the rules make of one of the pieces of `split_runs`, whatever stands beside it."""
    if run.isspace():
        return (replace_space(rm_useless_spaces(run)),)
    if not _SPACED.search(run):
        return _mark_and_split(run)
    return tuple(chain.from_iterable(map(_mark_and_split, spec_add_spaces(replace_rep(run)).split())))


def repeats_a_word(text: str, has_rep: bool) -> bool:
    """Whether `replace_wrep` may find a word three times, so that the text is more than its runs one by one.

    `has_rep` says that `replace_rep` finds something in the text, which can set a repeated word free.
    """
    words = (replace_rep(text) if has_rep else text).split()
    return any(map(eq, words, words[1:])) and any(
        first == second and third.startswith(first)
        for first, second, third in zip(words, words[1:], words[2:], strict=False)
    )


_tokens_of = lru_cache(MEMO_SIZE)(tokens_of)


def tokenize(text: str) -> list[str]:
    r"""Splits a raw text into fastai's tokens.

    Args:
        text: Any text, with its markup, capitals and line breaks.

    Returns:
        The tokens, `xxbos` first.

    Example:
        >>> tokenize("Don't miss it!!!<br /><br />GREAT film.")
        ['xxbos', 'xxmaj', 'do', "n't", 'miss', 'it', 'xxrep', '3', '!', '\n\n', 'xxup', 'great', 'film', '.']

    Source: the default rules and word tokenizer of fastai 2, https://docs.fast.ai/text.core.html.
    """
    text = fix_html(text).strip()
    tokens = [BOS, *chain.from_iterable(map(_tokens_of, split_runs(text)))]
    return tokenize_by_rules(text, RULES[1:]) if repeats_a_word(text, REP in tokens) else tokens
