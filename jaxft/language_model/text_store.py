"""The ids of a corpus as the settings of a job ask for them, from the cache folder."""

from jaxft.base.files import cache_folder
from jaxft.data.document import Corpus
from jaxft.data.store import TokenStore, build_store
from jaxft.language_model.settings import Text


def text_store(
    corpus: Corpus, text: Text, *, labelled: bool = True, transductive: bool = False, progress: bool = True
) -> TokenStore:
    """Opens or makes the store of a corpus; the other arguments and the errors are those of `build_store`.

    Args:
        corpus: the documents.
        text: how they become ids.
        labelled, transductive, progress: as in `build_store`.
    """
    return build_store(
        corpus,
        cache_folder() / "texts",
        max_vocab=text.max_vocab,
        min_count=text.min_count,
        subwords=text.tokens == "subwords",
        labelled=labelled,
        transductive=transductive,
        progress=progress,
    )
