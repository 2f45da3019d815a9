"""Tagged sentences of a table: lists of tokens with lists of tags, or texts with spans of characters."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import regex

from jaxft.data.arrow import ARROW_SUFFIXES
from jaxft.data.document import Split
from jaxft.data.files import decompressed
from jaxft.data.memory import Table
from jaxft.data.spans import Span, split_tag, write_tags
from jaxft.data.table import rows, source_name, split_column_of, split_of, table_suffix
from jaxft.data.tag_pieces import Unit, split_text
from jaxft.data.tagged import Sentence, in_order
from jaxft.errors import InputError

TOKEN_COLUMNS = ("tokens", "words", "text")
TAG_COLUMNS = ("tags", "ner_tags", "spans", "entities", "labels", "label")
TYPE_KEYS = ("type", "label", "entity_group", "entity")
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")


def is_tagged_table(path: Path) -> bool:
    """Whether a file is read by `read_tagged_table`: Parquet, Arrow, or JSON lines in another form than CLUENER's.

    Raises:
        InputError: the file cannot be read.
    """
    suffix = table_suffix(path)
    if suffix != ".jsonl":
        return suffix in ARROW_SUFFIXES
    with decompressed(path) as stream:
        first = next((line for line in stream if line.strip()), b"")
    try:
        fields = json.loads(first)
    except (ValueError, RecursionError):
        return False  # the reader of CLUENER's form names the line
    if not isinstance(fields, dict) or isinstance(fields.get("label"), dict):
        return False
    return all(any(name in fields for name in names) for names in (TOKEN_COLUMNS, TAG_COLUMNS))


def read_tagged_table(source: Path | Table) -> tuple[dict[Split, list[Sentence]], int]:
    """The sentences of each split, and the number of spans that do not begin and end where tokens do.

    A row has its tokens in `tokens` (or `words` or `text`) and a tag for each in `tags` (or `ner_tags`, `labels` or
    `label`); or its text in `text` and in one of these columns, or in `spans` or `entities`, mappings with `start`,
    `end` and `type`, or triples of the three, in characters, the end excluded. A text is split into words and marks, or
    into characters where its script puts no spaces between words. A span that cuts a token takes the whole token, and
    one without a token of its own is left out. The column `split` or `is_valid`, if there is one, names the split of
    each row; without it all are train.

    Raises:
        InputError: at the first bad row.
    """
    found = list(rows(source))
    if not found:
        raise InputError(f"{source_name(source)} has no rows: give some sentences")
    token_column = _column(found[0], TOKEN_COLUMNS, "tokens")
    tag_column = _column(found[0], TAG_COLUMNS, "tags")
    split_column = split_column_of(found[0][1])
    unit = _unit(fields.get(token_column) for _, fields in found)
    sentences: dict[Split, list[Sentence]] = {}
    cut = 0
    for where, fields in found:
        split = split_of(fields, split_column, where) if split_column in fields else "train"
        if split == "unlabelled":
            continue
        sentence, cut_here = _sentence(fields.get(token_column), fields.get(tag_column), unit, where)
        cut += cut_here
        sentences.setdefault(split, []).append(sentence)
    return sentences, cut


def _column(row: tuple[str, Mapping[str, Any]], names: Sequence[str], kind: str) -> str:
    where, fields = row
    name = next((name for name in names if name in fields), None)
    if name is None:
        raise InputError(f"{where} has no column of {kind}, only {', '.join(map(repr, fields))}: call it {names[0]!r}")
    return name


def _unit(values: Iterator[Any]) -> Unit:
    """Characters where most of the letters of the texts are of a script without spaces between words."""
    text = "".join(value for value in values if isinstance(value, str))
    return "characters" if 2 * len(UNSPACED.findall(text)) > sum(map(str.isalpha, text)) else "words"


def _sentence(tokens: Any, tags: Any, unit: Unit, where: str) -> tuple[Sentence, int]:
    if not isinstance(tags, list | tuple):
        raise InputError(f"{where} has {tags!r} for its tags: give a list")
    if isinstance(tokens, str):
        return _from_spans(tokens, [_span(item, where) for item in tags], unit, where)
    if not isinstance(tokens, list | tuple) or not tokens or not all(isinstance(t, str) and t for t in tokens):
        raise InputError(f"{where} has {tokens!r} for its tokens: give a list of words, or a text")
    if len(tokens) != len(tags):
        raise InputError(f"{where} has {len(tokens)} tokens and {len(tags)} tags: give one tag per token")
    if any(isinstance(tag, int | float) for tag in tags):
        raise InputError(f"{where} has numbers for its tags: give their names, such as B-PER")
    try:
        for tag in tags:
            split_tag(str(tag))
    except ValueError as error:
        raise InputError(f"{where} has {error}: correct it") from error
    return Sentence(tuple(tokens), tuple(map(str, tags))), 0


def _span(item: Any, where: str) -> Span:
    try:
        if isinstance(item, Mapping):
            return str(next(item[key] for key in TYPE_KEYS if key in item)), int(item["start"]), int(item["end"])
        start, end, name = item
        return str(name), int(start), int(end)
    except (KeyError, StopIteration, TypeError, ValueError) as error:
        raise InputError(f"{where} has the span {item!r}: give its start, end and type") from error


def _from_spans(text: str, spans: Sequence[Span], unit: Unit, where: str) -> tuple[Sentence, int]:
    """The sentence of a text, and the number of spans that cut a token of it."""
    places = split_text(text, unit)
    if not places:
        raise InputError(f"{where} has an empty text: remove the row or fill it in")
    try:
        ordered = in_order(list(spans), len(text))
    except ValueError as error:
        raise InputError(f"{where} has a span that does not fit its text ({error}): correct it") from error
    token_spans, cut, free = [], 0, 0
    for name, start, end in ordered:
        inside = [i for i, (a, b) in enumerate(places) if a < end and b > start and i >= free]
        cut += not inside
        if inside:
            first, last = inside[0], inside[-1]
            cut += places[first][0] < start or places[last][1] > end
            token_spans.append((name, first, last + 1))
            free = last + 1
    tags = write_tags(token_spans, len(places))
    return Sentence(tuple(text[a:b] for a, b in places), tuple(tags)), cut
