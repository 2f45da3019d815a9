"""Damaged inputs: a few random ones of every kind, and those that have fallen by name."""

import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft.base.files import read_json
from jaxft.base.tensor_files import load_params
from jaxft.data.arrow import arrow_rows
from jaxft.data.columns import Columns
from jaxft.data.corpus import open_corpus
from jaxft.data.files import file_hash
from jaxft.data.imdb import read_folder
from jaxft.data.json_values import json_values
from jaxft.data.labels import class_label
from jaxft.data.pieces import load_tokenizer
from jaxft.data.plain import plain_corpus
from jaxft.data.store import build_store
from jaxft.data.table import labelled_rows
from jaxft.data.tagged_files import read_sentences
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.load import load
from jaxft.models.checkpoint_files import read_checkpoint, read_config
from jaxft.models.encoders import open_checkpoint
from jaxft.models.fastai import read_state, read_vocabulary
from jaxft.predict import read_texts
from jaxft.training.metrics_log import MetricsLog, read_metrics
from tests.checkpoints import write_checkpoint
from tests.data.corpus_files import tar_bytes, write
from tests.faults import mutations
from tests.faults.mutations import Fuzzer
from tests.faults.outcomes import run


def read_review(path: Path) -> None:
    """Reads a file as a review of IMDB."""
    for folder in ("pos", "neg"):
        (path.parent / "train" / folder).mkdir(parents=True)
    os.rename(path, path.parent / "train/pos" / path.name)
    list(read_folder(path.parent))


READERS: dict[str, Callable[[Path], object]] = {
    "a.csv": lambda path: list(labelled_rows(path, Columns(), class_label)),
    "a.tsv": lambda path: list(labelled_rows(path, Columns(), class_label)),
    "a.jsonl": lambda path: list(labelled_rows(path, Columns(), class_label)),
    "a.json": lambda path: list(labelled_rows(path, Columns(), class_label)),
    "a.parquet": lambda path: list(labelled_rows(path, Columns(), class_label)),
    "a.arrow": lambda path: list(labelled_rows(path, Columns(), class_label)),
    "a.txt": lambda path: list(read_texts(path, Columns())),
    "a.conll": read_sentences,
    "tagged.json": json_values,
    "imdb.tar": lambda path: list(open_corpus(str(path)).documents()),
    "plain.txt": lambda path: list(plain_corpus([path]).documents()),
    "hashed": lambda path: file_hash(path, ""),
    "config.json": lambda path: read_config(path.parent),
    "model.safetensors": lambda path: read_checkpoint(path.parent),
    "pytorch_model.bin": lambda path: read_checkpoint(path.parent),
    "model.safetensors.index.json": lambda path: read_checkpoint(path.parent),
    "tokenizer.json": lambda path: load_tokenizer(path.parent),
    "vocabulary.json": Vocabulary.load,
    "model.json": lambda path: load(path.parent),
    "params.safetensors": load_params,
    "metrics.jsonl": read_metrics,
    "new_metrics.jsonl": MetricsLog,
    "run.json": read_json,
    "0_2.txt": lambda path: read_review(path),
    "weights.pth": read_state,
    "itos.pkl": read_vocabulary,
}
"""what reads a file of each name"""
SHARED = {"config.json": "model.safetensors"}
"""what has to be there for a file to be read"""


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a circular link", "a dangling link"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, name, kind):
    path = tmp_path / name
    if name in SHARED:
        write(tmp_path / SHARED[name], "")
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("the platform has no pipes with names")
        os.mkfifo(path)
    else:
        path.symlink_to(path.name if kind == "a circular link" else "nowhere")
    if name == "new_metrics.jsonl" and kind == "a dangling link":
        return  # a new log is written to where the link leads
    outcome = run(lambda: READERS[name](path))
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    if kind == "a pipe" and name != "plain.txt":
        assert "where a file is needed" in outcome.err


DEEP = "[" * 100_000
ROW = '{{"text": "a", "label": {}, "tokens": ["a"], "tags": ["O"]}}\n'
ODD = {
    "half a surrogate pair": '"\\ud800"',
    "a number of 5,000 digits": "1" * 5000,
    "deep nesting": DEEP + "]" * 100_000,
    "an object": '{"a": 1}',
    "a number beyond those of a float": "1e400",
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_labels_of_json_are_refused(tmp_path, odd):
    path = write(tmp_path / "a.jsonl", ROW.format('"good"') + ROW.format(ODD[odd]))
    outcome = run(lambda: list(labelled_rows(path, Columns(), class_label)))
    assert outcome.status == 2
    assert "a.jsonl, line 2" in outcome.err


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "run.json", "config.json", "vocabulary.json", "metrics.jsonl"])
def test_deep_nesting_is_refused(tmp_path, name):
    path = write(tmp_path / name, DEEP + "\n")
    if name in SHARED:
        write(tmp_path / SHARED[name], "")
    outcome = run(lambda: READERS[name](path))
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert name in outcome.err


