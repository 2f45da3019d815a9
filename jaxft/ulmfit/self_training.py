"""Unlabelled texts that the classifier learns from too, where few texts have a label."""

from dataclasses import replace

import numpy as np

from jaxft.data.carving import sample_with_folds
from jaxft.data.splits import Texts
from jaxft.training.linear_head import FOLDS
from jaxft.training.pseudo_labels import pseudo_labels
from jaxft.ulmfit.settings import Settings

SHARE = 0.5
FEW_LABELS = 2_000
"""the labelled texts below which the unlabelled ones are of use"""
UNLABELLED_TEXTS = 5_000
"""the most texts to choose from"""


def with_pseudo_labels(texts: Texts, settings: Settings) -> Texts:
    """The texts with labels for some of those that have none, as `settings.classifier.pseudo_share` says."""
    share, pool = _share(texts, settings), _unlabelled(texts)
    if not share or not len(pool) or len(texts.train) < 2:
        return texts
    rng = np.random.default_rng([settings.seed, 3])
    pool = np.sort(rng.permutation(pool)[:UNLABELLED_TEXTS])
    store = texts.store
    labels = store.labels[texts.train].astype(np.int32)
    _, folds = sample_with_folds(labels, len(labels), FOLDS, settings.seed, store.keys[texts.train])
    chosen, classes = pseudo_labels([store[i] for i in texts.train], labels, folds, [store[i] for i in pool], share)
    given = store.labels.copy()
    given[pool[chosen]] = classes
    return replace(texts, store=replace(store, labels=given), pseudo=pool[chosen])


def describe_pseudo_labels(texts: Texts, settings: Settings) -> list[str]:
    """At most one line: what becomes of the unlabelled texts."""
    if len(texts.pseudo):
        return [
            f"{len(texts.pseudo):,} unlabelled texts train the classifier too, with the classes that a linear model on "
            "their words is surest of (--classifier.pseudo-share 0 leaves them out)"
        ]
    if _share(texts, settings) and len(_unlabelled(texts)):
        return [
            "no unlabelled text trains the classifier, because a linear model on words does not tell the labelled ones "
            "apart"
        ]
    return []


def _share(texts: Texts, settings: Settings) -> float:
    if settings.classifier.pseudo_share is not None:
        return settings.classifier.pseudo_share
    return SHARE if len(texts.train) < FEW_LABELS else 0.0


def _unlabelled(texts: Texts) -> np.ndarray:
    """The texts that the language model learns from and that have no label, and no equal text that is held out."""
    held_out = np.concatenate([texts.dev, texts.test])
    pool = np.setdiff1d(texts.lm_train, np.concatenate([texts.train, held_out]))
    return pool[~np.isin(texts.store.keys[pool], texts.store.keys[held_out])]
