"""A linear baseline on the texts of a run, beside which everyone sees whether fine-tuning was worth it."""

from collections.abc import Sequence
from typing import Any

from jaxft.training.scores import classification_scores

NAME = "TF-IDF + logistic regression"


def linear_baseline(
    texts: Sequence[str], labels: Sequence[int], test: Sequence[str], test_labels: Sequence[int], classes: Sequence[str]
) -> dict[str, Any]:
    """The test scores of a logistic regression on TF-IDF features of words and of pairs of words.

    Args:
        texts: N training texts.
        labels: (N,) their classes, as indices into `classes`; at least two of them occur.
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
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return {"method": NAME}
    model = LogisticRegression(C=10.0, max_iter=1000).fit(features, labels)
    scores = classification_scores(test_labels, model.predict(vectorizer.transform(test)).tolist(), classes)
    return {"method": NAME, **{name: scores[name] for name in ("accuracy", "accuracy_interval", "macro_f1")}}
