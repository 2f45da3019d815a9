"""Lines that show how data were read: the classes, the first text with its tokens, and the lengths of the texts.

Every job of classification prints them before it trains, and with `--dry-run`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

MOST_CLASSES = 8
"""classes whose numbers of texts are shown"""
MOST_CHARACTERS = 80
"""characters of the first text that are shown"""
MOST_TOKENS = 12
"""tokens of the first text that are shown"""


def describe_classes(classes: Sequence[str], targets: Mapping[str, np.ndarray]) -> list[str]:
    """At most one line: how many texts of each split have each class or label.

    Args:
        classes: names of the C classes or labels; empty for numbers.
        targets: of the texts of each split, (N,) int classes or (N, C) of 0 and 1.

    Examples:
        >>> describe_classes(["neg", "pos"], {"train": np.array([0, 1, 1]), "test": np.array([1])})
        ['classes: neg 1 train, 0 test; pos 2 train, 1 test']
    """
    targets = {split: values for split, values in targets.items() if len(values)}
    if not classes or not targets:
        return []
    counts = {split: _counts(values, len(classes)) for split, values in targets.items()}
    order = np.argsort(-sum(counts.values()), kind="stable")[:MOST_CLASSES] if len(classes) > MOST_CLASSES else None
    shown = range(len(classes)) if order is None else order.tolist()
    parts = [
        f"{_cut(classes[i])} {', '.join(f'{count[i]:,} {split}' for split, count in counts.items())}" for i in shown
    ]
    more = f"; {len(classes) - MOST_CLASSES:,} more" if order is not None else ""
    return [f"{'classes' if order is None else f'largest of {len(classes):,} classes'}: {'; '.join(parts)}{more}"]


def missing_classes(split: str, targets: np.ndarray, classes: Sequence[str]) -> list[str]:
    """At most one line, which names the classes or labels that no text of a split has, five at most.

    Args:
        split: "dev" or "test".
        targets: those of the texts of the split, as in `Examples`.
        classes: names of the C classes or labels.

    Examples:
        >>> missing_classes("test", np.array([0, 2, 2], np.int32), ["a", "b", "c"])
        ['no test text has the class b: its scores are unknown']
        >>> missing_classes("dev", np.array([0], np.int32), [str(i) for i in range(9)])
        ['no dev text has the classes 1, 2, 3, 4, 5 and 3 others: they do not count when weights are chosen']
    """
    if not len(classes) or not len(targets):
        return []
    names = [name for name, count in zip(classes, _counts(targets, len(classes)), strict=True) if not count]
    if not names:
        return []
    one, rest = len(names) == 1, len(names) - 5
    others = f" and {rest:,} other{'s' * (rest > 1)}" if rest > 0 else ""
    subject = f"the class{'' if one else 'es'} {', '.join(names[:5])}{others}"
    scores = f"{'its' if one else 'their'} scores are unknown"
    choice = f"{'it does' if one else 'they do'} not count when weights are chosen"
    return [f"no {split} text has {subject}: {scores if split == 'test' else choice}"]


def describe_numbers(numbers: np.ndarray) -> str:
    """The range of the numbers to learn.

    Examples:
        >>> describe_numbers(np.array([1.0, 2.0, 6.0]))
        'numbers: from 1 to 6, mean 3'
    """
    return f"numbers: from {numbers.min():.4g} to {numbers.max():.4g}, mean {numbers.mean():.4g}"


def describe_lengths(lengths: np.ndarray, unit: str) -> str:
    """The distribution of the lengths of the texts.

    Examples:
        >>> describe_lengths(np.arange(1, 101), "word pieces")
        'word pieces a text: median 50, 95 % have at most 95, the longest 100'
    """
    median, most = np.quantile(lengths, [0.5, 0.95], method="lower")
    return f"{unit} a text: median {median:,}, 95 % have at most {most:,}, the longest {lengths.max():,}"


def describe_first(text: str, label: str | None, tokens: Sequence[str]) -> str:
    """The first text, its label and its first tokens.

    Examples:
        >>> describe_first("A fine film.", "pos", ["xxbos", "a", "fine", "film", "."])
        "first text: 'A fine film.' (pos), read as xxbos a fine film ."
    """
    shown = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
    labelled = "" if label is None else f" ({_cut(label)})"
    more = " ..." if len(tokens) > MOST_TOKENS else ""
    return f"first text: {shown!r}{labelled}, read as {' '.join(tokens[:MOST_TOKENS])}{more}"


def _cut(name: str) -> str:
    return name if len(name) <= MOST_CHARACTERS else f"{name[:MOST_CHARACTERS]}..."


def _counts(values: np.ndarray, classes: int) -> np.ndarray:
    return (values > 0).sum(axis=0) if values.ndim == 2 else np.bincount(values, minlength=classes)
