"""Splits, folds and samples hold equal shares of every label, and equal texts are never on both sides."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.data.carving import (
    carve,
    sample_with_folds,
    strata,
    stratified_folds,
    stratified_sample,
    whole_groups,
)
from jaxft.data.document import DEV, TEST, TRAIN
from jaxft.data.examples import Examples, read_examples
from jaxft.data.overview import missing_classes
from jaxft.errors import InputError

DEV_OF_60 = [3, 5, 26, 49, 53]
TEST_OF_60 = [0, 1, 2, 6, 9, 10, 18, 29, 38, 42, 46, 58]
"""what seed 0 draws of 60 different texts"""


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def examples(texts, labels, splits=None):
    """Examples of classes, with all rows in train by default."""
    classes, targets = np.unique(labels, return_inverse=True)
    texts = tuple(text if isinstance(text, tuple) else (text,) for text in texts)
    splits = np.full(len(texts), TRAIN, np.int8) if splits is None else np.array(splits, np.int8)
    return Examples("made", "0", texts, targets.astype(np.int32), tuple(map(str, classes)), splits)


def texts_of(examples, split):
    return {examples.texts[i] for i in examples.of(split)}


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


def test_numbers_are_stratified_by_bins():
    groups = strata(np.linspace(0, 1, 100, dtype=np.float32))
    assert np.bincount(groups).tolist() == [10] * 10


def test_without_equal_texts_the_draws_are_those_of_one_text_at_a_time():
    labels = np.arange(60, dtype=np.int32) % 7 % 3
    for seed in range(3):
        first, second = np.random.default_rng(seed), np.random.default_rng(seed)
        keys = np.random.default_rng(9).permutation(60)
        np.testing.assert_array_equal(
            stratified_sample(labels, 13, first), stratified_sample(labels, 13, second, keys=keys)
        )
        np.testing.assert_array_equal(stratified_folds(labels, 4, first), stratified_folds(labels, 4, second, keys))
    whole = carve(examples([f"text {i}" for i in range(60)], labels), dev=0.1, test=0.2, limit=None, seed=0)
    assert whole.of(DEV).tolist() == DEV_OF_60
    assert whole.of(TEST).tolist() == TEST_OF_60


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=8, max_size=60), st.integers(0, 5))
def test_equal_texts_share_a_split_and_a_fold_whatever_their_labels(rows, seed):
    texts, labels = zip(*rows, strict=True)
    made = examples([f"text {i}" for i in texts], [0, 1, *labels[2:]])
    rng = np.random.default_rng(seed)
    folds = stratified_folds(made.targets, 3, rng, made.keys)
    drawn = stratified_sample(made.targets, 5, rng, keys=made.keys)
    assert drawn.any()
    for sides in (folds, drawn):
        assert len({(text, side) for text, side in zip(texts, sides.tolist(), strict=True)}) == len(set(texts))
    try:
        whole = carve(made, dev=0.2, test=0.2, limit=None, seed=seed)
    except InputError:  # too few different texts
        return
    parts = [texts_of(whole, split) for split in (TRAIN, DEV, TEST)]
    assert sum(map(len, parts)) == len(set(texts))
    assert set(whole.targets[whole.of(TRAIN)]) == set(made.targets)


@pytest.mark.parametrize(("copies", "dev", "test"), [(2, (2, 8), (6, 16)), (3, (3, 9), (6, 16)), (4, (4, 8), (8, 16))])
def test_texts_in_several_copies_fill_about_the_share_of_a_split(copies, dev, test):
    count = 60 // copies
    made = examples([f"text {i % count}" for i in range(60)], [i % count % 2 for i in range(60)])
    for seed in range(4):
        whole = carve(made, dev=0.1, test=0.2, limit=None, seed=seed)
        assert not texts_of(whole, TRAIN) & (texts_of(whole, DEV) | texts_of(whole, TEST))
        assert dev[0] <= len(whole.of(DEV)) <= dev[1]
        assert test[0] <= len(whole.of(TEST)) <= test[1]
        assert set(whole.targets[whole.of(TEST)]) == {0, 1}


def test_chance_decides_which_of_the_texts_in_copies_are_drawn():
    made = examples([f"text {i % 12}" for i in range(60)], [i % 6 for i in range(60)])
    seen = {frozenset(texts_of(carve(made, dev=0.1, test=0.0, limit=None, seed=seed), DEV)) for seed in range(12)}
    assert len(seen) > 4


def test_a_text_that_makes_half_of_the_rows_stays_in_train():
    made = examples(["spam"] * 50 + [f"text {i}" for i in range(50)], ["a"] * 50 + ["a", "b"] * 25)
    for seed in range(4):
        whole = carve(made, dev=0.1, test=0.2, limit=None, seed=seed)
        assert ("spam",) in texts_of(whole, TRAIN)
        assert 15 <= len(whole.of(TEST)) <= 25


def test_pairs_are_equal_where_both_texts_are():
    made = examples([("a man", f"text {i // 2}") for i in range(40)], [i // 2 % 2 for i in range(40)])
    whole = carve(made, dev=0.0, test=0.2, limit=None, seed=0)
    assert not texts_of(whole, TRAIN) & texts_of(whole, TEST)
    assert len(whole.of(TEST)) == 8


def test_equal_texts_in_splits_of_the_data_stay_where_they_are():
    made = examples(["same", "same", "a", "b", "c", "d"], list("ababab"), [TRAIN, TEST, TRAIN, TRAIN, TRAIN, TRAIN])
    assert carve(made, dev=0.2, test=0.2, limit=None, seed=0).of(TEST).tolist() == [1]


def test_equal_texts_alone_cannot_be_split():
    numbers = Examples("made", "0", (("same",),) * 4, np.arange(4.0), (), np.full(4, TRAIN, np.int8))
    with pytest.raises(InputError, match=r"4 training rows \(1 without their copies\) are too few to hold 1 out"):
        carve(numbers, dev=0.0, test=0.2, limit=None, seed=0)


def test_a_limit_of_rows_is_kept_with_equal_texts():
    made = examples([f"text {i % 20}" for i in range(60)], [i % 2 for i in range(60)])
    few = carve(made, dev=0.2, test=0.0, limit=30, seed=0)
    assert len(few.texts) == 30
    assert not texts_of(few, TRAIN) & texts_of(few, DEV)


def test_a_limit_below_the_number_of_classes_is_refused_by_its_flag():
    made = examples([f"text {i}" for i in range(60)], [i % 3 for i in range(60)])
    with pytest.raises(InputError, match="--limit-labels 2 is too few for a row of each label: give at least 3"):
        carve(made, dev=0.0, test=0.2, limit=2, seed=0)
    assert sorted(carve(made, dev=0.0, test=0.2, limit=3, seed=0).splits.tolist()) == [TRAIN] * 3 + [TEST] * 12


def test_a_dev_split_of_many_classes_takes_its_share_and_not_a_text_of_each():
    made = examples([f"text {i}" for i in range(3000)], [i % 1000 for i in range(3000)])
    whole = carve(made, dev=0.1, test=0.2, limit=None, seed=0)
    assert [len(whole.of(split)) for split in (TRAIN, DEV, TEST)] == [2160, 240, 600]
    assert len(set(whole.targets[whole.of(TRAIN)])) == 1000
    (line,) = missing_classes("dev", whole.targets[whole.of(DEV)], whole.classes)
    assert "others: they do not count when weights are chosen" in line


def test_the_folds_of_a_sample_keep_equal_texts_together_but_for_one_text_alone():
    targets = np.array([0, 0, 1, 1, 0, 1], np.int32)
    _, folds = sample_with_folds(targets, most=9, folds=5, seed=0, keys=np.array([7, 7, 8, 8, 7, 8]))
    assert len(set(folds[[0, 1, 4]])) == len(set(folds[[2, 3, 5]])) == 1
    assert len(set(folds)) == 2
    _, folds = sample_with_folds(targets, most=9, folds=2, seed=0, keys=np.zeros(6, np.int64))
    assert len(set(folds)) == 2


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 12))
def test_whole_groups_are_taken_up_to_the_count(groups, count):
    taken = whole_groups(np.array(groups, np.int64), count)
    assert taken.sum() <= count
    assert not set(np.array(groups)[taken]) & set(np.array(groups)[~taken])


@pytest.mark.realdata
def test_the_reviews_in_three_copies_are_on_one_side(cases):
    made = read_examples(str(cases / "text/dup_leak.csv"), "classification")
    whole = carve(made, dev=0.1, test=0.2, limit=None, seed=0)
    assert not texts_of(whole, TRAIN) & (texts_of(whole, DEV) | texts_of(whole, TEST))
