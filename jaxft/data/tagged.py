"""Readers of tagged sentences: columns as in CoNLL, and JSON lines as in CLUENER.

Tags are BIO, IOB1 or BIOES; see `jaxft.data.spans`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxft.data.files import decompressed, text_lines
from jaxft.data.spans import Span, split_tag, write_tags
from jaxft.data.table import SURROGATE, table_suffix
from jaxft.errors import InputError

BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Sentence:
    """One or more tokens, with a tag for each."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]


def read_tagged(path: Path, column: int = -1) -> Iterator[Sentence]:
    """Streams the sentences of a file.

    A file of columns has one token per line, columns separated by tabs or else by spaces, and blank lines between
    sentences; lines that begin with -DOCSTART- count as blank. A .json or .jsonl file has one object per line with
    `text` and `label`, where `label["PER"]["Ada"]` lists the first and last character of every occurrence; its tokens
    are the characters except white space.

    Args:
        path: the file, plain or compressed.
        column: the column of the tags, counted from 0, or from the end if negative; the first has the tokens.

    Raises:
        InputError: a line has no such column, another number of columns than the line before, a tag of an unknown kind
            or an entity that is not in the text; or the file holds no sentence.
    """
    empty = True
    sentences = _json_sentences(path) if table_suffix(path) in (".json", ".jsonl") else _columns(path, column)
    for sentence in sentences:
        empty = False
        yield sentence
    if empty:
        raise InputError(f"{path} has no sentences: name a file with one token and its tag per line")


def _columns(path: Path, column: int) -> Iterator[Sentence]:
    tokens: list[str] = []
    tags: list[str] = []
    width = None
    with decompressed(path) as stream:
        for number, line in enumerate(text_lines(stream, path), 1):
            text, where = line.strip("\r\n" + BYTE_ORDER_MARK), f"{path}, line {number}"
            if not text.strip() or text.startswith("-DOCSTART-"):
                if tokens:
                    yield Sentence(tuple(tokens), tuple(tags))
                tokens, tags = [], []
                continue
            fields = text.split("\t") if "\t" in text else re.split(" +", text.strip(" "))  # a token may be U+3000
            if width not in (None, len(fields)):
                raise InputError(
                    f"{where} has {len(fields)} columns and the line before has {width}: give every line the same "
                    "number"
                )
            width = len(fields)
            if width < 2 or not -width <= column < width:
                raise InputError(
                    f"{where} has no column {column} in {text!r}: name the column of the tags with --tag-column"
                )
            if not fields[0]:
                raise InputError(f"{where} has a tag without a token in {text!r}: add the token or remove the line")
            tokens.append(fields[0])
            tags.append(_checked(fields[column].strip(), where))
    if tokens:
        yield Sentence(tuple(tokens), tuple(tags))


def _checked(tag: str, where: str) -> str:
    """The tag itself, once its form is checked."""
    try:
        split_tag(tag)
    except ValueError as error:
        raise InputError(f"{where} has {error}: correct it, or name the right column with --tag-column") from error
    return tag


def _json_sentences(path: Path) -> Iterator[Sentence]:
    with decompressed(path) as stream:
        for number, line in enumerate(text_lines(stream, path), 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                fields = json.loads(line)
                text = fields["text"]
                if not isinstance(text, str) or not text.strip():
                    raise ValueError("the text is empty or not a string")
                spans = in_order(_listed_spans(fields["label"], text), len(text))
                if SURROGATE.search("".join([text, *fields["label"]])):
                    raise ValueError("half a surrogate pair")
                tagged = zip(text, write_tags(spans, len(text)), strict=True)
                yield Sentence(*zip(*((token, tag) for token, tag in tagged if not token.isspace()), strict=True))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                reason = f"there is no {error}" if isinstance(error, KeyError) else error
                raise InputError(
                    f"{where} is not an object with a text and its labels ({reason}): correct it, or name only files "
                    "with labels"
                ) from error


def _listed_spans(label: dict[str, Any], text: str) -> list[Span]:
    """The spans that a label lists.

    Raises:
        ValueError: the text has something else at one of the places.
    """
    spans = []
    for name, occurrences in label.items():
        for marked, places in occurrences.items():
            for start, end in places:
                if text[start : end + 1] != marked:
                    raise ValueError(f"characters {start} to {end} are {text[start : end + 1]!r}, not {marked!r}")
                spans.append((name, start, end + 1))
    return spans


def in_order(spans: list[Span], length: int) -> list[Span]:
    """The spans in the order of the text.

    Raises:
        ValueError: a span is not within the text, or overlaps another.
    """
    ordered, previous_end = sorted(spans, key=lambda span: span[1:]), 0
    for name, start, end in ordered:
        split_tag(f"B-{name}")
        if not previous_end <= start < end <= length:
            raise ValueError(f"{name} from {start} to {end - 1} is not in the text, or overlaps another entity")
        previous_end = end
    return ordered
