"""Examples are read and divided as their labels say, and bad rows are refused by file and row."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.columns import Columns
from jaxft.data.document import DEV, TEST, TRAIN
from jaxft.data.examples import carve, read_examples, strata, stratified_folds, stratified_sample
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


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 7), st.integers(0, 9))
def test_folds_and_samples_hold_equal_shares_of_every_stratum(groups, count, seed):
    own, rng = np.array(groups), np.random.default_rng(seed)
    folds = stratified_folds(own, count, rng)
    size = min(count, len(own))
    drawn = stratified_sample(own, size, rng)
    assert drawn.sum() == size
    for group in set(groups):
        shares = np.bincount(folds[own == group], minlength=count)
        assert shares.max() - shares.min() <= 1
        plain = stratified_sample(own, size, rng, at_least_one=False)
        assert abs(plain[own == group].sum() - size * (own == group).mean()) < 1 + 1e-9
        assert drawn[own == group].any() or size < len(set(groups))


def test_missing_splits_are_carved_once_and_given_ones_stay(tmp_path):
    lines = [f"text {i},{i % 3}" for i in range(90)]
    examples = read_examples(write(tmp_path / "a.csv", "text,label", *lines), "classification")
    whole = carve(examples, dev=0.1, test=0.2, limit=None, seed=0)
    assert [len(whole.of(split)) for split in (TRAIN, DEV, TEST)] == [65, 7, 18]
    again = carve(examples, dev=0.1, test=0.2, limit=None, seed=0)
    np.testing.assert_array_equal(whole.splits, again.splits)
    assert not np.array_equal(whole.splits, carve(examples, dev=0.1, test=0.2, limit=None, seed=1).splits)
    few = carve(examples, dev=0.1, test=0.0, limit=30, seed=0)
    assert (len(few.texts), len(few.of(DEV))) == (30, 3)
    assert np.bincount(few.targets).tolist() == [10, 10, 10]
    given = carve(whole, dev=0.5, test=0.5, limit=None, seed=3)
    np.testing.assert_array_equal(given.splits, whole.splits)


def test_no_class_or_label_leaves_train(tmp_path):
    lines = [f"x {i},a" for i in range(20)] + [f"y {i},b" for i in range(20)] + ["z,c"]
    for seed in range(4):
        examples = read_examples(write(tmp_path / "a.csv", "text,label", *lines), "classification")
        whole = carve(examples, dev=0.1, test=0.2, limit=None, seed=seed)
        assert set(whole.targets[whole.of(TRAIN)]) == {0, 1, 2}
        sets = read_examples(write(tmp_path / "b.csv", "text,label", *lines, "w,a|b"), "multilabel")
        assert carve(sets, dev=0.1, test=0.2, limit=10, seed=seed).targets[:, 2].sum() == 1


def test_chance_decides_which_strata_a_small_sample_has():
    strata_of_8 = np.arange(77).repeat(8)
    seen = [strata_of_8[stratified_sample(strata_of_8, 50, np.random.default_rng(seed))] for seed in range(12)]
    assert all(len(set(groups)) == 50 for groups in seen)
    assert len(set(np.concatenate(seen).tolist())) == 77


def test_every_class_of_two_texts_is_in_train_and_test(tmp_path):
    lines = [f"x {i},big" for i in range(60)] + ["y 1,rare", "y 2,rare", "z 1,once"]
    for seed in range(4):
        examples = read_examples(write(tmp_path / "a.csv", "text,label", *lines), "classification")
        whole = carve(examples, dev=0.0, test=0.1, limit=None, seed=seed)
        parts = {split: [examples.classes[i] for i in whole.targets[whole.of(split)]] for split in (TRAIN, TEST)}
        assert set(parts[TRAIN]) == {"big", "rare", "once"}
        assert set(parts[TEST]) == {"big", "rare"}
        assert len(parts[TEST]) == 6


def test_a_split_column_that_begins_late_is_refused(tmp_path):
    lines = [json.dumps({"text": "a", "label": "1"}), json.dumps({"text": "b", "label": "2", "split": "test"})]
    with pytest.raises(InputError, match=r"line 2 is the first row with 'split'"):
        read_examples(write(tmp_path / "a.jsonl", *lines), "classification")


def test_large_numbers_keep_their_differences(tmp_path):
    numbers = read_examples(write(tmp_path / "a.csv", "text,label", "one,1600000001", "two,1600000002"), "regression")
    assert np.diff(numbers.targets).tolist() == [1.0]


def test_numbers_are_stratified_by_bins():
    groups = strata(np.linspace(0, 1, 100, dtype=np.float32))
    assert np.bincount(groups).tolist() == [10] * 10


@pytest.mark.realdata
def test_the_real_commonlit_table(real_data):
    columns = Columns(text=("excerpt",), label="target")
    examples = read_examples(str(real_data / "commonlit/train.csv"), "regression", columns)
    assert len(examples.texts) == 2834
    assert -3.7 < examples.targets.min() < examples.targets.max() < 1.8
