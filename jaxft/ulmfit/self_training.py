"""Self-training: unlabelled texts that the classifier learns from too, where few texts have a label."""

import hashlib
from dataclasses import replace

import numpy as np

from jaxft.data.carving import sample_with_folds
from jaxft.data.splits import Texts
from jaxft.training.linear_head import FOLDS, PROBE_TEXTS
from jaxft.training.pseudo_labels import pseudo_labels
from jaxft.ulmfit.settings import Settings

SHARE = 0.5
FEW_LABELS = 2_000
"""the training texts below which unlabelled ones are of use"""
UNLABELLED_TEXTS = 5_000
"""the most unlabelled texts to choose from"""


def with_pseudo_labels(texts: Texts, settings: Settings) -> Texts:
    """The texts with labels for some of those that have none, as `settings.classifier.pseudo_share` says."""
    share = _share(texts, settings)
    if not share or len(texts.train) < 2:
        return texts
    pool = _unlabelled(texts)
    if not len(pool):
        return texts
    pool = np.sort(np.random.default_rng([settings.seed, 3]).permutation(pool)[:UNLABELLED_TEXTS])
    store = texts.store
    labels, keys = store.labels[texts.train].astype(np.int32), store.keys[texts.train]
    sample, folds = sample_with_folds(labels, PROBE_TEXTS, FOLDS, settings.seed, keys)
    labelled = [store[i] for i in texts.train[sample]]
    chosen, classes = pseudo_labels(labelled, labels[sample], folds, [store[i] for i in pool], share)
    given = store.labels.copy()
    given[pool[chosen]] = classes
    return replace(texts, store=replace(store, labels=given), pseudo=pool[chosen])


def pseudo_label_fingerprint(texts: Texts) -> dict[str, str]:
    """A hash of the texts with pseudo-labels and of their classes, under its name in the configuration of a run."""
    if not len(texts.pseudo):
        return {}
    pairs = np.stack([texts.pseudo, texts.store.labels[texts.pseudo]]).astype("<i8")
    return {"pseudo_labels": hashlib.sha256(pairs.tobytes()).hexdigest()}


def describe_pseudo_labels(texts: Texts, settings: Settings) -> list[str]:
    """At most one line: what becomes of the unlabelled texts."""
    if len(texts.pseudo):
        return [
            f"pseudo-labels: the classifier also learns from {len(texts.pseudo):,} texts without a label, with the "
            "classes that a linear model on words gives them (--classifier.pseudo-share 0 turns this off)"
        ]
    if not _share(texts, settings):
        return []
    if len(_unlabelled(texts)):
        return [
            "pseudo-labels: none, because a linear model on words cannot tell the classes of the labelled texts apart"
        ]
    return ["pseudo-labels: none, because every text has a label"] if settings.classifier.pseudo_share else []


def _share(texts: Texts, settings: Settings) -> float:
    if settings.classifier.pseudo_share is not None:
        return settings.classifier.pseudo_share
    return SHARE if len(texts.train) < FEW_LABELS else 0.0


def _unlabelled(texts: Texts) -> np.ndarray:
    """The different texts without a label that the language model learns from; none equals a labelled one."""
    keys, labelled = texts.store.keys, np.concatenate([texts.train, texts.dev, texts.test])
    pool = np.setdiff1d(texts.lm_train, labelled)
    pool = pool[~np.isin(keys[pool], keys[labelled])]
    return pool[np.unique(keys[pool], return_index=True)[1]]
