"""Tables with a header and a token in each row, as Kaggle's copy of the GMB corpus, `Sentence #,Word,POS,Tag`.

Those with a sentence in each row have lists of words and of tags in their cells, or both separated by spaces.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxft.data.files import decompressed, first_line, text_lines
from jaxft.data.spans import Sentence
from jaxft.data.tag_columns import checked_tag, is_tag
from jaxft.errors import InputError

WORD_NAMES = ("word", "words", "token", "tokens", "form", "character", "char", "text", "sentence")
TAG_NAMES = ("tag", "tags", "nertag", "nertags", "ner", "netag", "label", "labels", "iob", "bio", "entity")
SENTENCE_NAMES = (
    *("sentence#", "sentence", "sentenceid", "sentenceidx", "sentenceno", "sentencenumber", "sentenceindex"),
    *("sentid", "sentidx", "sentno", "sid"),
)
LONGEST_WITHOUT_END = 500
"""largest number of tokens of a file in which nothing ends a sentence"""


@dataclass(frozen=True)
class _Header:
    """Which columns hold what.

    Attributes:
        width: the number of columns.
        delimiter: what separates them.
        word: the column of the tokens.
        tag: the column of the tags.
        sentence: the column that names sentences, if there is one.
    """

    width: int
    delimiter: str
    word: int
    tag: int
    sentence: int | None


def is_token_table(path: Path) -> bool:
    """Whether a file begins with a header that names a column of tokens and one of tags.

    Raises:
        InputError: the file cannot be read.
    """
    return _header(first_line(path).decode(errors="replace"), -1, None) is not None


def read_token_table(path: Path, tag_column: int = -1, token_column: int | None = None) -> list[Sentence]:
    """Reads a table of tokens.

    A sentence goes on while its column of sentences is empty or holds the same name; without such a column, blank lines
    end sentences. Where a cell holds several tags, each row is a sentence.

    Args:
        path: the file, plain or compressed; its header `is_token_table` knows.
        tag_column: the column of the tags, counted from 0; -1 is the one that the header names.
        token_column: the column of the tokens; None is the one that the header names.

    Raises:
        InputError: a row with another number of fields, an empty token, a tag of an unknown form, or nothing that ends
            the sentences.
    """
    rows = _rows(path)
    header = next((_header(line, tag_column, token_column) for _, line in rows if line.strip()), None)
    if header is None:
        raise InputError(f"{path} has no header that names a column of tokens and one of tags: call them token and tag")
    fields = list(_fields(rows, header))
    if any(_is_list(cells[header.tag]) for _, cells in fields[:1] if cells):
        return [_sentence_of_row(cells, header, where) for where, cells in fields if cells]
    found = _sentences(fields, header)
    if len(found) == 1 and len(found[0].tokens) > LONGEST_WITHOUT_END:
        raise InputError(f"{path} has nothing that ends a sentence: add a column 'sentence_id', or blank lines")
    return found


def _sentences(rows: Sequence[tuple[str, list[str]]], header: _Header) -> list[Sentence]:
    """The sentences of rows that hold a token each."""
    sentences: list[list[tuple[str, str]]] = [[]]
    sentence_name = ""
    for where, fields in rows:
        if not any(field.strip() for field in fields):
            sentences.append([])
            continue
        name = "" if header.sentence is None else fields[header.sentence].strip()
        if name and name != sentence_name:
            sentence_name = name
            sentences.append([])
        token = fields[header.word].strip(" ") or fields[header.word]
        if not token:
            raise InputError(f"{where} has a tag without a token: add the token or remove the row")
        sentences[-1].append((token, checked_tag(fields[header.tag], where)))
    return [Sentence(*zip(*pairs, strict=True)) for pairs in sentences if pairs]


def _sentence_of_row(fields: list[str], header: _Header, where: str) -> Sentence:
    """The sentence of a row whose cells hold all its words and all its tags."""
    tokens, tags = _listed(fields[header.word]), _listed(fields[header.tag])
    if not tokens or len(tokens) != len(tags):
        raise InputError(f"{where} has {len(tokens)} tokens and {len(tags)} tags: give one tag per token")
    return Sentence(tuple(tokens), tuple(checked_tag(tag, where) for tag in tags))


def _is_list(cell: str) -> bool:
    return len(_listed(cell)) > 1 or cell.strip().startswith("[")


def _listed(cell: str) -> list[str]:
    """The items of a cell: a list as Python or NumPy prints it, or words separated by spaces.

    Examples:
        >>> _listed("['Ada', 'left']"), _listed("B-PER O")
        (['Ada', 'left'], ['B-PER', 'O'])
    """
    if not (cell.strip().startswith("[") and cell.strip().endswith("]")):
        return cell.split()
    pairs = re.findall(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", cell)
    return [re.sub(r"\\(.)", r"\1", single or double) for single, double in pairs]


def _header(line: str, tag_column: int, token_column: int | None) -> _Header | None:
    """The columns that a header names; None if the line is no header."""
    text = line.strip("\r\n\ufeff")
    delimiter = next((delimiter for delimiter in "\t,;| " if delimiter in text), None)
    if delimiter is None:
        return None
    cells = [name.strip().strip('"') for name in text.split(delimiter)]
    names = ["".join(letter for letter in name.lower() if letter.isalnum() or letter == "#") for name in cells]
    word, tag = _place(names, WORD_NAMES), _place(names, TAG_NAMES)
    if word is None or tag is None or len(names) < 2:
        return None
    sentence = _place([name if i != word else "" for i, name in enumerate(names)], SENTENCE_NAMES)
    return _Header(
        width=len(names),
        delimiter=delimiter,
        word=word if token_column is None or token_column >= len(names) else token_column,
        tag=tag if tag_column == -1 or tag_column >= len(names) else tag_column,
        sentence=sentence,
    )


def _place(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    with decompressed(path) as stream:
        for number, line in enumerate(text_lines(stream, path), 1):
            yield f"{path}, line {number}", line


def _fields(rows: Iterator[tuple[str, str]], header: _Header) -> Iterator[tuple[str, list[str]]]:
    """The cells of each row; only commas and semicolons go with quotes, which are tokens elsewhere."""
    quoting = csv.QUOTE_MINIMAL if header.delimiter in ",;" else csv.QUOTE_NONE
    for where, line in rows:
        text = line.strip("\r\n")
        if not text.strip():
            yield where, []
            continue
        try:
            fields = next(csv.reader([text], delimiter=header.delimiter, quoting=quoting, strict=True))
        except csv.Error as error:
            raise InputError(
                f"{where} has a quotation mark in the wrong place: double the quotes within a field"
            ) from error
        yield where, _joined(fields, header, where)


def _joined(fields: list[str], header: _Header, where: str) -> list[str]:
    """The cells of a row; a token that holds the delimiter without quotes, such as a comma, is one cell again.

    Raises:
        InputError: there are too few cells, or the last one holds no tag.
    """
    extra = len(fields) - header.width
    if extra == 0:
        return fields
    if extra < 0 or header.tag < header.word or not is_tag(fields[header.tag + extra].strip()):
        raise InputError(
            f"{where} has {len(fields)} fields and the header has {header.width}: quote a token that holds the "
            "delimiter"
        )
    end = header.word + extra + 1
    only_delimiters = not any(fields[header.word : end])
    token = header.delimiter if only_delimiters else header.delimiter.join(fields[header.word : end])
    return [*fields[: header.word], token, *fields[end:]]
