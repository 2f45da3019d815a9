"""Which documents of a corpus serve what: labelled training, dev, test, and the language model's own texts.

The jobs call `split_texts`. The test split is never touched here but on request, and everything that is held out is
carved from the training split.
"""

from dataclasses import dataclass, replace

import numpy as np

from jaxft.data.document import TEST, TRAIN, UNLABELLED, Corpus, Direction
from jaxft.data.store import TokenStore
from jaxft.errors import InputError

MOST_VALIDATION_TEXTS = 1000


@dataclass(frozen=True)
class Texts:
    """A corpus as ids, and which of its documents serve what: arrays of document numbers.

    Attributes:
        name, fingerprint: of the corpus.
        store: the ids.
        train, dev: disjoint parts of the labelled training texts.
        test: labelled texts that are looked at once, at the end.
        lm_train: what the language model learns from: neither `dev` nor `lm_valid` nor, unless transductive, `test`.
        lm_valid: what its perplexity is measured on.
    """

    name: str
    fingerprint: str
    store: TokenStore
    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray
    lm_train: np.ndarray
    lm_valid: np.ndarray

    def read(self, direction: Direction) -> "Texts":
        """The texts as a model sees them that reads in `direction`; backward, documents are counted from the end too.

        Document i of a part stays document i of that part.
        """
        if direction == "forward":
            return self
        last = len(self.store) - 1
        parts = {part: last - getattr(self, part) for part in ("train", "dev", "test", "lm_train", "lm_valid")}
        return replace(self, store=self.store.reversed(), **parts)


def split_texts(
    corpus: Corpus,
    store: TokenStore,
    *,
    seed: int,
    dev_fraction: float,
    valid_fraction: float,
    limit_labels: int | None = None,
    limit_unlabelled: int | None = None,
    transductive: bool = False,
) -> Texts:
    """Splits a corpus; the same seed gives the same splits, and fewer labels are a subset of more.

    Args:
        corpus: for its name and fingerprint.
        store: the ids.
        seed: of the splits.
        dev_fraction: share of the labelled texts that chooses the best epoch, the same of each class.
        valid_fraction: share of the language model's texts to measure perplexity on, at most 1,000 texts.
        limit_labels: labelled texts to use, equally many of each class; the other texts of train count as unlabelled.
        limit_unlabelled: unlabelled texts to use.
        transductive: whether the language model reads the test texts.

    Raises:
        InputError: a split would be empty; the sentence names the flag.

    Examples:
        >>> import tempfile
        >>> from jaxft.data.corpus import open_corpus
        >>> from jaxft.data.store import build_store
        >>> corpus = open_corpus("demo")
        >>> with tempfile.TemporaryDirectory() as cache:
        ...     store = build_store(corpus, cache, workers=1, progress=False)
        ...     texts = split_texts(corpus, store, seed=0, dev_fraction=0.1, valid_fraction=0.05)
        >>> len(texts.train), len(texts.dev), len(texts.test)
        (90, 10, 1000)
    """
    rng = np.random.default_rng([seed, 0])
    labelled, hidden = _limit_labels(store, limit_labels, rng)
    dev = _share_of_each_class(store.labels, labelled, dev_fraction)
    train = np.setdiff1d(labelled, dev)
    unlabelled = rng.permutation(np.concatenate([np.flatnonzero(store.splits == UNLABELLED), hidden]))
    test = np.flatnonzero(store.splits == TEST)
    if not len(test):
        raise InputError(f"{corpus.name} has no test texts: mark some rows as test in the split column")
    if not len(dev):
        raise InputError(f"{corpus.name} has too few labelled texts ({len(labelled)}) to hold some out: add texts")
    pool = np.concatenate([train, unlabelled[:limit_unlabelled], test if transductive else test[:0]])
    return Texts(corpus.name, corpus.fingerprint, store, train, dev, test, *hold_out(pool, valid_fraction, rng))


def hold_out(documents: np.ndarray, fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Documents for a language model to learn from and others to measure its perplexity on, at most 1,000 of these.

    Examples:
        >>> learnt, held_out = hold_out(np.arange(20), 0.1, np.random.default_rng(0))
        >>> len(learnt), len(held_out)
        (18, 2)
    """
    documents = rng.permutation(documents)
    count = max(1, min(MOST_VALIDATION_TEXTS, round(fraction * len(documents))))
    return np.sort(documents[count:]), np.sort(documents[:count])


def _limit_labels(store: TokenStore, limit: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labelled documents to use, class by class in turn and otherwise shuffled; and those whose labels stay hidden."""
    labelled = rng.permutation(np.flatnonzero(store.splits == TRAIN))
    classes = len(store.classes)
    if limit is not None and limit < 2 * classes:
        raise InputError(f"--limit-labels {limit} is too few for {classes} classes: give at least {2 * classes}")
    rank = np.zeros(len(labelled), np.int64)  # of each document among those of its class
    for label in range(classes):
        own = store.labels[labelled] == label
        rank[own] = np.arange(own.sum())
    labelled = labelled[np.lexsort((store.labels[labelled], rank))]
    return labelled[:limit], labelled[len(labelled) if limit is None else limit :]


def _share_of_each_class(labels: np.ndarray, documents: np.ndarray, share: float) -> np.ndarray:
    """`share` of the documents of each class, at least one, but never all."""
    parts = []
    for label in np.unique(labels[documents]):
        own = documents[labels[documents] == label]
        parts.append(own[: min(len(own) - 1, max(1, round(share * len(own))))])
    return np.sort(np.concatenate(parts))
