"""Readers of tagged sentences: columns as in CoNLL, and JSON lines as in CLUENER.

Tags are BIO, IOB1, BIOES or BILOU; see `jaxft.data.spans`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxft.data.alignment import in_order
from jaxft.data.files import SURROGATE, decompressed, text_lines
from jaxft.data.spans import Sentence, Span, write_tags
from jaxft.data.table import table_suffix
from jaxft.data.tag_columns import read_columns
from jaxft.errors import InputError

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")


def read_tagged(path: Path, column: int = -1, token_column: int | None = None) -> Iterator[Sentence]:
    """Streams the sentences of a file.

    A file of columns is read by `jaxft.data.tag_columns.read_columns`. A .json or .jsonl file has one object per line
    with `text` and `label`, where `label["PER"]["Ada"]` lists the first and last character of every occurrence; its
    tokens are the characters except white space.

    Args:
        path: the file, plain or compressed.
        column: the column of the tags, counted from 0, or from the end if negative.
        token_column: the column of the tokens; None is the first, which may not hold counters.

    Raises:
        InputError: as `read_columns`; an entity is not in the text; or the file holds no sentence.
    """
    empty = True
    is_json = table_suffix(path) in JSON_SUFFIXES
    for sentence in cluener_sentences(path) if is_json else read_columns(path, column, token_column)[0]:
        empty = False
        yield sentence
    if empty:
        raise InputError(f"{path} has no sentences: name a file with one token and its tag per line")


def cluener_sentences(path: Path) -> Iterator[Sentence]:
    """Streams the sentences of JSON lines as in CLUENER; see `read_tagged`.

    Raises:
        InputError: a line holds something else.
    """
    with decompressed(path) as stream:
        for number, line in enumerate(text_lines(stream, path), 1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    fields = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise _no_labels(where, "it is not valid JSON") from error
                yield cluener_sentence(fields, where)


def cluener_sentence(fields: Any, where: str) -> Sentence:
    """The sentence of an object as in CLUENER; see `read_tagged`.

    Raises:
        InputError: it is something else; the sentence begins with `where`.
    """
    try:
        text = fields["text"]
        if not isinstance(text, str) or not text.strip():
            raise ValueError("the text is empty or not a string")
        spans = in_order(_listed_spans(fields["label"], text), len(text))
        if SURROGATE.search("".join([text, *fields["label"]])):
            raise ValueError("half a surrogate pair")
        tagged = zip(text, write_tags(spans, len(text)), strict=True)
        return Sentence(*zip(*((token, tag) for token, tag in tagged if not token.isspace()), strict=True))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else error
        raise _no_labels(
            where, reason if isinstance(error, KeyError | ValueError) else "its form is another"
        ) from error


def _no_labels(where: str, reason: object) -> InputError:
    return InputError(
        f"{where} is not an object with a text and its labels ({reason}): correct it, or name only files with labels"
    )


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
