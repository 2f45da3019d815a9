"""The id store: what it holds, when it is opened, rebuilt or refused, its worker processes and its memory."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jaxft.data import numbering
from jaxft.data.document import Corpus, Document
from jaxft.data.numbering import number_texts
from jaxft.data.store import TokenStore, build_store
from jaxft.data.text import tokenize
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError

DOCUMENTS = [
    Document("Good film, good fun.", "pos", "train"),
    Document("Bad film, bad luck!!!", "neg", "train"),
    Document("A film<br /><br />about film.", None, "unlabelled"),
    Document("Only tests say zyzzyva zyzzyva.", "neg", "test"),
]


def corpus(documents: list[Document], fingerprint: str = "0" * 64) -> Corpus:
    return Corpus("reviews", fingerprint, lambda: iter(documents))


def unreadable() -> Corpus:
    def documents() -> Iterator[Document]:
        raise AssertionError("the corpus was read again")

    return Corpus("reviews", "0" * 64, documents)


def build(documents: list[Document] | Corpus, cache: Path, **options) -> TokenStore:
    given = documents if isinstance(documents, Corpus) else corpus(documents)
    return build_store(given, cache, **{"min_count": 1, "progress": False, **options})


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(numbering, "_CHUNK_CHARACTERS", 100)


def test_a_store_holds_ids_labels_and_splits(tmp_path):
    store = build(DOCUMENTS, tmp_path)
    assert len(store) == 4
    assert store.classes == ("neg", "pos")
    assert store.labels.tolist() == [1, 0, -1, 0]
    assert store.splits.tolist() == [0, 0, 2, 1]
    assert (store.ids.dtype, store.offsets.dtype, store.labels.dtype, store.splits.dtype) == ("u2", "i8", "i4", "i1")
    assert isinstance(store.ids, np.memmap)
    tokens = [tokenize(document.text) for document in DOCUMENTS]
    assert store.lengths.tolist() == list(map(len, tokens))
    for i in range(3):
        assert store.vocabulary.decode(store[i]) == tokens[i]
    with pytest.raises(IndexError, match="document 4 of 4"):
        store[4]
    with pytest.raises(ValueError, match="read-only"):
        store[0][0] = 1


def test_test_texts_count_only_when_transductive(tmp_path):
    store = build(DOCUMENTS, tmp_path)
    assert "zyzzyva" not in store.vocabulary.tokens
    assert store.vocabulary.decode(store[3]).count("xxunk") == 5
    assert "zyzzyva" in build(DOCUMENTS, tmp_path, transductive=True).vocabulary.tokens


def test_the_vocabulary_is_by_frequency(tmp_path):
    # Within train and unlabelled texts: film 4, xxbos 3, good 2, bad 2, "," 2, "." 2, the rest once; specials first.
    store = build(DOCUMENTS, tmp_path, min_count=2)
    assert store.vocabulary.tokens[9:] == ("film", ",", ".", "bad", "good")
    assert build(DOCUMENTS, tmp_path, max_vocab=10).vocabulary.tokens[9:] == ("film",)


def test_a_given_vocabulary_is_used(tmp_path):
    vocabulary = Vocabulary.build({"film": 1, "good": 1}, min_count=1)
    store = build(DOCUMENTS, tmp_path, vocabulary=vocabulary)
    assert store.vocabulary == vocabulary
    assert store[0].tolist() == vocabulary.encode(tokenize(DOCUMENTS[0].text)).tolist()


def test_large_vocabularies_take_wider_ids(tmp_path):
    words = [chr(0x4E00 + i // 300) + chr(0x5F00 + i % 300) for i in range(66_000)]
    documents = [Document(" ".join(words), "a", "train"), Document("one", "b", "train")]
    store = build(documents, tmp_path, max_vocab=70_000)
    assert store.ids.dtype == np.int32
    assert store.vocabulary.decode(store[0]) == ["xxbos", *words]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_nothing(tmp_path, small_chunks, workers):
    rng = np.random.default_rng(0)
    documents = [
        Document(" ".join(f"word{n}" for n in rng.zipf(1.3, 20) % 999), str(i % 3), ("train", "test")[i % 2])
        for i in range(300)
    ]
    alone, together = (build(documents, tmp_path / str(n), workers=n, min_count=2) for n in (1, workers))
    assert alone.vocabulary == together.vocabulary
    for name in ("ids", "offsets", "labels", "splits"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))


@pytest.mark.parametrize("workers", [1, 2])
def test_ids_are_in_order_of_appearance(small_chunks, workers):
    texts = [f"so word{i % 7} and word{i % 11}" for i in range(200)]
    tokens: list[str] = []
    chunks = list(number_texts(texts, tokens, workers))
    assert len(chunks) > 2 * workers
    lengths, ids = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    expected = [tokenize(text) for text in texts]
    assert tokens == list(dict.fromkeys(["xxbos", "xxrep", *(token for text in expected for token in text)]))
    assert lengths.tolist() == list(map(len, expected))
    assert [tokens[i] for i in ids] == [token for text in expected for token in text]


def test_a_second_call_reads_no_text(tmp_path):
    first = build(DOCUMENTS, tmp_path)
    again = build(unreadable(), tmp_path)
    np.testing.assert_array_equal(first.ids, again.ids)
    assert (again.vocabulary, again.classes) == (first.vocabulary, first.classes)


def stores(cache: Path) -> list[Path]:
    """All that is in a cache but the locks, which stay for whoever waits for one."""
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_other_settings_or_texts_are_kept_apart(tmp_path):
    build(DOCUMENTS, tmp_path)
    build(DOCUMENTS, tmp_path, min_count=2)
    build(DOCUMENTS, tmp_path, max_vocab=12)
    build(DOCUMENTS, tmp_path, transductive=True)
    build(DOCUMENTS, tmp_path, vocabulary=Vocabulary.build({}))
    build(corpus(DOCUMENTS[:2], "1" * 64), tmp_path)
    assert len(stores(tmp_path)) == 6
    build(unreadable(), tmp_path)


FILES = ["ids.npy", "offsets.npy", "labels.npy", "splits.npy", "vocabulary.json", "store.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
def test_a_damaged_cache_is_rebuilt(tmp_path, name, damage):
    whole = build(DOCUMENTS, tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-3] if damage == "cut" else b"\x00" * (len(content) + 1))
    rebuilt = build(DOCUMENTS, tmp_path)
    np.testing.assert_array_equal(whole.ids, rebuilt.ids)
    assert path.read_bytes() == content
    build(unreadable(), tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_the_stream_leaves_nothing_behind(tmp_path, small_chunks, workers):
    def documents() -> Iterator[Document]:
        yield from DOCUMENTS * 50
        raise InputError("row 201 has no text")

    with pytest.raises(InputError, match="row 201"):
        build(Corpus("reviews", "0" * 64, documents), tmp_path, workers=workers)
    assert stores(tmp_path) == []


def test_what_a_killed_run_has_left_is_removed(tmp_path):
    build(DOCUMENTS, tmp_path)
    (folder,) = stores(tmp_path)
    shutil.rmtree(folder)
    leftover = tmp_path / f"{folder.name}.tmp"
    leftover.mkdir()
    (leftover / "numbered").write_bytes(bytes(8))
    build(DOCUMENTS, tmp_path)
    assert stores(tmp_path) == [folder]


def test_a_kill_after_the_store_has_its_name_leaves_nothing(tmp_path, monkeypatch):
    seen, replace = [], os.replace

    def replace_and_look(*paths):
        replace(*paths)
        seen[:] = [path.suffix for path in stores(tmp_path)]  # after the last one

    monkeypatch.setattr("jaxft.data.store.os.replace", replace_and_look)
    build(DOCUMENTS, tmp_path)
    assert seen == [""]


def test_who_comes_while_a_store_is_built_waits_for_it(tmp_path, capsys):
    waiting = threading.Event()

    def documents() -> Iterator[Document]:
        yield from DOCUMENTS
        assert waiting.wait(10)

    def wait() -> TokenStore:
        while not list(tmp_path.glob("*.tmp")):
            time.sleep(0.01)
        threading.Timer(0.3, waiting.set).start()
        return build(unreadable(), tmp_path)

    with ThreadPoolExecutor(1) as pool:
        waited = pool.submit(wait)
        built = build(Corpus("reviews", "0" * 64, documents), tmp_path, workers=1)
        np.testing.assert_array_equal(waited.result().ids, built.ids)
    assert "waiting for another process that tokenizes the same texts" in capsys.readouterr().err
    assert [path.suffix for path in stores(tmp_path)] == [""]


def test_the_lock_of_a_store_stays_for_all_users(tmp_path):
    before = os.umask(0o077)
    try:
        build(DOCUMENTS, tmp_path)
    finally:
        os.umask(before)
    (lock,) = tmp_path.glob(".*.lock")
    inode = lock.stat().st_ino
    assert lock.stat().st_mode & 0o777 == 0o666
    shutil.rmtree(stores(tmp_path)[0])
    build(DOCUMENTS, tmp_path)
    assert lock.stat().st_ino == inode


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "reviews has no texts"),
        (DOCUMENTS[1:], "has only the label 'neg' in its train split"),
        (DOCUMENTS[2:], "has no label in its train split"),
        ([*DOCUMENTS, Document("New.", "neutral", "test")], "label 'neutral' in its dev or test split but not"),
    ],
)
def test_labels_that_will_not_do_are_refused(tmp_path, documents, message):
    with pytest.raises(InputError, match=message):
        build(documents, tmp_path)
    assert stores(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"file.* cannot be written \(.*\): free some space"):
        build(DOCUMENTS, tmp_path / "file")


def test_a_language_model_needs_no_labels(tmp_path):
    store = build([Document("Some text.", None, "unlabelled")], tmp_path, labelled=False)
    assert store.classes == ()
    assert store.labels.tolist() == [-1]


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    labels = ["10", "9", "-1", "2.5", "b", "a"]
    store = build([Document("Fine.", label, "train") for label in labels], tmp_path)
    assert store.classes == ("-1", "2.5", "9", "10", "a", "b")
    assert [store.classes[i] for i in store.labels] == labels


def test_a_text_of_nothing_but_space_is_xxbos(tmp_path):
    store = build([Document(" \n", "a", "train"), Document("b", "b", "train")], tmp_path)
    assert store.vocabulary.decode(store[0]) == ["xxbos"]


def test_a_worker_that_dies_is_reported(monkeypatch, small_chunks):
    monkeypatch.setattr(numbering, "_START", "import sys; sys.exit(3)")
    with pytest.raises(InputError, match="process ended with status 3: free some memory"):
        list(number_texts(["some text"] * 100, [], 2))


def test_a_worker_imports_the_tokenizer_alone():
    code = numbering._START.replace(
        '\nserve(kind == "pretokenized")', "\nimport json; print(json.dumps(list(sys.modules)))"
    )
    folder = str(Path(numbering.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code, folder, "raw", *sys.path], check=True, capture_output=True, text=True
    )
    modules = json.loads(result.stdout)
    assert "jaxft.data.text" in modules
    assert not {"jax", "numpy", "optax", "tqdm"} & set(modules)


# Prints the peak of Python's memory with two workers elsewhere, then with the work done here.
MEASURED = """
import sys, tempfile, tracemalloc
from pathlib import Path
from random import Random
from jaxft.data import numbering, store
from jaxft.data.document import Corpus, Document

