"""`open_corpus`, which turns the value of `--data` into a corpus: IMDB, the demo, or a file or folder of the user.

The modules `imdb`, `table` and `demo` read the formats.
"""

from functools import partial
from pathlib import Path

from jaxft.data.archive import is_archive
from jaxft.data.columns import Columns
from jaxft.data.demo import demo_corpus
from jaxft.data.document import Corpus
from jaxft.data.download import fetch
from jaxft.data.files import expanded, file_hash
from jaxft.data.folders import class_folders, folder_fingerprint, folder_notes, read_class_folders
from jaxft.data.imdb import folder_hash, folder_root, is_imdb, read_archive, read_folder
from jaxft.data.memory import Table
from jaxft.data.table import FORMATS, carved_documents, is_table, read_table, table_hash, table_notes, table_suffix
from jaxft.errors import InputError

IMDB_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
IMDB_SIZE = 84_125_825  # bytes
IMDB_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
"""from `url_checksums/imdb_reviews.txt` of TensorFlow Datasets"""


def open_corpus(data: str | Table, columns: Columns | None = None) -> Corpus:
    """Opens a corpus and reads its first document; the rest is checked while it streams.

    The columns are for tables alone. `table.read_table` describes how a table without a split column is split.
    The caller checks what the whole stream shows: that there are two classes, and that train has every label of test.

    Args:
        data: "imdb" (downloaded once into the cache), "demo" (generated), or the path of an `aclImdb` folder, of its
            tar, of a folder with a folder of .txt files for each class, or of a table, as `jaxft.data.table.rows` reads
            them; or a table in memory. "./demo" is a file called demo.
        columns: which columns of a table hold what, by default `text`, `label` and `split`; labels are strings, and
            empty in unlabelled rows.

    Raises:
        InputError: the data do not exist, cannot be read or are not in one of these formats.

    Examples:
        >>> corpus = open_corpus("demo")
        >>> next(corpus.documents()).split
        'train'
    """
    columns = columns or Columns()
    key = (",".join(columns.text), columns.label, columns.split, *columns.file_layout)
    if isinstance(data, Table):
        return _table(data, data.name, repr(key), columns)
    if data == "demo":
        return demo_corpus()
    if data == "imdb":
        instead = "--data PATH for your own copy, or --data demo for a corpus that needs no network"
        archive = fetch(IMDB_URL, IMDB_SHA256, name="aclImdb_v1.tar.gz", instead=instead, size=IMDB_SIZE)
        return _checked(Corpus("imdb", file_hash(archive, "aclImdb tar"), partial(read_archive, archive)))
    path = expanded(data)
    if path.is_dir() and not is_table(path):
        return _open_folder(path)
    if not path.exists():
        raise InputError(f"{data} does not exist: give imdb, demo, or the path of a file or folder")
    if is_archive(path):
        return _checked(Corpus(path.name, file_hash(path, "aclImdb tar"), partial(read_archive, path)))
    if not is_table(path):
        raise InputError(f"{path} has an unknown suffix: give {FORMATS}, or an aclImdb folder or its .tar")
    return _table(path, path.name, repr((table_suffix(path), key)), columns)


def _table(source: Path | Table, name: str, settings: str, columns: Columns) -> Corpus:
    documents, notes = partial(read_table, source, columns), partial(table_notes, source, columns)
    return _checked(Corpus(name, table_hash(source, settings), documents, notes=notes))


def _open_folder(path: Path) -> Corpus:
    """The corpus of a folder of text files: in the layout of `aclImdb`, or with a folder for each class."""
    if not is_imdb(path) and class_folders(path):
        documents = lambda: carved_documents(read_class_folders(path))  # noqa: E731
        return Corpus(path.resolve().name, folder_fingerprint(path), documents, notes=partial(folder_notes, path))
    root = folder_root(path)
    return _checked(Corpus(root.resolve().name, folder_hash(root), partial(read_folder, root)))


def _checked(corpus: Corpus) -> Corpus:
    if next(corpus.documents(), None) is None:
        raise InputError(f"{corpus.name} has no texts: name a file or folder with texts")
    return corpus
