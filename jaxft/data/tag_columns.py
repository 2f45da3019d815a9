"""Files of columns, as in CoNLL: a token and its tag in each line, and blank lines between sentences."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jaxft.data.files import decompressed, text_lines
from jaxft.data.spans import Sentence, split_tag
from jaxft.errors import InputError

INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"
"""characters that a line may hold and still be blank, besides white space"""
DELIMITERS = (",", ";", "|", "\u00a0", "\u3000")
"""what separates columns where a line holds neither a tab nor a space"""


COUNTER = re.compile(r"(\d+)([-.]\d+)?")
"""the number of a token, or the range of numbers of tokens that are written as one, as in CoNLL-U"""


@dataclass
class _Layout:
    """How the lines of a file are split.

    Attributes:
        tag_column: the column of the tags.
        token_column: the column of the tokens.
        width: the number of columns, by the first line that is surely a token with its tag, or else by the first token.
        delimiter: what separates the columns; None is a tab, or else spaces.
    """

    tag_column: int
    token_column: int
    width: int | None = None
    delimiter: str | None = None

    def fields(self, text: str) -> list[str]:
        """The columns of a line; a token may be a space, U+3000 or another kind of white space."""
        if self.delimiter is not None:
            return next(csv.reader([text], delimiter=self.delimiter))
        if "\t" in text:
            fields = text.split("\t")
            while self.tag_column < 0 and len(fields) > 2 and not fields[-1].strip():
                fields.pop()
            return fields
        fields = re.split(" +", text.strip(" "))
        is_space = text.startswith(" ") and len(fields) == (self.width or 2) - 1
        return [" ", *fields] if is_space else fields

    def is_comment(self, text: str) -> bool:
        """Whether a line is a comment: it begins with # and is not a token with a tag."""
        if not text.startswith("#"):
            return False
        fields = self.fields(text)
        width = self.width or len(fields)
        whole = len(fields) == width and width > 1 and -width <= self.tag_column < width
        return not (whole and is_tag(fields[self.tag_column].strip()))

    def checked_fields(self, text: str, where: str) -> list[str]:
        """The columns of a line with a token.

        Raises:
            InputError: the line has no such columns, another number of columns than the line before, or no token.
        """
        fields = self.fields(text)
        if self.width not in (None, len(fields)):
            raise InputError(
                f"{where} has {len(fields)} columns and the line before has {self.width}: give every line the same "
                "number"
            )
        self.width = width = len(fields)
        if width < 2 or not -width <= self.tag_column < width:
            raise InputError(
                f"{where} has no column {self.tag_column} in {text!r}: name the column of the tags with --tag-column"
            )
        if not -width <= self.token_column < width or (self.token_column - self.tag_column) % width == 0:
            raise InputError(
                f"{where} has no column {self.token_column} beside that of the tags in {text!r}: name the column of "
                "the tokens with --token-column"
            )
        if not fields[self.token_column]:
            raise InputError(f"{where} has a tag without a token in {text!r}: add the token or remove the line")
        return fields

    def token_and_tag(self, fields: list[str], where: str) -> tuple[str, str]:
        """The token and the tag of a line.

        Raises:
            InputError: the tag is of an unknown form.
        """
        token, tag = fields[self.token_column], fields[self.tag_column].strip()
        if not is_tag(tag):
            others = [i for i, text in enumerate(fields) if i != self.token_column and is_tag(text.strip())]
            checked_tag(tag, where, f"--tag-column {others[-1]}" if others else "--tag-column")
        return token.strip(" ") or token, tag


@dataclass
class _Observed:
    """What the columns of a file may be.

    Attributes:
        counters: whether the first column holds only numbers, which rise in each sentence.
        tags: for each column that holds only tags, whether it marks an entity.
    """

    counters: bool = True
    tags: dict[int, bool] | None = None
    _last: int = -1

    def add(self, fields: list[str], first: bool) -> None:
        """Adds a line; `first` says whether it is the first of its sentence."""
        if self.counters:
            match = COUNTER.fullmatch(fields[0].strip())
            number = int(match[1]) if match else -1
            self.counters = match is not None and (first or number >= self._last)
            self._last = number
        if self.tags is None:
            self.tags = dict.fromkeys(range(len(fields)), False)
        for column in tuple(self.tags):
            text = fields[column].strip()
            if not is_tag(text):
                del self.tags[column]
            elif text != "O":
                self.tags[column] = True

    @property
    def tag_columns(self) -> list[int]:
        """The columns that hold tags and mark entities."""
        return [column for column, marks in (self.tags or {}).items() if marks]


