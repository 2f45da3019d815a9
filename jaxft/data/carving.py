"""Draws of examples for dev and test splits, folds and smaller samples, stratified by label.

Equal texts are drawn together, so that no text is on both sides of a split. `N` is the number of examples, and a key is
a text's `duplicates.text_key`.
"""

from dataclasses import replace
from itertools import compress

import numpy as np

from jaxft.data.document import DEV, TEST, TRAIN
from jaxft.data.examples import Examples
from jaxft.errors import InputError


def strata(targets: np.ndarray, bins: int = 10) -> np.ndarray:
    """The stratum of each example, (N,) int: its class, its set of labels, or the bin of its number.

    Examples:
        >>> strata(np.array([0.1, 5.0, 0.2, 4.0], np.float32), bins=2).tolist()
        [0, 1, 0, 1]
    """
    if targets.dtype == np.int32:
        return targets
    if targets.ndim == 2:
        return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    edges = np.quantile(targets, np.arange(1, bins) / bins)
    return np.searchsorted(edges, targets, side="right")


def stratified_folds(
    strata: np.ndarray, count: int, rng: np.random.Generator, keys: np.ndarray | None = None
) -> np.ndarray:
    """The fold of each example, (N,) int; the shares of a stratum in the folds differ by one different text at most.

    Args:
        strata: (N,) int.
        count: number of folds.
        rng: source of chance.
        keys: (N,) int, equal for examples that share a fold; None where all are different.

    Examples:
        >>> folds = stratified_folds(np.array([0, 0, 0, 0, 1, 1]), 2, np.random.default_rng(0))
        >>> sorted(folds[:4].tolist()), sorted(folds[4:].tolist())
        ([0, 0, 1, 1], [0, 1])
    """
    if keys is not None and has_repeats(keys):
        _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
        return stratified_folds(strata[first], count, rng)[groups]
    folds = np.empty(len(strata), np.int64)
    folds[_by_stratum(strata, rng)] = np.arange(len(strata)) % count
    return folds


