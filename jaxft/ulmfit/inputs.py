"""The texts of ULMFiT: read, numbered, split, and given pseudo-labels where labels are few."""

import numpy as np

from jaxft.data.columns import Columns
from jaxft.data.corpus import open_corpus
from jaxft.data.document import TRAIN, Corpus
from jaxft.data.memory import Table
from jaxft.data.splits import Texts, split_texts
from jaxft.language_model.text_store import text_store
from jaxft.training.settings import dev_share
from jaxft.ulmfit.self_training import with_pseudo_labels
from jaxft.ulmfit.settings import Settings


def read_texts(settings: Settings, progress: bool = True, corpus: Corpus | None = None) -> Texts:
    """Reads, tokenizes and splits a corpus; ids are cached, splits depend on the seed.

    Where labels are few, some of the unlabelled texts get one too; see `jaxft.ulmfit.self_training`.

    Args:
        settings: `settings.data` and how to read it.
        progress: whether to show a progress bar.
        corpus: read in place of the one that `settings.data` names.

    Raises:
        InputError: bad data; the sentence names file and row, or the flag.
    """
    corpus = corpus or open_corpus_of(settings)
    store = text_store(corpus, settings.text, transductive=settings.transductive, progress=progress)
    labelled = int((store.splits == TRAIN).sum())
    texts = split_texts(
        corpus,
        store,
        seed=settings.seed,
        dev_fraction=dev_share(settings.classifier.dev_fraction, min(labelled, settings.limit_labels or labelled)),
        valid_fraction=settings.lm.valid_fraction,
        limit_labels=settings.limit_labels,
        limit_unlabelled=settings.limit_unlabelled,
        transductive=settings.transductive,
    )
    return with_pseudo_labels(texts, settings)


def open_corpus_of(settings: Settings, table: Table | None = None) -> Corpus:
    """The corpus that `settings.data` names, or that of a table in memory, read with the columns of the settings."""
    return open_corpus(table or settings.data, Columns.of(settings))


def raw_texts(corpus: Corpus, documents: np.ndarray) -> list[str]:
    """The texts of some documents, in their order, as they are in the data."""
    wanted = set(documents.tolist())
    texts = {i: document.text for i, document in enumerate(corpus.documents()) if i in wanted}
    return [texts[i] for i in documents.tolist()]
