r"""The tokenizer of fastai 2, for its pretrained vocabularies.

`tokenize` turns a raw text into tokens; `jaxft.data.worker` does the same for whole corpora. `RULES` defines the
result: functions from text to text, applied in order, before `split_text` splits at spaces and `jaxft.data.words` into
words. `tokenize` is faster: it looks up each run of non-space characters in a cache and applies the rules to new runs
alone. The tests check for arbitrary texts that the result is the same.
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

# Part of every cache key: raise it with any change of the tokens.
VERSION = 1

# Markup and escapes that occur in scraped reviews and in WikiText, in the order in which they are replaced.
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
    """Replaces markup: HTML line breaks and entities, WikiText's @-@, and three dots by an ellipsis."""
    for old, new in _MARKUP:
        text = text.replace(old, new)
    return html.unescape(text)


_REPEATED_CHARACTER = re.compile(r"(\S)\1{2,}")


def replace_rep(text: str) -> str:
    """Marks a character that repeats three times or more: "so goooood" -> "so g xxrep 5 o d"."""
    return _REPEATED_CHARACTER.sub(lambda match: f" {REP} {len(match[0])} {match[1]} ", text)


_REPEATED_WORD = re.compile(r"(?:\s|^)(\w+)\s+((?:\1\s+)+)\1(\s|\W|$)")


def replace_wrep(text: str) -> str:
    """Marks a word that repeats three times or more: "no no no." -> "xxwrep 3 no ."."""

    def shorten(match: re.Match[str]) -> str:
        return f" {WREP} {len(match[2].split()) + 2} {match[1]} {match[3]}"

    return _REPEATED_WORD.sub(shorten, text)


_SLASH_OR_HASH = re.compile(r"[/#\\]")


def spec_add_spaces(text: str) -> str:
    """Puts spaces around slash, backslash and hash."""
    return _SLASH_OR_HASH.sub(r" \g<0> ", text)


_SPACES = re.compile(" {2,}")


def rm_useless_spaces(text: str) -> str:
    """Replaces several spaces by one; other white space stays."""
    return _SPACES.sub(" ", text)


_ALL_CAPS = re.compile(r"(\s|^)([A-Z]+[^a-z\s]*)(?=\s|$)")
_CAPITALISED = re.compile(r"(\s|^)([A-Z][^A-Z\s]*)(?=\s|$)")


def _mark(marker: str, match: re.Match[str]) -> str:
    """The matched word in lower case, after the marker if it is longer than one letter."""
    return f"{match[1]}{marker + ' ' if len(match[2]) > 1 else ''}{match[2].lower()}"


def replace_all_caps(text: str) -> str:
    """Marks a word in capitals: "GREAT" -> "xxup great"; a single letter is only lower-cased."""
    return _ALL_CAPS.sub(partial(_mark, UP), text)


def replace_maj(text: str) -> str:
    """Marks a capitalised word: "Great" -> "xxmaj great"."""
    return _CAPITALISED.sub(partial(_mark, MAJ), text)


def lowercase(text: str) -> str:
    """Lower-cases the text, strips white space from its ends and puts `xxbos` before it."""
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
    """Replaces the spaces in a token of white space by a visible mark, so that joined tokens split again."""
    return token.replace(" ", SPACE)


_RUN = re.compile(r"\s+|\S+")


def split_text(text: str) -> Iterator[str]:
    """Splits a text into words and white space; a single space is no token, and a longer run loses a leading space."""
    for run in _RUN.findall(text):
        if not run.isspace():
            yield from split_word(run)
        elif run != " ":
            yield run.removeprefix(" ")


def tokenize_by_rules(text: str, rules: Iterable[Callable[[str], str]] = RULES) -> list[str]:
    """Tokenizes a text rule by rule: the definition of `tokenize`, and much slower."""
    for rule in rules:
        text = rule(text)
    return [replace_space(token) for token in split_text(text)]


# Runs in the cache; so many take 30 MB and cover 95 % of the runs of a review.
CACHED_RUNS = 100_000

_OTHER_SPACE = re.compile(r"([^\S ]\s*)")
# What a rule puts spaces around.
_SPACED = re.compile(r"[/#\\]|(\S)\1\1")


def split_runs(text: str) -> list[str]:
    """Splits a text into the runs that `tokens_of` tokenizes.

    Args:
        text: a text that `fix_html` has cleaned, without white space at its ends.

    Returns:
        Its runs of non-space characters, and the white space between them that is more than a space.
    """
    if text.isprintable():
        return text.split()
    first, *rest = _OTHER_SPACE.split(text)
    runs = first.split()
    for space, piece in zip(rest[::2], rest[1::2], strict=True):
        # A space that a rule puts before the next run is part of this white space.
        runs.append(space + " " if _SPACED.match(piece) else space)
        runs.extend(piece.split())
    return runs


def _mark_and_split(run: str) -> tuple[str, ...]:
    if run.islower():
        return split_word(run)
    marker, _, word = replace_maj(replace_all_caps(run)).lower().rpartition(" ")
    return (marker, *split_word(word)) if marker else split_word(word)


def tokens_of(run: str) -> tuple[str, ...]:
    """The tokens of one of the runs that `split_runs` returns; they do not depend on its neighbours."""
    if run.isspace():
        return (replace_space(rm_useless_spaces(run)),)
    if not _SPACED.search(run):
        return _mark_and_split(run)
    return tuple(chain.from_iterable(map(_mark_and_split, spec_add_spaces(replace_rep(run)).split())))


def repeats_a_word(text: str, has_rep: bool) -> bool:
    """Whether `replace_wrep` may find a repeated word, so that the runs of a text cannot be tokenized one by one.

    Args:
        text: the text.
        has_rep: whether `replace_rep` changes the text, which can separate a repeated word from its neighbours.
    """
    words = (replace_rep(text) if has_rep else text).split()
    return any(map(eq, words, words[1:])) and any(
        first == second and third.startswith(first)
        for first, second, third in zip(words, words[1:], words[2:], strict=False)
    )


_tokens_of = lru_cache(CACHED_RUNS)(tokens_of)


def tokenize(text: str) -> list[str]:
    r"""Splits a raw text into fastai's tokens.

    Args:
        text: any text, with its markup, capitals and line breaks.

    Returns:
        The tokens, `xxbos` first.

    Examples:
        >>> tokenize("Don't miss it!!!<br /><br />GREAT film.")
        ['xxbos', 'xxmaj', 'do', "n't", 'miss', 'it', 'xxrep', '3', '!', '\n\n', 'xxup', 'great', 'film', '.']

    References:
        The default rules and word tokenizer of fastai 2, https://docs.fast.ai/text.core.html.
    """
    text = fix_html(text).strip()
    tokens = [BOS, *chain.from_iterable(map(_tokens_of, split_runs(text)))]
    return tokenize_by_rules(text, RULES[1:]) if repeats_a_word(text, REP in tokens) else tokens
