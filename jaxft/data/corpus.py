"""From what `--data` names to a stream of documents: IMDB, the demo, or the user's own file or folder. Called by the
jobs and by the id store; the formats themselves are read in `imdb`, `table` and `demo`.
"""

from functools import partial

from jaxft.data.archive import is_archive
from jaxft.data.demo import demo_corpus
from jaxft.data.document import Corpus, Document
from jaxft.data.download import fetch
from jaxft.data.files import expanded, file_hash
from jaxft.data.imdb import folder_hash, folder_root, read_archive, read_folder
from jaxft.data.table import TABLE_SUFFIXES, read_table, table_suffix
from jaxft.errors import InputError

__all__ = ["Corpus", "Document", "open_corpus"]

IMDB_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"


def open_corpus(
    data: str,
    *,
    text_column: str = "text",
    label_column: str = "label",
    split_column: str = "split",
) -> Corpus:
    """Opens a corpus and looks at its first document; the rest is checked while it streams.

    The column names apply to tables alone. A table without a split column is split by rule; see `table.read_table`.
    That there are two classes, and every test label in train, takes the whole stream to know and is the reader's
    caller's to check.

    Args:
        data: "imdb" (the cached archive, else a download), "demo" (generated), or the path of an `aclImdb` folder or
            its tar, or of a CSV, TSV or JSONL file, each plain or compressed with gzip, xz or bzip2. A file called demo
            is "./demo".
        text_column: the column of texts.
        label_column: the column of labels, any strings; empty in unlabelled rows.
        split_column: the column that says train, test or unlabelled.

    Raises:
        InputError: one sentence that names the file, row or flag and what to do.

    Examples:
        >>> corpus = open_corpus("demo")
        >>> next(corpus.documents()).split
        'train'
    """
    if data == "demo":
        return demo_corpus()
    if data == "imdb":
        instead = "--data PATH for your own copy, or --data demo for a corpus that needs no network"
        archive = fetch(IMDB_URL, IMDB_MD5, name="aclImdb_v1.tar.gz", instead=instead)
        return _checked(Corpus("imdb", file_hash(archive, "aclImdb tar"), partial(read_archive, archive)))
    path = expanded(data)
    if path.is_dir():
        root = folder_root(path)
        return _checked(Corpus(root.resolve().name, folder_hash(root), partial(read_folder, root)))
    if not path.exists():
        raise InputError(f"{data} does not exist; --data takes imdb, demo or the path of a file or folder")
    if is_archive(path):
        return _checked(Corpus(path.name, file_hash(path, "aclImdb tar"), partial(read_archive, path)))
    if table_suffix(path) not in TABLE_SUFFIXES:
        raise InputError(
            f"{path} has an unknown suffix; --data reads .csv, .tsv and .jsonl (also .gz, .xz, .bz2) "
            "and an aclImdb folder or its .tar"
        )
    columns = (text_column, label_column, split_column)
    settings = repr((table_suffix(path), columns))
    return _checked(Corpus(path.name, file_hash(path, settings), partial(read_table, path, *columns)))


def _checked(corpus: Corpus) -> Corpus:
    if next(corpus.documents(), None) is None:
        raise InputError(f"{corpus.name} holds no documents; name a file or folder with texts in it")
    return corpus
