"""Files of columns, as in CoNLL: a token and its tag in each line, and blank lines between sentences."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from jaxft.data.files import decompressed, text_lines
from jaxft.data.spans import Sentence, split_tag
from jaxft.errors import InputError

INVISIBLE = "\u200b\u200e\u200f\u2060\ufeff"
"""characters that a line may hold and still be blank, besides white space"""
DELIMITERS = (",", ";", "|", "\u00a0", "\u3000")
"""what separates columns where a line holds neither a tab nor a space"""


@dataclass
class _Columns:
    """How the lines of a file are split, and what was met in it.

    Attributes:
        path: the file.
        tag_column: the column of the tags.
        token_column: the column of the tokens; None is the first, unless it holds counters.
        width: the number of columns of the first line that is no comment; None in a file of such lines alone.
        delimiter: what separates the columns; None is a tab, or else spaces.
        comments: number of lines that are comments.
        counters: whether the first column holds only numbers, which rise in each sentence.
        entities: for each column that holds only tags, whether it marks an entity.
    """

    path: Path
    tag_column: int
    token_column: int | None
    width: int | None = None
    delimiter: str | None = None
    comments: int = 0
    counters: bool = True
    entities: dict[int, bool] | None = None
    _last_number: int = field(default=-1)

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

    def token_and_tag(self, text: str, where: str) -> tuple[str, str]:
        """The token and the tag of a line.

        Raises:
            InputError: the line has no such columns, another number of columns than the line before, no token, or a tag
                of an unknown form.
        """
        fields, token_column = self.fields(text), self.token_column or 0
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
        if not -width <= token_column < width or (token_column - self.tag_column) % width == 0:
            raise InputError(
                f"{where} has no column {token_column} beside that of the tags in {text!r}: name the column of the "
                "tokens with --token-column"
            )
        if not fields[token_column]:
            raise InputError(f"{where} has a tag without a token in {text!r}: add the token or remove the line")
        self._observe(fields)
        tags = [i for i, text in enumerate(fields) if i != token_column and is_tag(text.strip())]
        flag = f"--tag-column {tags[-1]}" if tags and self.tag_column == -1 else "--tag-column"
        return fields[token_column].strip(" ") or fields[token_column], checked_tag(
            fields[self.tag_column], where, flag
        )

    def _observe(self, fields: list[str]) -> None:
        """Keeps what the columns may hold: numbers that rise, and tags."""
        if self.counters:
            match = re.fullmatch(r"(\d+)([-.]\d+)?", fields[0].strip())
            number = int(match[1]) if match else -1
            self.counters, self._last_number = number >= self._last_number and match is not None, number
        found = range(len(fields)) if self.entities is None else self.entities
        tags = {i: fields[i].strip() for i in found if is_tag(fields[i].strip())}
        before = self.entities or {}
        self.entities = {i: before.get(i, False) or tag != "O" for i, tag in tags.items()}

    def end_sentence(self) -> None:
        """Lets counters start again."""
        self._last_number = -1

    def check(self) -> None:
        """Refuses a first column of counters, unless the column of the tokens was named.

        Raises:
            InputError: naming the flag.
        """
        if not self.counters or self.token_column is not None or self.width is None or self.width < 3:
            return
        tags = [column for column, marked in (self.entities or {}).items() if marked]
        remedy = (
            "" if self.tag_column % self.width in tags or not tags else f", and of the tags, --tag-column {tags[0]}"
        )
        raise InputError(
            f"{self.path} has counters, not tokens, in its first column: name the column of the tokens, such as "
            f"--token-column 1{remedy}"
        )

    def notes(self) -> Iterator[str]:
        """What the user should know of the file."""
        if self.comments:
            yield f"{self.path}: {self.comments:,} comment lines, which begin with #, are skipped"
        tags = [column for column, marked in (self.entities or {}).items() if marked]
        if self.tag_column == -1 and len(tags) > 1 and self.width is not None:
            columns = " and ".join(map(str, tags))
            yield f"columns {columns} hold tags: column {self.width - 1} is read, and --tag-column names another"


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
    columns = _Columns(path, tag_column, token_column)
    _find_layout(columns)
    sentences: list[Sentence] = []
    tokens: list[str] = []
    tags: list[str] = []

    def end_sentence() -> None:
        if tokens:
            sentences.append(Sentence(tuple(tokens), tuple(tags)))
        tokens.clear()
        tags.clear()
        columns.end_sentence()

    for where, text in _lines(path):
        if _is_blank(text):
            end_sentence()
        elif columns.is_comment(text):
            columns.comments += 1
        else:
            token, tag = columns.token_and_tag(text, where)
            tokens.append(token)
            tags.append(tag)
    end_sentence()
    columns.check()
    return sentences, list(columns.notes())


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


def _find_layout(columns: _Columns) -> None:
    """Sets the number of columns and their delimiter by the first line that is surely a token with its tag."""
    for _, text in _lines(columns.path):
        if _is_blank(text) or text.startswith(("#", " ")):
            continue
        if not re.search(r"[\t ]", text.strip(" ")):
            columns.delimiter = next((delimiter for delimiter in DELIMITERS if delimiter in text), None)
        columns.width = len(columns.fields(text))
        return


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
    return not text.strip().strip(INVISIBLE).strip() or text.startswith("-DOCSTART-")
