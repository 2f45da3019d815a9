"""Plain texts and WikiText-2 as documents for a language model."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from jaxft.data import plain
from jaxft.data.plain import plain_corpus, wikitext_corpus
from jaxft.data.store import build_store
from jaxft.errors import InputError


def texts(*paths: Path) -> list[str]:
    return [document.text for document in plain_corpus(paths).documents()]


def test_files_folders_and_tars_are_read_in_order(tmp_path: Path):
    folder = tmp_path / "books"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfsecond")  # with a byte-order mark
    (folder / "deep" / "c.md.gz").write_bytes(gzip.compress("dritter Teil, größer".encode()))
    (folder / "ignored.csv").write_text("no text")
    with tarfile.open(folder / "a.tar.xz", "w:xz") as tar:
        for name in ("one.txt", "._one.txt", "cover.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 5
            tar.addfile(member, io.BytesIO(b"first"))
    assert texts(folder) == ["first", "second", "dritter Teil, größer"]
    assert texts(folder / "deep" / "c.md.gz", folder / "b.txt") == ["dritter Teil, größer", "second"]


def test_a_long_text_comes_in_pieces_that_end_between_paragraphs(tmp_path: Path):
    paragraphs = [f"paragraph {i} " + "word " * 400 + "\n\n" for i in range(40)]
    (tmp_path / "book.txt").write_text("".join(paragraphs))
    pieces = texts(tmp_path / "book.txt")
    assert "".join(pieces) == "".join(paragraphs)
    assert all(piece.startswith("paragraph") and len(piece) < plain.PARAGRAPH_END_AFTER + 2_100 for piece in pieces)


def test_a_long_text_without_empty_lines_comes_in_pieces_that_end_with_a_line(tmp_path: Path):
    (tmp_path / "lines.txt").write_text("".join(f"line {i} {'word ' * 20}\n" for i in range(1000)))
    pieces = texts(tmp_path / "lines.txt")
    assert all(piece.startswith("line") and len(piece) < plain.LINE_END_AFTER + 150 for piece in pieces)
    assert len(pieces) > 10


def test_a_text_without_line_breaks_is_not_held_in_memory_as_one(tmp_path: Path):
    text = "x" + "ä" * (3 * plain.MAX_LINE_BYTES + 7)
    (tmp_path / "line.txt").write_text(text)
    pieces = texts(tmp_path / "line.txt")
    assert max(len(piece.encode()) for piece in pieces) == plain.MAX_LINE_BYTES
    assert "".join(pieces) == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_other_systems_and_a_byte_order_mark_are_no_part_of_the_text(tmp_path: Path, end: str):
    lines = ["one", "a" * (plain.MAX_LINE_BYTES - 1), *(f"line {i} {'word ' * 20}" for i in range(500))]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "".join(line + end for line in lines).encode())
    pieces = texts(tmp_path / "a.txt")
    assert "".join(pieces) == "".join(line + "\n" for line in lines)
    assert len(pieces) > 5


def test_a_changed_file_is_another_corpus(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    before = plain_corpus([path]).fingerprint
    path.write_text("other")
    assert plain_corpus([path]).fingerprint != before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"one\r\nna\xefve\n", "line 2 has the byte 0xef, which is not UTF-8"),
        (b"one\ntwo\n\xc3", "line 3 has the byte 0xc3, which is not UTF-8"),
        (b"one\rtwo\rna\xefve\rfour", "line 3 has the byte 0xef, which is not UTF-8"),
        (b"a" * 250_000 + b"\nna\xefve", "line 2 has the byte 0xef, which is not UTF-8"),
        (b"a\0b", "line 1 has a zero byte"),
        (b"one\rtwo\0", "line 2 has a zero byte"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\.txt.*{words}"):
        texts(tmp_path / "bad.txt")


def test_a_path_with_nothing_to_read_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        texts(tmp_path / "missing.txt")
    with pytest.raises(InputError, match=r"holds no \.txt"):
        texts(tmp_path)
    with pytest.raises(InputError, match=r"has no train\.txt"):
        wikitext_corpus(tmp_path)


def wikitext(folder: Path) -> Path:
    (folder / "train.txt").write_text(" \n = One = \n \n The <unk> cat . \n = = Part = = \n sat \n = Two = \n dog \n")
    (folder / "valid.txt").write_text(" = Three = \n The cat \n")
    (folder / "test.txt").write_text(" = Four = \n The dog \n")
    return folder


def test_wikitext_is_taken_word_by_word_with_its_own_splits(tmp_path: Path):
    store = build_store(
        wikitext_corpus(wikitext(tmp_path)), tmp_path / "cache", min_count=1, labelled=False, progress=False
    )
    decoded = [" ".join(store.vocabulary.decode(store[i])) for i in range(len(store))]
    assert decoded == [
        "<eos>",
        "= One = <eos> <eos> The xxunk cat . <eos> = = Part = = <eos> sat <eos>",
        "= Two = <eos> dog <eos>",
        "= xxunk = <eos> The cat <eos>",  # words of held-out texts are not learnt
        "= xxunk = <eos> The dog <eos>",
    ]
    assert store.splits.tolist() == [2, 2, 2, 3, 1]


@pytest.mark.realdata
def test_real_wikitext_has_its_published_size(real_data: Path, tmp_path: Path):
    corpus = wikitext_corpus(real_data / "wikitext-2")
    store = build_store(corpus, tmp_path, max_vocab=100_000, min_count=1, labelled=False, progress=False)
    tokens = [int(store.lengths[store.splits == split].sum()) for split in (2, 3, 1)]
    assert tokens == [2_088_628, 217_646, 245_569]
    assert len(store.vocabulary) == 33_278 + 8  # xxunk is one of the published words, the other special ones are ours
