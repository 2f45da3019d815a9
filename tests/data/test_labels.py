"""Labels: numbers are equal as numbers, missing ones are not classes, and rows of 0 and 1 are never names."""

import json

import numpy as np
import pytest

from jaxft.data.columns import Columns
from jaxft.data.corpus import open_corpus
from jaxft.data.examples import read_examples
from jaxft.data.labels import MISSING
from jaxft.data.memory import Table
from jaxft.errors import InputError
from tests.data.corpus_files import documents, write


def json_lines(path, labels):
    return write(path, "".join(json.dumps({"text": f"text {i}", "label": y}) + "\n" for i, y in enumerate(labels)))


def csv_rows(path, labels):
    return write(path, "text,label\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(labels)))


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_numbers_are_equal_as_numbers(tmp_path, task):
    assert read_examples(str(json_lines(tmp_path / "a.jsonl", [0, 0.0, 1, 1.0, "1"])), task).classes == ("0", "1")
    assert read_examples(str(csv_rows(tmp_path / "a.csv", ["0", "0.0", "1", "1.00"])), task).classes == ("0", "1")
    assert read_examples(str(csv_rows(tmp_path / "b.csv", ["01", "1", "1.5"])), task).classes == ("1", "01", "1.5")


@pytest.mark.parametrize("spelling", MISSING)
def test_a_spelling_of_a_missing_value_is_no_class_and_is_told(tmp_path, spelling):
    path = str(csv_rows(tmp_path / "a.csv", ["pos", "neg", spelling, "pos"]))
    corpus = open_corpus(path)
    assert [d.split == "unlabelled" for d in corpus.documents()] == [False, False, True, False]
    assert corpus.notes() == [f"{path}: 'label' holds 1 {spelling}, which count as no label"]
    examples = read_examples(path, "classification")
    assert (examples.classes, len(examples.texts), len(examples.notes)) == (("neg", "pos"), 3, 1)


def test_a_number_that_is_missing_is_left_out(tmp_path):
    path = write(
        tmp_path / "a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": NaN}\n{"text": "c", "label": 2}\n'
    )
    assert read_examples(str(path), "regression").targets.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_an_infinite_number_is_no_label(tmp_path, task):
    path = json_lines(tmp_path / "a.jsonl", [1, 2, float("inf")])
    with pytest.raises(InputError, match=r"a\.jsonl, line 3 has inf in 'label': give "):
        read_examples(str(path), task)
    table = Table({"text": ["a", "b", "c"], "label": [1.0, 2.0, -np.inf]})
    with pytest.raises(InputError, match=r"has -inf in 'label': give "):
        read_examples(table, task)


@pytest.mark.parametrize("row", [[0.0, 1.0, 1.0], [1, 0, 0], [0.0, 1.0], [True, False]])
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_rows_of_0_and_1_are_no_labels(tmp_path, task, row):
    path = json_lines(tmp_path / "a.jsonl", [row, row[::-1]])
    with pytest.raises(InputError, match=r"a\.jsonl, line 1 has \["):
        read_examples(str(path), task)


@pytest.mark.parametrize("cell", ["[0, 1]", "['a', 'b']", '[""a"", ""b""]', "[]"])
@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_a_list_that_is_written_as_text_is_no_label(tmp_path, task, cell):
    path = csv_rows(tmp_path / "a.csv", [f'"{cell}"', "a"])
    with pytest.raises(InputError, match=r"a\.csv, row 2 has .*: give"):
        read_examples(str(path), task)


def test_the_numbers_of_two_labels_are_labels(tmp_path):
    path = json_lines(tmp_path / "a.jsonl", [[0, 1], [2], [1, 2]])
    assert read_examples(str(path), "multilabel").classes == ("0", "1", "2")
    with pytest.raises(InputError, match="has all labels in every training row"):
        read_examples(str(json_lines(tmp_path / "b.jsonl", [[0, 1], [1, 0]])), "multilabel")


def test_columns_of_0_and_1_are_labels(tmp_path):
    path = write(tmp_path / "a.csv", "text,rude,late\none,1,1\ntwo,0,1.0\nthree,False,0\n")
    columns = Columns(labels=("rude", "late"))
    examples = read_examples(str(path), "multilabel", columns)
    assert examples.classes == ("late", "rude")
    assert examples.targets.tolist() == [[1, 1], [1, 0], [0, 0]]
    with pytest.raises(InputError, match=r"row 2 has \['late', 'rude'\] in 'rude, late': give one label"):
        read_examples(str(path), "classification", columns)
    with pytest.raises(InputError, match="has no column 'early', only 'text', 'rude', 'late': name the right one with"):
        read_examples(str(path), "multilabel", Columns(labels=("early",)))
    with pytest.raises(InputError, match="row 2 has '2' in 'rude', which --label-columns names: give 0 or 1"):
        read_examples(str(write(tmp_path / "b.csv", "text,rude\none,2\n")), "multilabel", Columns(labels=("rude",)))


def test_one_column_of_1_in_each_row_is_a_class(tmp_path):
    path = write(tmp_path / "a.csv", "text,pos,neg\none,1,0\ntwo,0,1\n")
    columns = {"label_columns": "pos,neg"}
    assert [document.label for document in documents(path, **columns)] == ["pos", "neg"]
