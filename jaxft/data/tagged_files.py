"""One door to every form of tagged sentences, which their content tells apart; `python -m jaxft.ner` reads with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxft.data.document import Split
from jaxft.data.memory import Table
from jaxft.data.spans import Sentence
from jaxft.data.table import source_name, table_suffix
from jaxft.data.tag_columns import read_columns
from jaxft.data.tagged import JSON_SUFFIXES, cluener_sentences
from jaxft.data.tagged_table import is_cluener, is_tagged_table, read_tagged_rows
from jaxft.data.token_table import is_token_table, read_token_table
from jaxft.errors import InputError


@dataclass(frozen=True)
class TaggedSentences:
    """What was read of a file or a table.

    Attributes:
        splits: the sentences of each split that the data name; without names all are train.
        lines: what the user should know of how they were read.
    """

    splits: Mapping[Split, Sequence[Sentence]]
    lines: Sequence[str] = ()


def read_sentences(source: Path | Table, tag_column: int = -1, token_column: int | None = None) -> TaggedSentences:
    """Reads tagged sentences of any form: columns, tables with a token per row, rows of tokens or texts, and JSON.

    Args:
        source: a file, plain or compressed, or a table in memory.
        tag_column: the column of the tags in a file of columns, counted from 0, or from the end if negative.
        token_column: the column of the tokens; None is the first, or the one that a header names.

    Raises:
        InputError: the data are of no form that is read, or a line or row is bad; or there is no sentence.
    """
    is_json = isinstance(source, Path) and table_suffix(source) in JSON_SUFFIXES
    if isinstance(source, Table) or is_tagged_table(source) or (is_json and not is_cluener(source)):
        splits, counts = read_tagged_rows(source)
        lines = [f"{source_name(source)}: {count:,} {what}" for what, count in counts.items()]
        return TaggedSentences(splits, lines)
    lines = []
    if is_json:
        sentences = list(cluener_sentences(source))
    elif is_token_table(source):
        sentences = read_token_table(source, tag_column, token_column)
    else:
        sentences, lines = read_columns(source, tag_column, token_column)
    if not sentences:
        raise InputError(f"{source} has no sentences: name a file with one token and its tag per line")
    return TaggedSentences({"train": sentences}, lines)
