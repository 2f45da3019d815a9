"""Which columns of a table hold what, and how its file is written: the settings of the jobs that read tables."""

from dataclasses import dataclass
from typing import Literal

from jaxft.errors import InputError

Quoting = Literal["auto", "doubled", "backslash", "none"]
"""what a quotation mark at the start of a field does: it encloses the field, in which quotation marks are doubled, or
in which they follow a backslash; or it is a character like any other"""
NO_SPLITS = "none"


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """Settings of a job that reads a table; the settings of the job inherit them."""

    text_column: str = "text"
    """column of the texts in a table; several with commas between them, such as title,text, are read as one text"""
    label_column: str = "label"
    """column of the labels in a table"""
    label_columns: str | None = None
    """columns of 0 and 1 with commas between them, one for each label, in place of --label-column"""
    split_column: str = "split"
    """column of a table that says train, dev, test or unlabelled; none where its column split says something else"""
    columns: str | None = None
    """names of all columns, in their order with commas between them, of a .csv or .tsv file without a header row"""
    quoting: Quoting = "auto"
    """whether quotation marks enclose the fields of a .csv or .tsv file: inner ones doubled, inner ones after a
    backslash, or none, where they are characters; auto is doubled for .csv, and what fits the whole file for .tsv"""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what, and how its file is written.

    Attributes:
        text: columns of texts that are read as one text.
        pair: the column of second texts.
        label: the column of labels; None where no labels are read.
        labels: columns of 0 and 1, one for each label, in place of `label`.
        split: the column of splits; None where there is none to read.
        names: names of all columns of a file without a header row.
        quoting: what quotation marks do.
    """

    text: tuple[str, ...] = ("text",)
    pair: str | None = None
    label: str | None = "label"
    labels: tuple[str, ...] = ()
    split: str | None = "split"
    names: tuple[str, ...] = ()
    quoting: Quoting = "auto"

    @classmethod
    def of(cls, settings: TableSettings, pair: str | None = None) -> "Columns":
        """The columns that the settings of a job name.

        Examples:
            >>> Columns.of(TableSettings(text_column="title,text", split_column="none"))
            Columns(text=('title', 'text'), pair=None, label='label', labels=(), split=None, names=(), quoting='auto')
        """
        split = settings.split_column
        return cls(
            text=column_names(settings.text_column, "--text-column"),
            pair=pair,
            label=settings.label_column,
            labels=column_names(settings.label_columns, "--label-columns"),
            split=None if split == NO_SPLITS else split,
            names=column_names(settings.columns, "--columns", may_be_unnamed=True),
            quoting=settings.quoting,
        )

    @property
    def texts(self) -> list[tuple[str, str]]:
        """The columns of texts, each with the flag that names it."""
        pair = [] if self.pair is None else [(self.pair, "--pair-column")]
        return [(name, "--text-column") for name in self.text] + pair

    @property
    def joined(self) -> tuple[str, ...]:
        """The columns that are read as one text; empty where the text is in a single column."""
        return self.text if len(self.text) > 1 else ()

    @property
    def file_layout(self) -> tuple[object, ...]:
        """What distinguishes the reading of a file from that of one with a header and the usual quotation marks."""
        layout = (self.names, self.quoting, self.labels)
        return () if layout == ((), "auto", ()) else layout


def column_names(value: str | None, flag: str, may_be_unnamed: bool = False) -> tuple[str, ...]:
    """The names in a setting, which has commas between them; `flag` is that of the setting, for errors.

    Raises:
        InputError: a name is empty or given twice.

    Examples:
        >>> column_names("title, text", "--text-column")
        ('title', 'text')
    """
    if value is None:
        return ()
    names = tuple(name.strip() for name in value.split(","))
    if not all(names) and not may_be_unnamed:
        raise InputError(f"{flag} {value!r} has an empty name: give names of columns with commas between them")
    named = [name for name in names if name]
    if len(set(named)) < len(named):
        raise InputError(f"{flag} {value!r} names a column twice: name each once")
    return names
