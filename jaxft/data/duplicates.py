"""Texts that occur more than once: what makes two texts equal, and how many there are of them.

Whatever carves a split keeps equal texts together by their keys; the jobs say what `count_duplicates` counts.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np


def text_key(*texts: str) -> int:
    """A 64-bit number that equal texts, or tuples of equal texts, share; white space does not count.

    Examples:
        >>> text_key("A film.") == text_key(" A  film.\\n"), text_key("A film.") == text_key("a film.")
        (True, False)
        >>> text_key("a", "b") == text_key("a b")
        False
    """
    joined = "\0".join(map(_with_single_spaces, texts))
    digest = hashlib.blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _with_single_spaces(text: str) -> str:
    if text.isprintable() and "  " not in text:  # which most texts are, and quicker
        return text.strip()
    return " ".join(text.split())


def count_duplicates(keys: np.ndarray, labels: np.ndarray | None, splits: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Counts the texts that occur more than once.

    Args:
        keys: (N,) int64, the `text_key` of every text.
        labels: (N, ...) the label of each; None without labels.
        splits: indices of the texts of `train`, and of `dev` and `test` where there are any.

    Returns:
        `repeated`, the different texts that occur more than once; `with_several_labels`, those of them whose labels
        differ; `dev_in_train` and `test_in_train`, the texts of these splits that are also in train. Labels count in
        these splits alone.

    Examples:
        >>> splits = {"train": np.array([0, 1, 2]), "test": np.array([3, 4])}
        >>> count_duplicates(np.array([7, 7, 8, 8, 9]), np.array([0, 1, 0, 0, 1]), splits)
        {'repeated': 2, 'with_several_labels': 1, 'test_in_train': 1}
    """
    counts = {"repeated": int((np.unique(keys, return_counts=True)[1] > 1).sum())}
    if labels is not None:
        labelled = np.concatenate(list(splits.values()))
        _, first, groups = np.unique(keys[labelled], return_index=True, return_inverse=True)
        own, others = labels[labelled], labels[labelled][first][groups]
        differ = (own != others).reshape(len(labelled), -1).any(axis=1)
        counts["with_several_labels"] = len(np.unique(groups[differ]))
    for name in ("dev", "test"):
        if len(splits.get(name, ())):
            counts[f"{name}_in_train"] = int(np.isin(keys[splits[name]], keys[splits["train"]]).sum())
    return counts


def describe_duplicates(
    counts: Mapping[str, int], splits: Mapping[str, Sequence[int] | np.ndarray], noun: str = "text"
) -> list[str]:
    """At most one line, which says what `count_duplicates` counts; none where no text occurs more than once.

    Args:
        counts: from `count_duplicates`.
        splits: what it got.
        noun: what the texts are called.

    Examples:
        >>> counts = {"repeated": 2, "with_several_labels": 1, "test_in_train": 1}
        >>> describe_duplicates(counts, {"train": [0, 1, 2], "dev": [], "test": [3, 4]})
        ['2 texts occur more than once, 1 of them with more than one label; also in train: 1 of 2 test texts']
    """
    if not counts["repeated"]:
        return []
    several = counts.get("with_several_labels", 0)
    conflict = f", {several:,} of them with more than one label" if several else ""
    shared = [
        f"{counts[f'{name}_in_train']:,} of {len(splits[name]):,} {name}"
        for name in ("dev", "test")
        if f"{name}_in_train" in counts
    ]
    leaks = f"; also in train: {', '.join(shared)} {noun}s" if shared else ""
    repeated = counts["repeated"]
    return [f"{repeated:,} {noun}{'s occur' if repeated > 1 else ' occurs'} more than once{conflict}{leaks}"]
