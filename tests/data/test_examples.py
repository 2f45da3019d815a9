"""Examples are read and divided as their labels say, and bad rows are refused by file and row."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxft.data.columns import Columns
from jaxft.data.document import DEV, TEST, TRAIN
from jaxft.data.examples import read_examples
from jaxft.errors import InputError


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_classes_numbers_and_sets_of_labels(tmp_path):
    table = write(tmp_path / "a.csv", "text,label,split", "one,10,train", "two,9,train", "three,9,valid", "x,10,test")
    examples = read_examples(table, "classification")
    assert examples.classes == ("9", "10")  # by value
    assert examples.targets.tolist() == [1, 0, 0, 1]
    assert examples.splits.tolist() == [TRAIN, TRAIN, DEV, TEST]
    numbers = read_examples(table, "regression")
    assert numbers.targets.dtype == np.float64
    assert numbers.targets.tolist() == [10, 9, 9, 10]
    sets = read_examples(write(tmp_path / "b.csv", "text,label", "one,a|b", "two,", "three, b "), "multilabel")
    assert sets.classes == ("a", "b")
    assert sets.targets.tolist() == [[1, 1], [0, 0], [0, 1]]
    lines = [json.dumps({"text": "one", "label": ["b", "a"]}), json.dumps({"text": "two", "label": []})]
    assert read_examples(write(tmp_path / "c.jsonl", *lines), "multilabel").targets.tolist() == [[1, 1], [0, 0]]


def test_pairs_other_columns_and_unlabelled_rows(tmp_path):
    lines = ["q,a,y,part", "one,two,1,train", "three,four,0,train", "five,six,,unlabelled"]
    columns = Columns(text=("q",), pair="a", label="y", split="part")
    examples = read_examples(write(tmp_path / "a.csv", *lines), "classification", columns)
    assert examples.texts == (("one", "two"), ("three", "four"))


def test_the_generated_corpus_is_read_for_classification():
    examples = read_examples("demo", "classification")
    assert len(examples.of(TRAIN)) == 100
    assert len(examples.of(TEST)) == 1000


@pytest.mark.parametrize(
    ("lines", "task", "message"),
    [
        (["text,label", "one,1", "two,x"], "regression", r"a\.csv, row 3 has 'x' in 'label', which is not a number"),
        (["text,label", "one,1", "two,inf"], "regression", "which is not a number"),
        (["text,label", "one,1", "two,1"], "regression", "the same number in every training row"),
        (["text,label", "one,1", "two,1"], "classification", "fewer than two classes"),
        (["text,label,split", "one,1,train", "two,2,train", "x,3,test"], "classification", "no training row has"),
        (["text,label,split", "one,1,train", "two,,train"], "classification", "row 3 is a train row without a label"),
        (["text,label,split", "one,1,tryout"], "classification", "unknown split 'tryout'"),
        (["text,label", "one,"], "classification", "no training rows"),
        (["text,other", "one,1"], "classification", "--label-column"),
        (["text,label", "one,1e39", "two,1"], "regression", "which is not a number"),
        (["other,label", "one,1"], "classification", "--text-column"),
    ],
)
def test_bad_rows_are_refused(tmp_path, lines, task, message):
    with pytest.raises(InputError, match=message):
        read_examples(write(tmp_path / "a.csv", *lines), task)


def test_what_is_no_table_holds_classes_only():
    with pytest.raises(InputError, match="--task regression"):
        read_examples("demo", "regression")


def test_a_split_column_that_begins_late_is_refused(tmp_path):
    lines = [json.dumps({"text": "a", "label": "1"}), json.dumps({"text": "b", "label": "2", "split": "test"})]
    with pytest.raises(InputError, match=r"line 2 is the first row with 'split'"):
        read_examples(write(tmp_path / "a.jsonl", *lines), "classification")


def test_large_numbers_keep_their_differences(tmp_path):
    numbers = read_examples(write(tmp_path / "a.csv", "text,label", "one,1600000001", "two,1600000002"), "regression")
    assert np.diff(numbers.targets).tolist() == [1.0]


@pytest.mark.realdata
def test_the_real_commonlit_table(real_data):
    columns = Columns(text=("excerpt",), label="target")
    examples = read_examples(str(real_data / "commonlit/train.csv"), "regression", columns)
    assert len(examples.texts) == 2834
    assert -3.7 < examples.targets.min() < examples.targets.max() < 1.8
