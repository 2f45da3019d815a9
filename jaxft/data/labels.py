"""Labels of a table's cells: a class, a number, or a set of labels; and which spellings say that there is none."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxft.data.document import Task
from jaxft.data.files import refuse_surrogates
from jaxft.errors import InputError

MAX_NUMBER = 1e18
"""the square of a larger number does not fit into float32"""
SEPARATOR = "|"
"""separates the labels of an example of a multi-label task"""
MISSING = ("nan", "NaN", "NAN", "None", "null", "NULL", "NA", "N/A", "n/a", "<NA>", "#N/A")
"""spellings of a missing value that pandas, R, SQL and spreadsheets write"""
WHOLE_NUMBER = re.compile(r"([+-]?(?:0|[1-9]\d*))\.0+")
LIST_AS_TEXT = re.compile(r"\[\s*(?:[\d'\"].*)?\]", re.DOTALL)
SET_FORMS = (
    f"labels with {SEPARATOR} between them, a list of their names in JSON lines, or a column of 0 and 1 for each "
    "with --label-columns"
)
"""the ways to write a set of labels"""
ROW_OF_0_AND_1 = re.compile(r"[01](?:\.0)?(?:[ ,;]+[01](?:\.0)?)+")
ON_OFF = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def class_label(value: Any, column: str, where: str, remedy: str = "give one label per row") -> str | None:
    """The class in a cell; None if the cell is empty or says that the value is missing.

    Whole numbers are equal as numbers, so that 1, 1.0 and "1.0" are one class.

    Raises:
        InputError: the cell holds a list or an object, a list written as text, or a number that is infinite; the
            sentence ends with `remedy`.

    Examples:
        >>> [class_label(value, "label", "row 2") for value in (1, 1.0, "1.0", " pos ", "NaN", None)]
        ['1', '1', '1', 'pos', None, None]
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps holds floats
    label = "" if is_missing(value) else str(value).strip()
    is_infinite = isinstance(value, float) and math.isinf(value)
    if isinstance(value, dict | list) or is_infinite or LIST_AS_TEXT.fullmatch(label):
        raise InputError(f"{where} has {value!r} in {column!r}: {remedy}")
    refuse_surrogates(label, f"{where}, column {column!r}")
    whole = WHOLE_NUMBER.fullmatch(label)
    return (whole[1] if whole else label) or None


def is_missing(value: Any) -> bool:
    """Whether a cell is empty or holds a spelling of a missing value.

    Examples:
        >>> is_missing(float("nan")), is_missing("NA"), is_missing("none")
        (True, True, False)
    """
    if isinstance(value, str):
        return value.strip() in ("", *MISSING)
    return value is None or (isinstance(value, float) and math.isnan(value))


def read_class(value: Any, column: str, where: str) -> str | None:
    """The class in a cell, for a task with one label per row; see `class_label`."""
    return class_label(value, column, where, f"give one label, or for --task multilabel {SET_FORMS}")


def read_number(value: Any, column: str, where: str) -> float | None:
    """The number in a cell; None if the cell is empty or says that the value is missing.

    Raises:
        InputError: the cell holds something else, or a number of more than 18 digits.
    """
    cell = class_label(value, column, where, "give one number per row")
    if cell is None:
        return None
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not abs(number) < MAX_NUMBER:
        raise InputError(
            f"{where} has {cell!r} in {column!r}, which is not a number: correct it, or give --task classification"
        )
    return number


def read_label_set(value: Any, column: str, where: str) -> list[str]:
    """The labels in a cell, sorted: separated by `|`, or in a list.

    Raises:
        InputError: the cell holds a list of 0 and 1 in place of names, or a list written as text.

    Examples:
        >>> read_label_set("rude|late", "labels", "row 2"), read_label_set(["late"], "labels", "row 3")
        (['late', 'rude'], ['late'])
    """
    if isinstance(value, list):
        if _is_row_of_0_and_1(value):
            raise InputError(f"{where} has {value} in {column!r}, a row of 0 and 1: give {SET_FORMS}")
        labels = value
    else:
        cell = value.split(SEPARATOR) if isinstance(value, str) else [value]
        labels = [] if is_missing(value) else cell
        if ROW_OF_0_AND_1.fullmatch(str(value).strip()) or _is_row_of_0_and_1(labels):
            raise InputError(f"{where} has {value!r} in {column!r}, a row of 0 and 1: give {SET_FORMS}")
    names = {class_label(label, column, where, f"give {SET_FORMS}") for label in labels}
    return sorted(name for name in names if name is not None)


def read_indicators(fields: Mapping[str, Any], columns: Sequence[str], where: str) -> list[str] | None:
    """The labels whose columns hold 1; None if all columns are empty.

    Args:
        fields: a row.
        columns: the column of each label, which holds 0 or 1.
        where: the place of the row, for errors.

    Raises:
        InputError: a column holds neither 0 nor 1.

    Examples:
        >>> read_indicators({"rude": "0", "late": "1"}, ("rude", "late"), "row 2")
        ['late']
    """
    values = [fields[column] for column in columns]
    if all(map(is_missing, values)):
        return None
    labels = []
    for column, value in zip(columns, values, strict=True):
        is_on = ON_OFF.get(str(value).strip().lower())
        if is_on is None:
            raise InputError(f"{where} has {value!r} in {column!r}, which --label-columns names: give 0 or 1")
        if is_on:
            labels.append(column)
    return sorted(labels)


def _is_row_of_0_and_1(values: Sequence[Any]) -> bool:
    """Whether a list holds 0 and 1 for all labels; whole numbers that differ may be the numbers of two labels."""
    names = [str(value).strip() for value in values]
    if len(values) < 2 or not set(names) <= {"0", "1", "0.0", "1.0", "True", "False"}:
        return False
    return len(set(names)) < len(names) or not set(names) <= {"0", "1"}


LABEL_READERS: dict[Task, Callable[[Any, str, str], Any]] = {
    "classification": read_class,
    "regression": read_number,
    "multilabel": read_label_set,
}
