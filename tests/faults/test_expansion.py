"""Small compressed files that expand to one line or field of hundreds of megabytes: refused early, in little memory."""

import bz2
import gzip
import io
import lzma
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from jaxft.data import files
from jaxft.data.arrow import arrow_rows
from jaxft.data.columns import Columns
from jaxft.data.corpus import open_corpus
from jaxft.data.table import rows
from jaxft.data.tagged_files import read_sentences
from jaxft.predict import STANDARD_INPUT, read_texts
from tests.faults.outcomes import Outcome, run

OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": partial(gzip.open, mode="wb", compresslevel=1),
    ".bz2": partial(bz2.open, mode="wb", compresslevel=1),
    ".xz": partial(lzma.open, mode="wb", preset=0),
    ".zst": lambda path: pyarrow.CompressedOutputStream(str(path), "zstd"),
}
PART = 1 << 20
TEXT = b"x" * 4095 + b"\n"
VALUE = b'"' + b"x" * 4092 + b'",\n'
READERS: dict[str, tuple[bytes, bytes, Callable[[Path], object]]] = {
    "a.csv": (b"text,label\n", b"x", lambda path: list(rows(path))),
    "quoted.csv": (b'text,label\n"', TEXT, lambda path: list(rows(path))),
    "a.tsv": (b"text\tlabel\n", b"x", lambda path: list(rows(path))),
    "quoted.tsv": (b'text\tlabel\n"a"\tb\n"', b"x", lambda path: list(rows(path))),
    "a.jsonl": (b'{"text": "', b"x", lambda path: list(rows(path))),
    "a.json": (b'[{"text": "', b"x", lambda path: list(rows(path))),
    "indented.json": (b"[\n", VALUE, lambda path: list(rows(path))),
    "a.txt": (b"", b"x", lambda path: list(read_texts(path, Columns()))),
    "a.conll": (b"Ada B-PER\n", b"x", read_sentences),
    "tagged.csv": (b"word,tag\nAda,B-PER\n", b"x", read_sentences),
    "tagged.json": (b"[\n", VALUE, read_sentences),
    "tagged.jsonl": (b'{"tokens": ["', b"x", read_sentences),
}
"""by the name of a file: how its content begins, what it repeats, and what reads it"""


def write(path: Path, start: bytes, repeated: bytes, megabytes: int) -> Path:
    with OPENERS[path.suffix](path) as file:
        file.write(start)
        for _ in range(megabytes):
            file.write(repeated * (PART // len(repeated)))
    return path


def assert_refused(outcome: Outcome, name: str, megabytes: int) -> None:
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert name in outcome.err
    assert "expands to more than" in outcome.err
    assert outcome.megabytes < megabytes


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(files, "LARGEST_LINE", 1 << 17)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("suffix", OPENERS)
@pytest.mark.parametrize("name", READERS)
def test_what_expands_too_far_is_refused(tmp_path, name, suffix):
    start, repeated, read = READERS[name]
    path = write(tmp_path / f"{name}{suffix}", start, repeated, 1)
    assert_refused(run(lambda: read(path)), path.name, 24)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_field_of_300_megabytes_is_refused(tmp_path, name):
    start, repeated, read = READERS[name]
    path = write(tmp_path / f"{name}.gz", start, repeated, 300)
    assert_refused(run(lambda: read(path)), path.name, 400)


@pytest.mark.usefixtures("small_limit")
def test_a_line_of_standard_input_has_a_limit(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * (2 << 20))))
    outcome = run(lambda: list(read_texts(STANDARD_INPUT, Columns())))
    assert_refused(outcome, "standard input, line 1", 24)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_a_value_of_a_columnar_file_has_a_limit(tmp_path, suffix):
    path, table = tmp_path / f"a{suffix}", pyarrow.table({"text": ["x" * (8 << 20)]})
    if suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, compression="zstd")
    else:
        pyarrow.feather.write_feather(table, str(path), compression="zstd")
    assert_refused(run(lambda: list(arrow_rows(path))), path.name, 48)


@pytest.mark.usefixtures("small_limit")
def test_a_text_of_a_folder_of_classes_has_a_limit(tmp_path):
    (tmp_path / "data/good").mkdir(parents=True)
    write(tmp_path / "a.gz", b"", TEXT, 1).rename(tmp_path / "data/good/a.txt")
    assert_refused(run(lambda: list(open_corpus(str(tmp_path / "data")).documents())), "a.txt", 24)


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
def test_a_large_file_may_hold_a_long_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(files, "LARGEST_LINE", 1 << 10)
    start, repeated, read = READERS[name]
    end = {"a.csv": b",good\n", "a.json": b'"}]', "a.jsonl": b'"}\n'}[name]
    path = tmp_path / name
    path.write_bytes(start + repeated * (1 << 20) + end)
    assert len(read(path)) == 1  # pyright: ignore[reportArgumentType]
