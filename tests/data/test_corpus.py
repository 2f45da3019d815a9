"""Corpora: streams that can be read again, fingerprints, and constant memory."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from jaxft.data.columns import Columns, TableSettings
from jaxft.data.corpus import open_corpus
from tests.data.corpus_files import DOCUMENTS, aclimdb_tar, tar_bytes, write, write_folder


def test_each_stream_is_fresh_and_two_may_run_at_once(tmp_path):
    corpus = open_corpus(str(write(tmp_path / "reviews.tar", aclimdb_tar())))
    first, second = corpus.documents(), corpus.documents()
    assert next(first) == next(second) == DOCUMENTS[0]
    assert list(first) == list(second) == DOCUMENTS[1:]


def test_fingerprints_follow_content_and_columns_and_not_the_name(tmp_path):
    def fingerprint(path: Path, **columns: Any) -> str:
        return open_corpus(str(path), Columns.of(TableSettings(**columns))).fingerprint

    path = write(tmp_path / "a.csv", "text,label,other\nFine.,pos,x\n")
    assert fingerprint(path) == fingerprint(write(tmp_path / "b.csv", path.read_bytes()))
    assert fingerprint(path) != fingerprint(path, label_column="other")
    assert fingerprint(path) != fingerprint(write(tmp_path / "c.csv", "text,label,other\nFine.,neg,x\n"))
    root = write_folder(tmp_path / "aclImdb")
    before = fingerprint(root)
    assert before == fingerprint(tmp_path)
    write(root / "train/pos/77_7.txt", "More.")
    assert fingerprint(root) != before


@pytest.mark.parametrize("kind", ["csv", "tar.gz"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, kind):
    text = "word " * 1000
    if kind == "csv":
        path = write(tmp_path / "big.csv", "text,label,split\n" + f"{text},pos,train\n" * 4000)
    else:
        members = {f"train/pos/{index}_9.txt": text for index in range(4000)}
        path = write(tmp_path / "big.tar.gz", gzip.compress(tar_bytes(members), 1))
    corpus = open_corpus(str(path))
    tracemalloc.start()
    count = sum(1 for _ in corpus.documents())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000
    assert peak < 1_000_000  # bytes, of 20 MB
