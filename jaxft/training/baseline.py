"""A linear baseline on the texts of a run, beside which everyone sees whether fine-tuning was worth it."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import regex

from jaxft.base.scripts import UNSPACED
from jaxft.training.linear_head import fit_logistic_regression
from jaxft.training.scores import MAIN_SCORES, classification_scores

NAME = "TF-IDF + logistic regression"
_WORD = regex.compile(rf"(?V1)[{UNSPACED}]|[\w--[{UNSPACED}]]{{2,}}")


def linear_baseline(
    texts: Sequence[str], labels: Sequence[int], test: Sequence[str], test_labels: Sequence[int], classes: Sequence[str]
) -> dict[str, Any]:
    """The test scores of a logistic regression on TF-IDF features of words and of pairs of words.

    Args:
        texts: N training texts.
        labels: (N,) their classes, as indices into `classes`.
        test: M texts to classify.
        test_labels: (M,) their classes.
        classes: names of the classes.

    Returns:
        `method`, and `accuracy`, `accuracy_interval` and `macro_f1` of `classification_scores`; with `method` alone
        where no training text has a word.

    Examples:
        >>> result = linear_baseline(["good film", "bad film"], [1, 0], ["a good one"], [1], ["neg", "pos"])
        >>> result["accuracy"]
        1.0
    """
    return baseline_scores(linear_predictions(texts, labels, test), test_labels, classes)


def linear_predictions(texts: Sequence[str], labels: Sequence[int], test: Sequence[str]) -> np.ndarray | None:
    """The classes (M,) that the linear model of `linear_baseline` gives the test texts; None without any word.

    A character of a script without spaces counts as a word.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    no_pattern = cast(Any, None)  # which the stubs do not know
    vectorizer = TfidfVectorizer(
        tokenizer=_WORD.findall, token_pattern=no_pattern, ngram_range=(1, 2), sublinear_tf=True
    )
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return None
    if len(set(labels)) == 1:
        return np.full(len(test), labels[0])
    model = fit_logistic_regression(features, np.asarray(labels), strength=10.0)
    return model.predict(vectorizer.transform(test))


def baseline_scores(
    predictions: np.ndarray | None, test_labels: Sequence[int], classes: Sequence[str]
) -> dict[str, Any]:
    """The entry of a summary for the predictions of `linear_predictions`."""
    if predictions is None:
        return {"method": NAME}
    scores = classification_scores(test_labels, predictions.tolist(), classes)
    return {"method": NAME, **{name: scores[name] for name in MAIN_SCORES}}
