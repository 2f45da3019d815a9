"""Tagged sentences of a table: lists of tokens with lists of tags, or texts with spans of characters."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import regex

from jaxft.base.scripts import UNSPACED
from jaxft.data.alignment import align, in_order
from jaxft.data.annotations import CUT, plain_row, read_span
from jaxft.data.arrow import ARROW_SUFFIXES, class_names
from jaxft.data.document import Split
from jaxft.data.files import refuse_surrogates
from jaxft.data.json_values import first_value, is_one_per_line, json_values
from jaxft.data.memory import Table
from jaxft.data.spans import Sentence, Span, split_tag
from jaxft.data.table import rows, source_name, split_column_of, split_of, table_suffix
from jaxft.data.tag_pieces import Unit, split_text
from jaxft.data.tagged import JSON_SUFFIXES, cluener_sentence
from jaxft.errors import InputError

TOKEN_COLUMNS = ("tokens", "words", "text", "token", "word")
TAG_COLUMNS = ("tags", "ner_tags", "spans", "entities", "labels", "label", "ner", "ner_labels", "tag")
CHARACTER = regex.compile(f"[{UNSPACED}]")
"""one that stands for a word or a part of one"""


def is_tagged_table(path: Path) -> bool:
    """Whether a file is read by `read_tagged_table`: Parquet, Arrow, or JSON in another form than CLUENER's lines.

    Raises:
        InputError: the file cannot be read.
    """
    if table_suffix(path) in ARROW_SUFFIXES:
        return True
    value = first_value(path)
    if value is None or is_cluener(path):
        return False
    try:
        fields = plain_row(value, "", Counter())
    except InputError:
        return isinstance(value, Mapping)  # the reader names the place
    return fields is None or all(any(name in fields for name in names) for names in (TOKEN_COLUMNS, TAG_COLUMNS))


def is_cluener(path: Path) -> bool:
    """Whether the lines of a .json or .jsonl file are objects as in CLUENER.

    Raises:
        InputError: the file cannot be read.
    """
    if table_suffix(path) not in JSON_SUFFIXES or not is_one_per_line(path):
        return False
    value = first_value(path)
    return isinstance(value, Mapping) and isinstance(value.get("label"), Mapping)


def read_tagged_table(source: Path | Table) -> tuple[dict[Split, list[Sentence]], int]:
    """The sentences of each split, and the number of spans that do not begin and end where tokens do.

    A row has its tokens in `tokens` (or `words` or `text`) and a tag for each in `tags` (or `ner_tags`, `ner`, `labels`
    or `label`); or its text in `text` and in one of these columns, or in `spans` or `entities`, mappings with `start`,
    `end` and `type`, or triples of the three, in characters, the end excluded. Exports of annotation tools are read as
    `jaxft.data.annotations.plain_row` says. A text is split into words and marks, or into characters where its script
    puts no spaces between words. A span that cuts a token takes the whole token, and one without a token of its own is
    left out. The column `split` or `is_valid`, if there is one, names the split of each row; without it all are train.

    Raises:
        InputError: at the first bad row.
    """
    sentences, counts = read_tagged_rows(source)
    return sentences, counts[CUT]


def read_tagged_rows(source: Path | Table) -> tuple[dict[Split, list[Sentence]], Counter[str]]:
    """The sentences of each split, as `read_tagged_table`, and counts by what the user should know of them.

    Raises:
        InputError: at the first bad row.
    """
    counts = Counter[str]()
    plain = ((where, plain_row(value, where, counts)) for where, value in _values(source))
    found = [(where, fields) for where, fields in plain if fields is not None]
    if not found:
        skipped = f" ({', '.join(f'{count:,} {what}' for what, count in counts.items())})" if counts else ""
        raise InputError(f"{source_name(source)} has no rows{skipped}: give some sentences")
    token_column = _column(found, TOKEN_COLUMNS, "tokens")
    tag_column = _column(found, TAG_COLUMNS, "tags")
    split_column = split_column_of(found[0][1])
    names = class_names(source).get(tag_column) if isinstance(source, Path) else None
    unit = _unit(fields.get(token_column) for _, fields in found)
    sentences: dict[Split, list[Sentence]] = {}
    for where, fields in found:
        split = split_of(fields, split_column, where) if split_column in fields else "train"
        if split == "unlabelled":
            continue
        tags = _named(fields.get(tag_column), names, where)
        sentence = cluener_sentence(fields, where) if isinstance(tags, Mapping) else None
        if sentence is None:
            sentence, cut = _sentence(fields.get(token_column), tags, unit, where)
            counts[CUT] += cut
        sentences.setdefault(split, []).append(sentence)
    return sentences, +counts


def _values(source: Path | Table) -> Iterator[tuple[str, Any]]:
    """The place and the value of each row."""
    if isinstance(source, Table) or table_suffix(source) in ARROW_SUFFIXES:
        yield from rows(source)
    else:
        yield from json_values(source)


def _column(found: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str], kind: str) -> str:
    """The first of these names that a row has as a column."""
    present = {name for _, fields in found for name in fields}
    name = next((name for name in names if name in present), None)
    if name is None:
        where, fields = found[0]
        raise InputError(f"{where} has no column of {kind}, only {', '.join(map(repr, fields))}: call it {names[0]!r}")
    return name


def _named(tags: Any, names: Sequence[str] | None, where: str) -> Any:
    """The tags, with their names in place of the numbers of classes."""
    if names is None or not isinstance(tags, list | tuple) or not all(isinstance(tag, int) for tag in tags):
        return tags
    if bad := [tag for tag in tags if not 0 <= tag < len(names)]:
        raise InputError(f"{where} has the tag {bad[0]}, and the file names {len(names)} tags: correct it")
    return [names[tag] for tag in tags]


def _unit(values: Iterator[Any]) -> Unit:
    """Characters where most of the letters of the texts are of a script without spaces between words."""
    text = "".join(value for value in values if isinstance(value, str))
    return "characters" if 2 * len(CHARACTER.findall(text)) > sum(map(str.isalpha, text)) else "words"


def _sentence(tokens: Any, tags: Any, unit: Unit, where: str) -> tuple[Sentence, int]:
    if not isinstance(tags, list | tuple):
        raise InputError(f"{where} has {tags!r} for its tags: give a list")
    if isinstance(tokens, str):
        return _from_spans(tokens, [read_span(item, where) for item in tags], unit, where)
    if not isinstance(tokens, list | tuple) or not tokens or not all(isinstance(t, str) and t for t in tokens):
        raise InputError(f"{where} has {tokens!r} for its tokens: give a list of words, or a text")
    if len(tokens) != len(tags):
        raise InputError(f"{where} has {len(tokens)} tokens and {len(tags)} tags: give one tag per token")
    if any(isinstance(tag, int | float) for tag in tags):
        raise InputError(
            f"{where} has numbers for its tags: give their names, such as B-PER, or the data set as Parquet, which "
            "keeps the names"
        )
    refuse_surrogates("".join(map(str, [*tokens, *tags])), where)
    try:
        for tag in tags:
            split_tag(str(tag))
    except ValueError as error:
        raise InputError(f"{where} has {error}: correct it") from error
    return Sentence(tuple(tokens), tuple(map(str, tags))), 0


def _from_spans(text: str, spans: Sequence[Span], unit: Unit, where: str) -> tuple[Sentence, int]:
    """The sentence of a text, and the number of spans that cut a token of it."""
    places = split_text(text, unit)
    if not places:
        raise InputError(f"{where} has an empty text: remove the row or fill it in")
    refuse_surrogates("".join([text, *(name for name, _, _ in spans)]), where)
    try:
        ordered = in_order(list(spans), len(text))
    except ValueError as error:
        raise InputError(f"{where} has a span that does not fit its text ({error}): correct it") from error
    tags, cut = align(places, ordered)
    return Sentence(tuple(text[a:b] for a, b in places), tuple(tags)), cut
