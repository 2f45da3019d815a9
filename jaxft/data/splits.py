"""Splits of a tokenized corpus: train, dev and test for a classifier, train and validation for a language model.

The jobs call `split_texts`. Everything that is held out comes from the training split; only a transductive language
model reads the test texts.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from jaxft.data.carving import has_repeats, held_out, stratified_sample
from jaxft.data.document import DEV, TEST, TRAIN, UNLABELLED, Corpus, Direction
from jaxft.data.store import TokenStore
from jaxft.errors import InputError

MAX_VALIDATION_TEXTS = 1000
EXCESS = 1.5
"""how many times its share a dev split may take for a text of every class"""
FEW_TEXTS = 10
"""a dev split of so many texts has one of every class, whatever its share is"""


@dataclass(frozen=True)
class Texts:
    """A tokenized corpus and its splits, which are arrays of document indices.

    Attributes:
        name: name of the corpus.
        fingerprint: fingerprint of the corpus.
        store: the ids.
        train: labelled texts that a classifier learns from.
        dev: labelled texts that choose its best epoch; none of them is in `train`.
        test: labelled texts that are scored once, at the end; there may be none.
        lm_train: texts that the language model learns from; none of `dev`, of `lm_valid` or, unless transductive, of
            `test`.
        lm_valid: texts that its perplexity is measured on.
        pseudo: unlabelled texts that a classifier learns from too; the store has labels for them that a linear model
            gave, as in `jaxft.ulmfit.self_training`.
    """

    name: str
    fingerprint: str
    store: TokenStore
    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray
    lm_train: np.ndarray
    lm_valid: np.ndarray
    pseudo: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def classifier_train(self) -> np.ndarray:
        """The texts that a classifier learns from: `train`, then `pseudo`."""
        return np.concatenate([self.train, self.pseudo])

    @property
    def labelled(self) -> dict[str, np.ndarray]:
        """The splits of labelled texts by name."""
        return {"train": self.train, "dev": self.dev, "test": self.test}

    def in_direction(self, direction: Direction) -> "Texts":
        """The texts in the order in which a model reads them; for "backward" the store is reversed.

        Document i of a split stays document i of that split.
        """
        if direction == "forward":
            return self
        last = len(self.store) - 1
        splits = {
            name: last - getattr(self, name) for name in ("train", "dev", "test", "lm_train", "lm_valid", "pseudo")
        }
        return replace(self, store=self.store.reversed(), **splits)


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
    """Splits a corpus; one seed gives one split, and a smaller `limit_labels` gives a subset of the labelled texts.

    Args:
        corpus: the corpus, for its name and fingerprint.
        store: the ids of the corpus.
        seed: decides which texts are held out.
        dev_fraction: share of the labelled texts of each class that becomes the dev split where the corpus has none; 0
            for no dev split. Where every class has few texts, some are without dev texts.
        valid_fraction: share of the language model's texts that its perplexity is measured on, at most 1,000 texts.
        limit_labels: how many labelled texts to use, the same number of each class; the other training texts count as
            unlabelled.
        limit_unlabelled: how many unlabelled texts to use.
        transductive: whether the language model reads the test texts.

    Raises:
        InputError: a split would be empty, or `limit_labels` is too small for the classes.

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
    dev = np.flatnonzero(store.splits == DEV)
    carves_dev = bool(dev_fraction) and not len(dev)
    if carves_dev:
        dev = _share_of_each_class(store, labelled, dev_fraction, rng)
    train = np.setdiff1d(labelled, dev)
    unlabelled = rng.permutation(np.concatenate([np.flatnonzero(store.splits == UNLABELLED), hidden]))
    test = np.flatnonzero(store.splits == TEST)
    if dev_fraction and not len(dev):
        raise InputError(f"{corpus.name} has too few labelled texts ({len(labelled)}) to hold some out: add texts")
    pool = np.concatenate([train, unlabelled[:limit_unlabelled], test if transductive else test[:0]])
    if carves_dev:  # an unlabelled copy of a dev text
        pool = pool[~np.isin(store.keys[pool], store.keys[dev])]
    learnt = hold_out(pool, valid_fraction, rng, store.keys)
    return Texts(corpus.name, corpus.fingerprint, store, train, dev, test, *learnt)


def hold_out(
    documents: np.ndarray, fraction: float, rng: np.random.Generator, keys: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Splits documents for a language model: those to learn from, and those to measure its perplexity on.

    The second part is `fraction` of the documents, at least one and at most 1,000. Equal texts are in one part, unless
    all are equal.

    Args:
        documents: indices of documents.
        fraction: of them to hold out.
        rng: source of chance.
        keys: (N,) int, the key of every document of the store; None where all are different.

    Examples:
        >>> lm_train, lm_valid = hold_out(np.arange(20), 0.1, np.random.default_rng(0))
        >>> len(lm_train), len(lm_valid)
        (18, 2)
    """
    documents = rng.permutation(documents)
    count = max(1, min(MAX_VALIDATION_TEXTS, round(fraction * len(documents))))
    is_held_out = held_out(documents if keys is None else keys[documents], count)
    return np.sort(documents[~is_held_out]), np.sort(documents[is_held_out])


def _limit_labels(store: TokenStore, limit: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The labelled documents to use, shuffled with the classes in turn; and the others, whose labels stay hidden."""
    labelled = rng.permutation(np.flatnonzero(store.splits == TRAIN))
    classes = len(store.classes)
    if limit is not None and limit < 2 * classes:
        raise InputError(f"--limit-labels {limit} is too few for {classes} classes: give at least {2 * classes}")
    rank = np.zeros(len(labelled), np.int64)  # of each document among those of its class
    for label in range(classes):
        in_class = store.labels[labelled] == label
        rank[in_class] = np.arange(in_class.sum())
    labelled = labelled[np.lexsort((store.labels[labelled], rank))]
    return labelled[:limit], labelled[len(labelled) if limit is None else limit :]


def _share_of_each_class(
    store: TokenStore, documents: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """A share of the documents of each class, at least one and never all.

    Equal texts are held out together. Where one document of each class makes many more than the share, chance decides
    which classes are without.
    """
    keys, labels = store.keys[documents], store.labels[documents]
    parts = []
    for label in np.unique(labels):
        in_class = documents[labels == label]
        parts.append(in_class[: min(len(in_class) - 1, max(1, round(share * len(in_class))))])
    drawn = np.concatenate(parts)
    if not has_repeats(keys) and len(drawn) <= max(FEW_TEXTS, EXCESS * share * len(documents)):
        return np.sort(drawn)
    stays = np.isin(keys, keys[np.unique(labels, return_index=True)[1]])  # a text of every class
    free, count = np.flatnonzero(~stays), max(1, round(share * len(documents)))
    if not len(free):
        return documents[:0]
    drawn = stratified_sample(labels[free], min(count, len(free)), rng, keys=keys[free])
    return np.sort(documents[free[drawn]])