def read_columns(path: Path, tag_column: int = -1, token_column: int | None = None) -> tuple[list[Sentence], list[str]]:
    """Reads a file of columns.

    Columns are separated by tabs or else by spaces, or by commas, semicolons or bars where there are neither. Blank
    lines and lines that begin with -DOCSTART- end a sentence. Lines that begin with # are comments, unless they have
    as many columns as the others and a tag.

    Args:
        path: the file, plain or compressed.
        tag_column: the column of the tags, counted from 0, or from the end if negative.
        token_column: the column of the tokens; None is the first, which may not hold counters.

    Returns:
        The sentences, and what the user should know of the file.

    Raises:
        InputError: a line has no such columns, another number of columns than the line before, no token or a tag of an
            unknown form; or the first column holds counters.
    """
    layout = _find_layout(path, tag_column, token_column or 0)
    observed, comments = _Observed(), 0
    sentences: list[list[tuple[str, str]]] = [[]]
    for where, text in _lines(path):
        if _is_blank(text):
            sentences.append([])
        elif layout.is_comment(text):
            comments += 1
        else:
            fields = layout.checked_fields(text, where)
            observed.add(fields, first=not sentences[-1])
            sentences[-1].append(layout.token_and_tag(fields, where))
    if token_column is None:
        _refuse_counters(path, layout, observed)
    lines = [f"{path}: {comments:,} comment lines, which begin with #, are skipped"] * bool(comments)
    if tag_column == -1 and len(observed.tag_columns) > 1 and layout.width:
        columns = " and ".join(map(str, observed.tag_columns))
        lines.append(f"columns {columns} hold tags: column {layout.width - 1} is read, and --tag-column names another")
    return [Sentence(*zip(*pairs, strict=True)) for pairs in sentences if pairs], lines


def _refuse_counters(path: Path, layout: _Layout, observed: _Observed) -> None:
    """Refuses a first column of counters, where another column than the last may hold the tokens.

    Raises:
        InputError: naming the flags.
    """
    width = layout.width or 0
    if not observed.counters or width < 3:
        return
    tags = observed.tag_columns
    other = f", and of the tags, --tag-column {tags[0]}" if tags and layout.tag_column % width not in tags else ""
    raise InputError(
        f"{path} has counters, not tokens, in its first column: name the column of the tokens, such as "
        f"--token-column 1{other}"
    )


def checked_tag(tag: str, where: str, flag: str = "--tag-column") -> str:
    """The tag without white space around it, once its form is checked.

    Raises:
        InputError: it is of an unknown form; the sentence begins with `where` and names the flag of another column.
    """
    try:
        split_tag(tag.strip())
    except ValueError as error:
        raise InputError(f"{where} has {error}: correct it, or name the right column with {flag}") from error
    return tag.strip()


@lru_cache(maxsize=65_536)
def is_tag(text: str) -> bool:
    """Whether a text is a tag.

    Examples:
        >>> is_tag("B-PER"), is_tag("B_PER")
        (True, False)
    """
    try:
        split_tag(text)
    except ValueError:
        return False
    return True


def _find_layout(path: Path, tag_column: int, token_column: int) -> _Layout:
    """The layout of a file, by its first line that is surely a token with its tag."""
    layout = _Layout(tag_column, token_column)
    for _, text in _lines(path):
        if _is_blank(text) or text.startswith(("#", " ")):
            continue
        if not re.search(r"[\t ]", text.strip(" ")):
            layout.delimiter = next((delimiter for delimiter in DELIMITERS if delimiter in text), None)
        layout.width = len(layout.fields(text))
        break
    return layout


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line of a file and its place."""
    with decompressed(path) as stream:
        for number, line in enumerate(text_lines(stream, path), 1):
            text, where = line.strip("\r\n\ufeff"), f"{path}, line {number}"
            if "\r" in text:
                raise InputError(
                    f"{where} has a carriage return within it, as files of old Macs do: save the file with the line "
                    "ends of Unix"
                )
            yield where, text


def _is_blank(text: str) -> bool:
    text = text.strip()
    return not text or text.startswith("-DOCSTART-") or (text[0] in INVISIBLE and not text.strip(INVISIBLE).strip())
