"""Damages valid inputs of every kind at random, and checks what becomes of the commands that read them.

    python -m tests.faults.mutations --tries 2000 --seed 0

Each try copies a small valid input, damages one of its files, and runs a command on it, which has to answer with
finite numbers or to end in one sentence that names the file; see `tests.faults.outcomes`. A try depends on the seed and
on its number alone: `--only 17` repeats try 17, and leaves its folder.
"""

import argparse
import faulthandler
import gzip
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import jax

from tests.faults import targets
from tests.faults.outcomes import fault_of, run
from tests.faults.targets import Target

DEEP = "[" * 100_000 + "]" * 100_000
ODD_JSON = (
    *(
        "null",
        "true",
        "-1",
        "0",
        "0.5",
        "1e400",
        "-1e400",
        "1e39",
        "NaN",
        "Infinity",
        "12345678901234567890",
        "1" * 5000,
    ),
    *('""', '"\\ud800"', '"\\u0000"', '"NaN"', '"a\\nb"', '"__proto__"', "[]", "{}", "[[]]", "[null]", '[1, "a"]'),
    *('{"a": {"b": null}}', "1000000000000", "2147483648", f'"{"x" * 5000}"', DEEP),
)
"""values of JSON that nobody expects, as they are written"""
ODD_BYTES = (b"\0", b"\xff", b"\r", b"\n", b'"', b"\xef\xbb\xbf", b"\xed\xa0\x80", b"1e400", b"NaN", b"9" * 5000)
ODD_BYTES = (*ODD_BYTES, b"\t", b",", b"{", b"[" * 2000, "\u2028\u202e\u0600".encode(), b"\x1a", b"x" * 100_000)