def test_a_damaged_store_of_texts_is_written_anew(tmp_path):
    corpus = open_corpus(str(write(tmp_path / "a.csv", "text,label,split\nx,a,train\ny,b,train\nz,a,test\n")))
    build_store(corpus, tmp_path / "cache", min_count=1, progress=False)
    (path,) = (tmp_path / "cache").glob("*/store.json")
    for content in (DEEP, "[]", "null", "{}"):
        path.write_text(content)
        assert build_store(corpus, tmp_path / "cache", min_count=1, progress=False).classes == ("a", "b")


SPAN_ROW = {"text": "Ada came.", "entities": [{"id": 1, "label": "\ud800", "start_offset": 0, "end_offset": 3}]}


def test_the_type_of_a_span_is_a_whole_text(tmp_path):
    path = write(tmp_path / "a.jsonl", json.dumps(SPAN_ROW) + "\n")
    with pytest.raises(InputError, match=r"a\.jsonl, line 1 has half a surrogate pair"):
        read_sentences(path)


@pytest.mark.parametrize("place", ["1e400", "-1e400", "NaN", "null", "[]", '"a"'])
def test_the_place_of_a_token_is_a_number(tmp_path, place):
    row = '{"text": "Ada", "tokens": [{"text": "Ada", "start": PLACE, "end": 3}], "spans": [], "answer": "accept"}'
    path = write(tmp_path / "a.jsonl", row.replace("PLACE", place) + "\n")
    outcome = run(lambda: read_sentences(path))
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "a.jsonl, line 1" in outcome.err


def test_an_arrow_file_with_offsets_beyond_its_text_is_refused(tmp_path):
    path = tmp_path / "a.arrow"
    pyarrow.feather.write_feather(pyarrow.table({"text": ["one", "two"]}), str(path), compression="uncompressed")
    offsets, wrong = bytes([0, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0]), bytes([0, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 64])
    content = path.read_bytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, wrong))
    with pytest.raises(InputError, match=r"a\.arrow is no \.arrow file, or a damaged one"):
        list(arrow_rows(path))


def test_a_tar_in_zstandard_is_read(tmp_path):
    content = pyarrow.compress(tar_bytes({"a.txt": "some text\n"}), "zstd", asbytes=True)
    path = write(tmp_path / "a.tar.zst", content)
    assert [document.text for document in plain_corpus([path]).documents()] == ["some text\n"]
    path.write_bytes(pyarrow.compress(tar_bytes({"a.txt": "some text\n"})[:1024], "zstd", asbytes=True))
    with pytest.raises(InputError, match="truncated"):
        list(plain_corpus([path]).documents())


SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@pytest.mark.parametrize("key", [*SIZES, "max_position_embeddings", "type_vocab_size"])
@pytest.mark.parametrize("size", [10**12, 2**31 - 2, 12345678901234567890])
def test_a_size_that_no_weights_have_is_refused_without_memory(tmp_path, key, size):
    write_checkpoint(tmp_path / "encoder", **{key: size})
    outcome = run(partial(open_checkpoint, tmp_path / "encoder", 2))
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "config.json" in outcome.err
    assert outcome.megabytes < 200


@given(st.integers(0, 2**32))
def test_a_mutation_is_a_function_of_its_seed(seed):
    content = b'{"a": [1, 2, {"b": "c"}]}\n{"d": null}\n'
    for mutate in (*mutations.BYTES, mutations.retyped):
        once, again = (mutate(content, random.Random(seed)) for _ in range(2))
        assert once == again


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        work = tmp_path_factory.mktemp("faults")
        patch.setenv("JAXFT_CACHE", str(work / "cache"))
        yield Fuzzer(work, seed=0, kinds=("tables", "corpora", "tagged", "runs"))


@pytest.mark.parametrize("number", range(40))
def test_a_damaged_input_is_answered_or_refused(fuzzer, number):
    assert fuzzer.fault(number) is None
