"""Lines that show how a tokenized corpus was read: its sizes, unknown tokens, lengths and first text."""

import numpy as np

from jaxft.data.document import Corpus
from jaxft.data.overview import describe_first, describe_lengths
from jaxft.data.splits import Texts


def describe_texts(corpus: Corpus, texts: Texts) -> list[str]:
    """The lengths of all texts, and the first one with its tokens."""
    store = texts.store
    first = next(corpus.documents())
    tokens = [store.vocabulary.tokens[number] for number in store[0]]
    kind = "tokens" if store.vocabulary.merges is None else "subwords"
    return [describe_lengths(store.lengths, kind), describe_first(first.text, first.label, tokens)]


def describe_sizes(texts: Texts) -> str:
    """The number of texts of every part, of the words in the vocabulary, and the share of tokens that it lacks."""
    parts = {"train": texts.train, "dev": texts.dev, "test": texts.test, "language-model texts": texts.lm_train}
    counted = ", ".join(f"{len(documents):,} {name}" for name, documents in parts.items() if len(documents))
    vocabulary, ids = texts.store.vocabulary, texts.store.ids
    unknown = 100 * np.count_nonzero(ids == vocabulary.unk) / max(1, len(ids))
    advice = ", so try --text.tokens subwords, or a lower --text.min-count" if unknown > 20 else ""
    kind = "words" if vocabulary.merges is None else "subwords"
    words = f"{len(vocabulary):,} {kind} in the vocabulary, {unknown:.1f} % of tokens unknown"
    return f"{texts.name}: {counted}; {words}{advice}"
