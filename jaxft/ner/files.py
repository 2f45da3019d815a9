"""The files of a tagging job: those of train, dev and test that `--data` names, and those beside them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxft.data.arrow import ARROW_SUFFIXES
from jaxft.data.document import SPLIT_NAMES
from jaxft.data.files import COMPRESSION_SUFFIXES, expanded
from jaxft.errors import InputError
from jaxft.ner.settings import Settings

PARTS = ("train", "dev", "test")
PART_NAMES = {
    **{name: part for part in PARTS for name, split in {part: part, **SPLIT_NAMES}.items() if split == part},
    **dict.fromkeys(("devel", "develop", "development", "testa"), "dev"),
    **dict.fromkeys(("testing", "testb"), "test"),
}
"""the part that each name of a file stands for; testa and testb are those of CoNLL-2003"""
SUFFIXES = (
    *("", ".txt", ".tsv", ".conll", ".json", ".jsonl", *ARROW_SUFFIXES),
    *(".csv", ".ndjson", ".conllu", ".iob", ".iob2", ".bio", ".bioes", ".bilou", ".bmes", ".ner", ".tags", ".data"),
)
"""suffixes of tagged sentences, from the first that is looked for to the last"""
OTHER_SUFFIXES = (".py", ".sh", ".ipynb", ".md", ".log", ".yaml", ".yml", ".cfg", ".zip", ".tar", ".pdf", ".html")
"""suffixes of files that hold no sentences, whatever they are called"""
MOST_NAMED = 5
"""largest number of ignored files that a line names"""


@dataclass(frozen=True)
class _Candidate:
    """A file whose name holds that of a part: `eng.testa`, `train.txt` or `ner-valid.jsonl.gz`.

    Attributes:
        path: the file.
        part: train, dev or test.
        name: the name of the part as the file spells it.
        rest: the other words of the name.
        suffix: the suffix of the format.
    """

    path: Path
    part: str
    name: str
    rest: tuple[str, ...]
    suffix: str

    def rank(self, suffix: str) -> tuple[int, bool, int]:
        """The order in which files of one part are taken: by the name of the part, and those with this suffix first."""
        known = SUFFIXES.index(self.suffix) if self.suffix in SUFFIXES else len(SUFFIXES)
        return list(PART_NAMES).index(self.name), self.suffix != suffix, known


@dataclass(frozen=True)
class Files:
    """The files of a job.

    Attributes:
        parts: those of train, dev and test; dev and test may be missing.
        beside: the parts whose files were found beside the training file and not named.
        ignored: files of the same folder that are not read, and may be meant.
    """

    parts: Mapping[str, Path]
    beside: Sequence[str] = ()
    ignored: Sequence[Path] = ()

    def alone(self) -> "Files":
        """The files without those that were found beside the training file."""
        parts = {part: path for part, path in self.parts.items() if part not in self.beside}
        return Files(parts, ignored=(*self.ignored, *(self.parts[part] for part in self.beside)))

    def lines(self) -> list[str]:
        """The files that are used and those that are not."""
        used = ", ".join(
            f"{part} {path}{' (found beside the training file)' * (part in self.beside)}"
            for part, path in self.parts.items()
        )
        names = ", ".join(path.name for path in self.ignored[:MOST_NAMED])
        more = f" and {len(self.ignored) - MOST_NAMED:,} more" if len(self.ignored) > MOST_NAMED else ""
        return [f"files: {used}", *[f"files that are not read: {names}{more}"] * bool(names)]


def choose_files(settings: Settings) -> Files:
    """The files that the settings name, and those that lie beside a training file.

    A folder, or the start of names, holds a file for each part. Beside a training file whose name says so, such as
    eng.train or train.txt, files that differ in the name of the part and the suffix alone are its dev and test, unless
    a dev file is named.

    Raises:
        InputError: there is no training file, or there are several.
    """
    named = {name: path for name, path in (("dev", settings.dev), ("test", settings.test)) if path is not None}
    path = expanded(settings.data)
    if path.is_file():
        return _beside(path, named)
    folder, start = (path, "") if path.is_dir() else (path.parent, path.name)
    found = _chosen(list(_candidates(folder, start)), settings.data)
    parts = {part: file for part in PARTS if (file := named.get(part) or found.get(part)) is not None}
    if "train" not in parts:
        first = f"{path}/" if path.is_dir() else f"{path}."
        raise InputError(
            f"--data {settings.data} is not a file, and neither {first}train nor {first}train.txt or another known "
            "suffix exists: name the training file, or the start of the files' names"
        )
    others = _files(folder) if path.is_dir() else [one.path for one in _candidates(folder, start)]
    return Files(parts, ignored=_without(others, parts))


def _beside(path: Path, named: Mapping[str, Path]) -> Files:
    """A training file that is named, and what lies beside it."""
    train = _candidate(path)
    candidates = [one for one in _candidates(path.parent, "") if one.part != "train"]
    if train is None or train.part != "train" or "dev" in named:
        found = {}
    else:
        alike = [one for one in candidates if one.rest == train.rest]
        found = {part: file for part, file in _chosen(alike, "", train.suffix).items() if part not in named}
    parts = {
        "train": path,
        **{part: file for part in PARTS if (file := named.get(part) or found.get(part)) is not None},
    }
    return Files(
        parts,
        beside=tuple(part for part in PARTS if part in found),
        ignored=_without((one.path for one in candidates), parts),
    )


def _chosen(candidates: Sequence[_Candidate], data: str, suffix: str = "") -> dict[str, Path]:
    """The file of each part; those with the fewest other words in their names come first.

    Raises:
        InputError: the names of two training files differ in more than the suffix.
    """
    training = [one for one in candidates if one.part == "train"]
    fewest = min((len(one.rest) for one in training), default=0)
    rests = sorted({one.rest for one in training if len(one.rest) == fewest})
    if len(rests) > 1:
        names = " and ".join(next(one.path.name for one in training if one.rest == rest) for rest in rests[:2])
        raise InputError(f"--data {data} has several training files, such as {names}: name one of them with --data")
    if rests:
        candidates = [one for one in candidates if one.rest == rests[0]]
        suffix = min((one for one in training if one.rest == rests[0]), key=lambda one: one.rank(suffix)).suffix
    chosen: dict[str, Path] = {}
    for one in sorted(candidates, key=lambda one: (one.rank(suffix), one.path.name)):
        chosen.setdefault(one.part, one.path)
    return chosen


def _candidates(folder: Path, start: str) -> Iterator[_Candidate]:
    """The files of a folder that are called as a part, after `start` and a mark."""
    for path in _files(folder):
        if start and not re.match(rf"{re.escape(start)}[._-]", path.name):
            continue
        candidate = _candidate(path, start)
        if candidate is not None:
            yield candidate


def _candidate(path: Path, start: str = "") -> _Candidate | None:
    name = path.name.removeprefix(start).lower()
    for packed in COMPRESSION_SUFFIXES:
        name = name.removesuffix(packed)
    suffix = Path(name).suffix
    if suffix in OTHER_SUFFIXES:
        return None
    if suffix.removeprefix(".") in PART_NAMES or suffix not in SUFFIXES:
        suffix = ""
    words = [word for word in re.split(r"[._-]", name.removesuffix(suffix)) if word]
    places = [place for place, word in enumerate(words) if word in PART_NAMES]
    if len(places) != 1:
        return None
    (place,) = places
    rest = (*words[:place], *words[place + 1 :])
    return _Candidate(path, PART_NAMES[words[place]], words[place], rest, suffix)


def _files(folder: Path) -> list[Path]:
    """The files of a folder by name, without hidden ones; none where the folder cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError:
        return []


def _without(paths: Iterator[Path] | Sequence[Path], parts: Mapping[str, Path]) -> tuple[Path, ...]:
    used = {path.resolve() for path in parts.values()}
    return tuple(path for path in paths if path.resolve() not in used)
