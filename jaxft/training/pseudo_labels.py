"""Self-training: classes for texts without labels, which a classifier learns from beside the few that have one.

A linear model on words and pairs of words, which learns from few texts, labels the others. A classifier that has seen
much text, such as a language model's, then generalizes from the surest of them.

Axes: N labelled texts, M unlabelled texts, K chosen ones, C classes.

References:
    Yarowsky, Unsupervised Word Sense Disambiguation Rivaling Supervised Methods, ACL 1995.
    Lee, Pseudo-Label, ICML 2013 workshop on challenges in representation learning.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from jaxft.training.linear_head import fit_logistic_regression


def pseudo_labels(
    labelled: Sequence[np.ndarray],
    labels: np.ndarray,
    folds: np.ndarray,
    unlabelled: Sequence[np.ndarray],
    share: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The unlabelled texts whose class a linear model on words is surest of, as many of each class as it may have.

    Args:
        labelled: the token ids of the N labelled texts.
        labels: (N,) int, their classes.
        folds: (N,) int, the part of a cross-validation that each is held out in.
        unlabelled: the token ids of the M other texts.
        share: of the M texts to choose; a class gets at most its own share of the labels, and at least one text.

    Returns:
        Indices of the chosen texts, ascending, int64 (K,), and their classes, int32 (K,). There are none where,
        in the cross-validation, the mean recall of the classes is within two standard errors of chance.

    Examples:
        >>> good, bad = np.array([1, 2]), np.array([1, 3])
        >>> chosen, classes = pseudo_labels(
        ...     [good, bad] * 4, np.array([1, 0] * 4), np.arange(8) // 4, [np.array([1]), bad, good, np.array([4])], 0.5
        ... )
        >>> chosen.tolist(), classes.tolist()
        ([1, 2], [0, 1])
    """
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not unlabelled or not _tells_classes_apart(labelled, numbers, folds):
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    probabilities = _probabilities(labelled, numbers, unlabelled)
    guesses = probabilities.argmax(axis=1)
    chosen = []
    for number, count in enumerate(counts):
        own = np.flatnonzero(guesses == number)
        surest = np.argsort(-probabilities[own, number], kind="stable")
        chosen.append(own[surest[: math.ceil(share * len(unlabelled) * count / len(labels))]])
    indices = np.sort(np.concatenate(chosen))
    return indices, classes[guesses[indices]].astype(np.int32)


def _tells_classes_apart(texts: Sequence[np.ndarray], numbers: np.ndarray, folds: np.ndarray) -> bool:
    """Whether the linear model knows more than chance of texts that it did not learn from."""
    counts = np.bincount(numbers)
    right = np.zeros(len(counts))
    for fold in np.unique(folds):
        held_out = folds == fold
        train, rest = ([texts[i] for i in np.flatnonzero(part).tolist()] for part in (~held_out, held_out))
        probabilities = _probabilities(train, numbers[~held_out], rest)
        known = numbers[held_out][probabilities.argmax(axis=1) == numbers[held_out]]
        right += np.bincount(known, minlength=len(counts))
    chance = 1 / len(counts)
    error = chance * np.sqrt((chance * (1 - chance) / counts).sum())
    return len(counts) > 1 and bool((right / counts).mean() > chance + 2 * error)


def _probabilities(texts: Sequence[np.ndarray], numbers: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """The probabilities (M, C) that a linear model of the texts gives the others."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = np.unique(numbers)
    probabilities = np.zeros((len(others), known.max() + 1))
    if len(known) == 1:
        probabilities[:, known] = 1.0
        return probabilities
    vectorizer = TfidfVectorizer(analyzer=cast(Any, _words_and_pairs), sublinear_tf=True)
    features = vectorizer.fit_transform(texts)
    model = fit_logistic_regression(features, numbers, strength=10.0, class_weight="balanced")
    probabilities[:, known] = model.predict_proba(vectorizer.transform(others))
    return probabilities


def _words_and_pairs(ids: np.ndarray) -> list[tuple[int, ...]]:
    tokens = ids.tolist()
    return [*((token,) for token in tokens), *pairwise(tokens)]