def stratified_sample(
    strata: np.ndarray,
    count: int,
    rng: np.random.Generator,
    at_least_one: bool = True,
    keys: np.ndarray | None = None,
) -> np.ndarray:
    """Draws `count` examples, (N,) bool, with an equal share of every stratum up to one example.

    Of examples with the same key all are drawn or none, so that a few more or fewer than `count` are drawn.

    Args:
        strata: (N,) int.
        count: how many to draw.
        rng: source of chance.
        at_least_one: draw one of every stratum, where `count` is large enough for all.
        keys: (N,) int, equal for examples that are drawn together; None where all are different.

    Examples:
        >>> drawn = stratified_sample(np.array([0, 0, 0, 0, 0, 1]), 3, np.random.default_rng(0))
        >>> int(drawn[:5].sum()), int(drawn[5:].sum())
        (2, 1)
    """
    groups = None
    if keys is not None and has_repeats(keys):  # examples with the same key are of one stratum
        _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
        strata = strata[first][groups]
    numbers, sizes = np.unique(strata, return_inverse=True, return_counts=True)[1:]
    counts, order = np.empty_like(sizes), rng.permutation(len(sizes))
    counts[order] = np.diff(np.cumsum(sizes[order]) * count // len(strata), prepend=0)
    while at_least_one and count >= len(sizes) and not counts.all():
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    order = _by_stratum(strata, rng)
    if groups is not None:
        return _in_whole_groups(groups, numbers, counts, order, rng)
    rank = np.empty(len(strata), np.int64)  # of each example in its stratum, at random
    rank[order] = np.concatenate([np.arange(size) for size in sizes])
    return rank < counts[numbers]


def _in_whole_groups(
    groups: np.ndarray, strata: np.ndarray, counts: np.ndarray, order: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws about `counts[s]` examples of each stratum s, (N,) bool, in whole groups.

    A stratum all of whose groups are larger than its share gets the smallest, until enough are drawn of all together.

    Args:
        groups: (N,) int, the group of each example; those of a group are of one stratum.
        strata: (N,) int, from 0.
        counts: (S,) int.
        order: the indices of the examples, stratum by stratum, in random order within each.
        rng: source of chance.
    """
    drawn, smallest = np.zeros(len(groups), bool), []
    for members, count in zip(np.split(order, np.cumsum(np.bincount(strata))[:-1]), counts.tolist(), strict=True):
        drawn[members] = whole_groups(groups[members], count)
        if count and not drawn[members].any():
            _, numbers, sizes = np.unique(groups[members], return_inverse=True, return_counts=True)
            smallest.append(members[numbers == numbers[sizes[numbers].argmin()]])
    wanted = counts.sum()
    for group in sorted((smallest[i] for i in rng.permutation(len(smallest))), key=len):
        if drawn.sum() < wanted and (len(group) <= wanted or not drawn.any()):
            drawn[group] = True
    return drawn


def whole_groups(groups: np.ndarray, count: int) -> np.ndarray:
    """Takes the first `count` of N examples, (N,) bool, but for groups that are larger than what is left.

    Args:
        groups: (N,) int, equal for examples of which all are taken or none.
        count: how many to take.

    Examples:
        >>> whole_groups(np.array([5, 5, 5, 6, 7]), 2).tolist(), whole_groups(np.arange(4), 2).tolist()
        ([False, False, False, True, True], [True, True, False, False])
    """
    _, first, numbers, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    taken = np.zeros(len(sizes), bool)
    left = count
    for group in np.argsort(first).tolist():
        if sizes[group] <= left:
            taken[group] = True
            left -= int(sizes[group])
        if not left:
            break
    return taken[numbers]


def held_out(keys: np.ndarray, count: int) -> np.ndarray:
    """Takes about the first `count` of N examples, (N,) bool; equal ones together, unless all are equal.

    Examples:
        >>> held_out(np.array([7, 7, 8, 9]), 1).tolist(), held_out(np.array([7, 7, 7]), 1).tolist()
        ([False, False, True, False], [True, False, False])
    """
    names, groups, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    if len(names) in (1, len(keys)):
        return np.arange(len(keys)) < count
    return whole_groups(groups, max(count, int(sizes.min())))


def has_repeats(keys: np.ndarray) -> bool:
    """Whether a key occurs more than once."""
    return len(np.unique(keys)) < len(keys)


def sample_with_folds(
    targets: np.ndarray, most: int, folds: int, seed: int, keys: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws at most `most` examples, and divides them for a cross-validation; both stratified.

    Returns:
        The indices of the S examples, ascending, and the fold of each, (S,) int; examples with the same key share a
        fold, unless all have the same.

    Examples:
        >>> chosen, held_out = sample_with_folds(np.array([0, 0, 1, 1], np.int32), most=9, folds=2, seed=0)
        >>> chosen.tolist(), sorted(held_out.tolist())
        ([0, 1, 2, 3], [0, 0, 1, 1])
    """
    rng = np.random.default_rng(seed)
    chosen = np.flatnonzero(stratified_sample(strata(targets), min(most, len(targets)), rng))
    keys = np.arange(len(targets)) if keys is None else keys
    different = len(np.unique(keys[chosen]))
    groups = keys[chosen] if different > 1 else chosen
    folds = min(folds, different if different > 1 else len(chosen))
    return chosen, stratified_folds(strata(targets[chosen]), folds, rng, groups)


def _by_stratum(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The indices of the examples, stratum by stratum, in random order within each."""
    return np.lexsort((rng.random(len(strata)), strata))


def _one_of_each(targets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first of the rows with each class or label; no rows if the targets are numbers."""
    if targets.ndim == 2:
        has_label = targets[rows] > 0
        return np.unique(rows[has_label.argmax(axis=0)[has_label.any(axis=0)]])
    return rows[np.unique(targets[rows], return_index=True)[1]] if targets.dtype == np.int32 else rows[:0]


def carve(examples: Examples, *, dev: float, test: float, limit: int | None, seed: int) -> Examples:
    """Carves the splits that are missing from train, stratified by label; equal texts stay in one split.

    One row of every class or label stays in train, and the others are shared out so that every class has some in the
    test split, then in the dev split, where these are large enough.

    Args:
        examples: the examples, with at least a train split.
        dev: share of train that becomes the dev split if there is none; 0 carves none.
        test: share of train that becomes the test split if there is none; 0 carves none.
        limit: how many of the training rows to use once the test split is carved, dev rows included; None uses all.
        seed: decides which rows are drawn.

    Raises:
        InputError: too few training rows, or too small a limit.
    """
    splits, rng = examples.splits.copy(), np.random.default_rng(seed)
    groups, keys, unused = strata(examples.targets), examples.keys, -1
    one_of_each = _one_of_each(examples.targets, rng.permutation(examples.of(TRAIN)))

    def take(split: int, count: int) -> None:
        train = np.flatnonzero(splits == TRAIN)
        drops_rows = split == unused  # where equal texts on both sides do no harm
        stays = np.isin(train, one_of_each) if drops_rows else np.isin(keys[train], keys[one_of_each])
        free, different = train[~stays], len(np.unique(keys[train]))
        if 0 < count < len(free) + stays.any() and (drops_rows or different > 1):
            own_keys = None if drops_rows else keys[free]
            splits[free[stratified_sample(groups[free], count, rng, not drops_rows, own_keys)]] = split
            return
        copies = f" ({different} without their copies)" if different < len(train) else ""
        raise InputError(f"{len(train)} training rows{copies} are too few to hold {count} out: give more rows")

    def share_of_train(share: float) -> int:
        return max(1, round(share * (splits == TRAIN).sum()))

    if test and not len(examples.of(TEST)):
        take(TEST, share_of_train(test))
    if limit is not None and limit < len(one_of_each):
        raise InputError(f"--limit-labels {limit} is too few for a row of each label: give at least {len(one_of_each)}")
    if limit is not None and (splits == TRAIN).sum() > limit:
        take(unused, int((splits == TRAIN).sum()) - limit)
    if dev and not len(examples.of(DEV)):
        take(DEV, share_of_train(dev))
    used = splits != unused
    return replace(
        examples,
        texts=tuple(compress(examples.texts, used)),
        targets=examples.targets[used],
        splits=splits[used],
    )