numbering._CHUNK_CHARACTERS, store._BLOCK = 20_000, 10_000
random, words = Random(0), [f"{chr(97 + i % 26)}{i}word" for i in range(4000)]
def documents():
    for i in range(int(sys.argv[1])):
        yield Document(" ".join(random.choices(words, k=200)), str(i % 2), "train")
for workers in 2, 1:
    with tempfile.TemporaryDirectory() as cache:
        tracemalloc.start()
        corpus = Corpus("generated", "0", documents)
        store.build_store(corpus, Path(cache), min_count=1, workers=workers, progress=False)
        print(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus():
    def peaks(documents: int) -> list[int]:
        command = [sys.executable, "-c", MEASURED, str(documents)]
        return [int(peak) for peak in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()]

    for once, tenfold in zip(peaks(200), peaks(2000), strict=True):
        assert tenfold < 1.1 * once


@pytest.mark.parametrize("subwords", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_text_gets_the_ids_in_a_file_that_it_gets_alone(tmp_path, small_chunks, subwords, workers):
    texts = [
        "so good \U0001f44d\U0001f3fd\U0001f44d\U0001f3fd and\U0001f468\u200d\U0001f469\u200d\U0001f467!",
        "\U0001f1e9\U0001f1ea flag, \u2764\ufe0f heart, 1\ufe0f\u20e3 keycap",
        "GREAT\u00a0film\u2028no no no... caf\u00e9 cafe\u0301 \u200b x\ufffdy",
    ] * 3
    documents = [Document(text, ("pos", "neg")[i % 2], "train") for i, text in enumerate(texts)]
    store = build(documents, tmp_path, subwords=subwords, workers=workers, max_vocab=400)
    for i, ids in enumerate(store.vocabulary.encode_texts(texts)):
        assert store[i].tolist() == ids.tolist()
        if not subwords:
            assert store.vocabulary.encode(tokenize(texts[i])).tolist() == ids.tolist()


def test_equal_texts_have_equal_keys(tmp_path):
    store = build([*DOCUMENTS, Document("Good  film, good fun.\n", "pos", "train")], tmp_path)
    assert len(set(store.keys[:4].tolist())) == 4
    assert store.keys[4] == store.keys[0]
    assert store.reversed().keys.tolist() == store.keys.tolist()[::-1]