def flipped(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def block(content: bytes, rng: random.Random) -> slice:
    start = rng.randrange(len(content))
    return slice(start, min(len(content), start + rng.choice((1, 8, 64, 512))))


def repeated(content: bytes, rng: random.Random) -> bytes:
    place = block(content, rng)
    return content[: place.stop] + content[place] * rng.choice((1, 2, 100)) + content[place.stop :]


def removed(content: bytes, rng: random.Random) -> bytes:
    place = block(content, rng)
    return content[: place.start] + content[place.stop :]


def swapped(content: bytes, rng: random.Random) -> bytes:
    first, second = sorted((block(content, rng), block(content, rng)), key=lambda place: place.start)
    if second.start < first.stop:
        return removed(content, rng)
    middle = content[first.stop : second.start]
    return content[: first.start] + content[second] + middle + content[first] + content[second.stop :]


def inserted(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice(ODD_BYTES) + content[place:]


def zeroed(content: bytes, rng: random.Random) -> bytes:
    place = block(content, rng)
    return content[: place.start] + bytes(place.stop - place.start) + content[place.stop :]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flipped,
    cut,
    repeated,
    removed,
    swapped,
    inserted,
    zeroed,
)


def retyped(content: bytes, rng: random.Random) -> bytes:
    """JSON, or a line of JSON lines, or the header of safetensors, with an odd value in one place."""
    if content[8:9] == b"{" and content[:1] not in b"[{":
        size = int.from_bytes(content[:8], "little")
        header = retyped(content[8 : 8 + size], rng)
        return len(header).to_bytes(8, "little") + header + content[8 + size :]
    try:
        return _with_odd_value(json.loads(content), rng).encode()
    except ValueError:
        lines = content.split(b"\n")
    number = rng.randrange(len(lines))
    try:
        lines[number] = _with_odd_value(json.loads(lines[number]), rng).encode()
    except ValueError:
        return inserted(content, rng)
    return b"\n".join(lines)


def _with_odd_value(value: Any, rng: random.Random) -> str:
    mark = "\ue000"
    node: Any = value
    key: Any = None
    parent: Any = None
    while isinstance(node, dict | list) and node and (parent is None or rng.random() < 0.85):
        parent, key = node, rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = parent[key]
    if parent is None:
        return rng.choice(ODD_JSON)
    if rng.random() < 0.15:
        del parent[key]
    elif rng.random() < 0.1 and isinstance(parent, dict):
        parent[rng.choice(["", "a" * 5000, "kind", "\ud800"])] = parent.pop(key)
    else:
        parent[key] = mark
    return json.dumps(value).replace(json.dumps(mark), rng.choice(ODD_JSON))


def damage(path: Path, others: Sequence[Path], rng: random.Random) -> str:
    """Damages a file, and says how."""
    content = path.read_bytes()
    how = rng.random()
    if how < 0.15 or not content:
        return _replace(path, others, rng)
    if content.startswith(b"\x1f\x8b") and how < 0.5:
        mutate = rng.choice((*BYTES, retyped))
        path.write_bytes(gzip.compress(mutate(gzip.decompress(content), rng)))
        return f"{mutate.__name__} inside"
    mutate = retyped if how > 0.55 and _is_json(content) else rng.choice(BYTES)
    path.write_bytes(mutate(content, rng))
    return mutate.__name__


def _is_json(content: bytes) -> bool:
    return content[:1] in (b"{", b"[") or content[8:9] == b"{"


def _replace(path: Path, others: Sequence[Path], rng: random.Random) -> str:
    """Puts something else in the place of a file."""
    how = rng.choice(("empty", "missing", "a folder", "a pipe", "a dangling link", "a circular link", "another file"))
    content = rng.choice(others).read_bytes()
    path.unlink()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "a folder":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a dangling link":
        path.symlink_to("nowhere")
    elif how == "a circular link":
        path.symlink_to(path.name)
    elif how == "another file":
        path.write_bytes(content)
    return how


class Fuzzer:
    """Valid inputs, and tries that damage copies of them.

    Args:
        work: a folder for the inputs and their copies.
        seed: of all tries.
        kinds: of the inputs; those of `targets`.
    """

    def __init__(self, work: Path, seed: int, kinds: Sequence[str] = ("tables", "corpora", "tagged", "checkpoints")):
        self.work, self.seed = work, seed
        self.targets: list[tuple[Target, Path]] = []
        for number, target in enumerate(chain.from_iterable(all_targets(work)[kind] for kind in kinds)):
            folder = work / "valid" / str(number)
            folder.mkdir(parents=True)
            target.write(folder)
            self.targets.append((target, folder))

    def valid(self) -> list[str]:
        """The inputs that are refused as they are; there should be none."""
        return [message for target, folder in self.targets if (message := self._try(target, folder, None))]

    def fault(self, number: int) -> str | None:
        """What is wrong with the outcome of a try; None if nothing is."""
        rng = random.Random(f"{self.seed} {number}")
        return self._try(*rng.choice(self.targets), rng)

    def _try(self, target: Target, valid: Path, rng: random.Random | None) -> str | None:
        folder = self.work / "try"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(valid, folder)
        name, how = "", "as it is"
        if rng is not None:
            name = rng.choice(target.files(folder))
            others = [path for path in valid.parent.rglob("*") if path.is_file()]
            how = damage(folder / name, others, rng)
        before = _listing(folder)
        outcome = run(lambda: target.command(folder))
        fault = fault_of(outcome, _names(folder, name))
        if fault is None and outcome.status and (left := _listing(folder) - before):
            fault = f"leaves {sorted(left)}"
        if rng is None and outcome.status:
            fault = f"is refused: {outcome.err}"
        return fault and f"{target.name}, {name} {how}: {fault}"


def _listing(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "cache" not in path.parts}


def _names(folder: Path, name: str) -> list[str]:
    """What a sentence may call a damaged file: by its name, or by that of a folder that it lies in."""
    parts = Path(name).parts
    return [parts[-1], *(f"{folder.name}/{part}" for part in parts[:-1]), f"{folder} "] if parts else []


def all_targets(work: Path) -> dict[str, Any]:
    return {
        "tables": targets.tables(),
        "corpora": targets.corpora(),
        "tagged": targets.tagged(),
        "checkpoints": targets.checkpoints(),
        "models": targets.models(work / "making"),
        "runs": targets.runs(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the one try to make, whose folder is kept")
    parser.add_argument("--kinds", nargs="*", default=list(all_targets(Path())))
    asked = parser.parse_args(arguments)
    faulthandler.enable()
    jax.config.update("jax_disable_most_optimizations", True)  # the programs are many and small
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    os.environ |= {"JAXFT_CACHE": str(work / "cache"), "TQDM_DISABLE": "1"}
    fuzzer = Fuzzer(work, asked.seed, asked.kinds)
    started, faults = time.monotonic(), fuzzer.valid()
    print("\n".join(f"valid input {fault}" for fault in faults), flush=True)
    if asked.only is not None:
        print(fuzzer.fault(asked.only), work, sep="\n")
        return
    for number in range(asked.tries):
        faulthandler.dump_traceback_later(120, exit=True)  # where the time limit does not reach
        if fault := fuzzer.fault(number):
            faults.append(fault)
            print(f"try {number}: {fault}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    with suppress(OSError):
        shutil.rmtree(work)
    print(f"{asked.tries} tries in {time.monotonic() - started:.0f} s, {len(faults)} faults")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
