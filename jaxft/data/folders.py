"""Folders of data: one table for each split, or one folder of text files for each class.

`train.csv`, `valid.csv` and `test.csv` in a folder are one table whose rows name their split. Folders of classes hold
a text in each .txt file; they lie in the folder itself, or in one folder for each split.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxft.data.delimited import listed_names
from jaxft.data.document import SPLIT_NAMES, Split
from jaxft.data.files import decompressed, text_lines, within_limit
from jaxft.errors import InputError


def split_files(folder: Path, is_table: Callable[[Path], bool]) -> dict[Split, Path]:
    """The table of each split in a folder, by the names in `SPLIT_NAMES`; empty where there is none.

    Raises:
        InputError: two files of one split.
    """
    files: dict[Split, Path] = {}
    for path in sorted(folder.iterdir()):
        split = SPLIT_NAMES.get(path.name.lower().partition(".")[0])
        if split is None or not path.is_file() or not is_table(path):
            continue
        if split in files:
            raise InputError(
                f"{folder} has two files of the split {split}, {files[split].name} and {path.name}: move one"
            )
        files[split] = path
    return {split: files[split] for split in ("train", "dev", "test", "unlabelled") if split in files}


def class_folders(folder: Path) -> list[tuple[Path, str | None, Split | None]]:
    """The folders of text files below `folder`, each with its class and split; empty where there are none.

    A folder that is called as a split of `SPLIT_NAMES` holds folders of classes, or, for unlabelled texts, the texts.
    """
    entries: list[tuple[Path, str | None, Split | None]] = []
    for path in _folders(folder):
        split = SPLIT_NAMES.get(path.name.lower())
        inner = [(path, path.name)] if split is None else [(one, one.name) for one in _folders(path)]
        if split == "unlabelled" and not inner:
            entries.append((path, None, split))
        for one, name in inner:
            unlabelled = SPLIT_NAMES.get(name.lower()) == "unlabelled"
            entries.append((one, None, "unlabelled") if unlabelled else (one, name, split))
    return [entry for entry in entries if any(entry[0].glob("*.txt"))]


def read_class_folders(folder: Path) -> Iterator[tuple[str, str | None, Split | None]]:
    """Streams the text, class and split of every file of `class_folders`, in the order of the names.

    Raises:
        InputError: a text is empty, is not UTF-8 or cannot be read.
    """
    for path, label, split in _files(folder):
        with decompressed(path) as stream:
            text = "".join(within_limit(text_lines(stream, path), path))
        if not text.strip():
            raise InputError(f"{path} is an empty text: remove the file or fill it in")
        yield text, label, split


def folder_notes(folder: Path) -> list[str]:
    """At most one line, which names the files of a folder of classes that are not read.

    Raises:
        InputError: the folder cannot be read.
    """
    used = {path for path, _, _ in _files(folder)}
    others = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path not in used)
    return [f"{folder}: reads {len(used):,} files, and not {listed_names(others)}"] * bool(others)


def folder_fingerprint(folder: Path) -> str:
    """The hexadecimal sha256 of the names, sizes and modification times of all files of `class_folders`."""
    digest = hashlib.sha256(b"class folders")
    for path, label, split in _files(folder):
        stat = path.stat()
        digest.update(f"\n{split}/{label}/{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[Path, str | None, Split | None]]:
    for inner, label, split in class_folders(folder):
        for path in sorted(inner.glob("*.txt")):
            yield path, label, split


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
