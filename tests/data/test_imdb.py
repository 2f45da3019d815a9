"""The aclImdb layout as documents: from a folder or a tar, and which archives are refused."""

import gzip
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from jaxft.data.corpus import open_corpus
from jaxft.errors import InputError
from tests.data.corpus_files import (
    COMPRESS,
    DOCUMENTS,
    REVIEWS,
    aclimdb_tar,
    documents,
    refusal,
    tar_bytes,
    write,
    write_folder,
)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.fixture
def archive() -> bytes:
    return aclimdb_tar()


def test_a_folder_and_its_parent_are_read_in_one_order(tmp_path):
    root = write_folder(tmp_path / "aclImdb")
    assert documents(root) == documents(tmp_path) == DOCUMENTS
    assert open_corpus(str(tmp_path)).name == "aclImdb"


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("prefix", ["aclImdb/", "./aclImdb/", ""])
def test_an_archive_is_read_in_the_order_of_its_members(tmp_path, prefix, compression):
    members: dict[str, str | bytes] = {prefix + name: text for name, text in {"README": "About.", **REVIEWS}.items()}
    members[f"__MACOSX/{prefix}train/pos/._0_9.txt"] = b"\0\5\x16\7"
    path = write(tmp_path / f"reviews.tar{compression}", COMPRESS[compression](tar_bytes(members)))
    assert documents(path) == DOCUMENTS
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_tells_the_compression(tmp_path, archive):
    assert documents(write(tmp_path / "unpacked_by_a_browser.tar.gz", archive)) == DOCUMENTS
    assert documents(write(tmp_path / "a.tgz", gzip.compress(archive))) == DOCUMENTS


@pytest.mark.parametrize(
    ("member", "pattern"),
    [
        (special("aclImdb/../../x.txt", tarfile.REGTYPE), "unsafe name"),
        (special("/etc/train/pos/x.txt", tarfile.REGTYPE), "unsafe name"),
        (special("C:\\train\\pos\\x.txt", tarfile.REGTYPE), "unsafe name"),
        (special("a\\..\\..\\x.txt", tarfile.REGTYPE), "unsafe name"),
        (special("aclImdb/train/pos/9_9.txt", tarfile.SYMTYPE, "/etc/passwd"), "a link or a device"),
        (special("aclImdb/train/pos/9_9.txt", tarfile.LNKTYPE, "aclImdb/README"), "a link or a device"),
        (special("aclImdb/pipe", tarfile.FIFOTYPE), "a link or a device"),
        (special("aclImdb/train/pos/9_9.txt", tarfile.REGTYPE), "9_9.txt is an empty review"),
    ],
)
def test_unsafe_and_empty_members_are_refused(tmp_path, member, pattern):
    path = write(tmp_path / "bad.tar", tar_bytes(REVIEWS, member))
    assert pattern in refusal(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_review_in_another_encoding_is_named(tmp_path):
    path = write(tmp_path / "latin.tar", tar_bytes({**REVIEWS, "train/pos/9_9.txt": "Très".encode("latin-1")}))
    assert "train/pos/9_9.txt has the byte 0xe8, which is not UTF-8" in refusal(path)
    root = write_folder(tmp_path / "aclImdb")
    write(root / "train/neg/5_1.txt", b"\xff")
    assert "5_1.txt has the byte 0xff, which is not UTF-8" in refusal_in(root, "5_1.txt")


def refusal_in(root: Path, name: str) -> str:
    with pytest.raises(InputError) as caught:
        documents(root)
    assert name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_truncated_archive_is_refused_wherever_it_is_cut(tmp_path, archive, compression):
    # without the blocks of zeros at the end, of which one is enough and tars differ in how many more they hold
    whole = COMPRESS[compression](archive[: len(archive.rstrip(b"\0")) // 512 * 512 + 1024])
    path = tmp_path / f"cut.tar{compression}"
    assert documents(write(path, whole)) == DOCUMENTS
    step = 512 if not compression else max(1, len(whole) // 25)
    for size in range(step, len(whole) - 511 if not compression else len(whole), step):
        refusal(write(path, whole[:size]))


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (b"not a tar at all" * 100, "is not a tar, or a truncated one"),
        (b"", "is empty"),
        (tar_bytes({"other/readme.txt": "Hm."}), "has no aclImdb layout"),
        (tar_bytes({}), "has no aclImdb layout"),
        (b"\x28\xb5\x2f\xfd....", "truncated or corrupt"),
    ],
)
def test_what_is_no_aclimdb_archive_is_refused(tmp_path, content, pattern):
    assert pattern in refusal(write(tmp_path / "other.tar", content))


def test_a_folder_without_the_layout_is_refused(tmp_path):
    write(tmp_path / "reviews" / "pos" / "0_9.html", "Fine.")
    assert "no folder of .txt files for each class and no aclImdb layout" in refusal(tmp_path / "reviews")


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_archive_has_its_published_sizes(real_data):
    corpus = open_corpus(str(real_data / "imdb" / "aclImdb_v1.tar.xz"))
    kinds = Counter((document.split, document.label) for document in corpus.documents())
    assert kinds == {
        ("train", "pos"): 12_500,
        ("train", "neg"): 12_500,
        ("test", "pos"): 12_500,
        ("test", "neg"): 12_500,
        ("unlabelled", None): 50_000,
    }
