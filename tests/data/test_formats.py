"""Formats of tables: Parquet, Arrow and Zstandard files and folders give the rows that a CSV file gives."""

import csv
import io
import sys

import pytest

from jaxft.data.corpus import open_corpus
from jaxft.data.examples import read_examples
from jaxft.errors import InputError

ROWS = [("Fine.", "pos", "train"), ("Dull.", "neg", "train"), ("Good.", "pos", "dev"), ("Poor.", "neg", "test")]
COLUMNS = dict(zip(("text", "label", "split"), map(list, zip(*ROWS, strict=True)), strict=True))


def csv_bytes(rows, header=("text", "label", "split")):
    stream = io.StringIO()
    csv.writer(stream).writerows([header, *rows])
    return stream.getvalue().encode()


def parquet(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pytest.importorskip("pyarrow").table(COLUMNS), folder / "rows.parquet")
    return folder / "rows.parquet"


def write_arrow(folder, new_writer):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(COLUMNS)
    write = getattr(pyarrow.ipc, new_writer)
    with pyarrow.OSFile(str(folder / "rows.arrow"), "wb") as sink, write(sink, table.schema) as writer:
        writer.write_table(table)
    return folder / "rows.arrow"


def arrow_file(folder):
    return write_arrow(folder, "new_file")


def arrow_stream(folder):
    return write_arrow(folder, "new_stream")


def zstandard(folder):
    pyarrow = pytest.importorskip("pyarrow")
    with pyarrow.output_stream(str(folder / "rows.csv.zst"), compression="zstd") as stream:
        stream.write(csv_bytes(ROWS))
    return folder / "rows.csv.zst"


def folder_of_tables(folder):
    for name, split in (("train.csv", "train"), ("valid.csv", "dev"), ("test.csv", "test")):
        rows = [row[:2] for row in ROWS if row[2] == split]
        (folder / name).write_bytes(csv_bytes(rows, ("text", "label")))
    (folder / "README.md").write_text("nothing")
    return folder


FORMATS = [parquet, arrow_file, arrow_stream, zstandard, folder_of_tables]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_documents_and_examples(write, tmp_path):
    path = write(tmp_path)
    corpus = open_corpus(str(path))
    assert [(d.text, d.label, d.split) for d in corpus.documents()] == ROWS
    examples = read_examples(str(path), "classification")
    assert [text for (text,) in examples.texts] == [row[0] for row in ROWS]
    assert corpus.fingerprint == open_corpus(str(path)).fingerprint


@pytest.mark.parametrize("write", [parquet, arrow_file, zstandard])
def test_a_damaged_file_is_refused(write, tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"damaged|corrupt|truncated"):
        list(open_corpus(str(path)).documents())


@pytest.mark.parametrize("write", [parquet, zstandard])
def test_without_pyarrow_the_sentence_names_the_install(write, tmp_path, monkeypatch):
    path = write(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'jaxft\[arrow\]'"):
        open_corpus(str(path))


def write_texts(folder, texts):
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_folder_for_each_class_is_read_and_carved(tmp_path):
    write_texts(tmp_path, {f"{label}/{i}.txt": f"{label} {i}" for label in ("ham", "spam") for i in range(10)})
    documents = list(open_corpus(str(tmp_path)).documents())
    assert [d.label for d in documents] == ["ham"] * 10 + ["spam"] * 10
    assert sum(d.split == "test" for d in documents) == 4
    assert documents[0].text == "ham 0"
    assert len(read_examples(str(tmp_path), "classification").texts) == 20


def test_folders_of_splits_hold_folders_of_classes(tmp_path):
    texts = {"train/ham/a.txt": "a", "train/spam/b.txt": "b", "valid/ham/c.txt": "c", "test/spam/d.txt": "d"}
    write_texts(tmp_path, {**texts, "train/unsup/e.txt": "e", "unlabeled/f.txt": "f", ".hidden/ham/g.txt": "g"})
    documents = [(d.text, d.label, d.split) for d in open_corpus(str(tmp_path)).documents()]
    assert sorted(documents) == [
        ("a", "ham", "train"),
        ("b", "spam", "train"),
        ("c", "ham", "dev"),
        ("d", "spam", "test"),
        ("e", None, "unlabelled"),
        ("f", None, "unlabelled"),
    ]


def test_a_changed_text_changes_the_fingerprint(tmp_path):
    write_texts(tmp_path, {"ham/a.txt": "a", "spam/b.txt": "b"})
    before = open_corpus(str(tmp_path)).fingerprint
    write_texts(tmp_path, {"ham/a.txt": "a longer text"})
    assert open_corpus(str(tmp_path)).fingerprint != before


def test_bad_folders_are_refused(tmp_path):
    write_texts(tmp_path, {"ham/a.txt": " ", "spam/b.txt": "b"})
    with pytest.raises(InputError, match=r"ham/a\.txt is an empty text: remove the file or fill it in"):
        list(open_corpus(str(tmp_path)).documents())
    other = tmp_path / "tables"
    write_texts(other, {"valid.csv": "text,label\na,b\n", "dev.csv": "text,label\na,b\n"})
    with pytest.raises(InputError, match=r"two files of the split dev, dev\.csv and valid\.csv"):
        open_corpus(str(other))
