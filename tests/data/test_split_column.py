"""Splits of tables: documents and examples accept the same names and refuse the same rows."""

import json

import pytest

from jaxft.data.columns import Columns
from jaxft.data.document import SPLIT_NAMES, SPLITS, Document
from jaxft.data.examples import read_examples
from jaxft.data.table import read_table
from jaxft.errors import InputError

ROWS = [("One.", "a"), ("Two.", "b"), ("Three.", "a"), ("Four.", "b")]


def documents(path) -> list[Document]:
    return list(read_table(path, Columns()))


def examples(path) -> list[Document]:
    table = read_examples(str(path), "classification")
    rows = zip(table.texts, table.targets, table.splits, strict=True)
    return [Document(text[0], table.classes[target], SPLITS[split]) for text, target, split in rows]


def write(path, splits):
    rows = [{"text": text, "label": label} for text, label in ROWS]
    for row, split in zip(rows, splits, strict=True):
        if split is not None:
            row["split"] = split
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


READERS = [documents, examples]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", [name for name, split in SPLIT_NAMES.items() if split == "test"])
def test_a_row_goes_into_the_split_that_it_names(read, name, tmp_path):
    rows = read(write(tmp_path / "rows.jsonl", ["train", " Train ", name.upper(), name]))
    assert [row.split for row in rows] == ["train", "train", "test", "test"]


@pytest.mark.parametrize("name", [name for name, split in SPLIT_NAMES.items() if split == "dev"])
def test_fine_tuning_reads_every_name_of_the_dev_split(name, tmp_path):
    rows = examples(write(tmp_path / "rows.jsonl", ["train", "train", name, "test"]))
    assert [row.split for row in rows] == ["train", "train", "dev", "test"]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", [name for name, split in SPLIT_NAMES.items() if split == "unlabelled"])
def test_labels_of_unlabelled_rows_are_not_used(read, name, tmp_path):
    rows = read(write(tmp_path / "rows.jsonl", ["train", "train", name, "test"]))
    assert "Three." not in {row.text for row in rows if row.label is not None}


@pytest.mark.parametrize("read", READERS)
def test_a_split_that_only_later_rows_name_is_refused(read, tmp_path):
    with pytest.raises(InputError, match=r"rows.jsonl, line 3 is the first row with 'split': give it in all rows"):
        read(write(tmp_path / "rows.jsonl", [None, None, "test", "test"]))
    with pytest.raises(InputError, match=r"rows.jsonl, line 3 has no column 'split'.*--split-column"):
        read(write(tmp_path / "rows.jsonl", ["train", "train", None, "test"]))


@pytest.mark.parametrize("read", READERS)
def test_an_unknown_split_is_refused_by_its_row(read, tmp_path):
    with pytest.raises(
        InputError, match=r"rows.jsonl, line 4 has the unknown split 'tryout' in 'split': use train, .*or unlabelled"
    ):
        read(write(tmp_path / "rows.jsonl", ["train", "train", "test", "tryout"]))
