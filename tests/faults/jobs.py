"""Small training jobs that take seconds, and what two runs of one job must have in common.

`kills` and `full_disk` run them; every step is followed by a checkpoint.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from jaxft.base.files import read_json
from jaxft.errors import InputError
from jaxft.training.metrics_log import read_metrics
from tests.checkpoints import write_checkpoint
from tests.ner.toy import write

WORDS = ("film", "was", "the", "so", "and", "in", "then")
LANGUAGE_MODEL = """
    --model.embedding-size 8 --model.hidden-size 8 --model.num-layers 1 --text.min-count 1
    --lm.epochs 1 --lm.bptt 8 --lm.valid-fraction 0.2
"""
SETTINGS = {
    "ulmfit": f"""{LANGUAGE_MODEL} --lm.batch-size 4 --classifier.epochs 1 --classifier.batch-size 8
        --classifier.eval-batch-size 8 --classifier.max-length 16 --classifier.dev-fraction 0.2 --no-baseline
        --classifier.plan last --classifier.phase-steps 6""",
    "finetune": """--max-length 12 --train.head random --train.epochs 2 --train.min-steps 0 --train.batch-size 8
        --dev-fraction 0.2 --test-fraction 0.2 --train.keep best --no-baseline""",
    "ner": """--train.epochs 2 --train.batch-size 8 --train.min-steps 0 --model.lstm-size 4 --model.embedding-size 4
        --model.bigrams 64 --model.min-count 1""",
    "pretrain": f"{LANGUAGE_MODEL} --lm.batch-size 2 --direction both",
}
"""flags of each job"""
TIMES = ("seconds", "tokens_per_s", "peak_memory_mb", "environment")
"""entries of a summary, or of a line of the metrics, that differ from run to run"""


def write_inputs(folder: Path) -> dict[str, list[str]]:
    """Writes what the jobs read; returns the arguments of each, but for the folder of its run."""
    rng = np.random.default_rng(0)
    with open(folder / "reviews.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(40):
            words = [("good", "bad")[number % 2], *WORDS]
            writer.writerow([" ".join(rng.choice(words, rng.integers(4, 20))), ("pos", "neg")[number % 2]])
    for part, count in (("train", 24), ("dev", 8), ("test", 8)):
        write(folder / f"small.{part}", count, seed=count)
    (folder / "books").mkdir()
    for number in range(6):
        text = " ".join(rng.choice(WORDS, 60))
        (folder / f"books/{number}.txt").write_text(f"{text}.\n", encoding="utf-8")
    write_checkpoint(folder / "bert", "bert", tokenizer="wordpiece")
    reads = {
        "ulmfit": ["--data", folder / "reviews.csv"],
        "finetune": ["--data", folder / "reviews.csv", "--model", folder / "bert"],
        "ner": ["--data", folder / "small.train"],
        "pretrain": ["--text", folder / "books"],
    }
    shared = ["--checkpoint-minutes", "0", "--log-every", "1"]
    return {job: [*map(str, reads[job]), *settings.split(), *shared] for job, settings in SETTINGS.items()}


def outcome(run: Path) -> dict[str, Any]:
    """What a run holds, by file: weights and answers to the bit, numbers without times, and which files are damaged."""
    files = {str(path.relative_to(run)): path for path in sorted(run.rglob("*")) if path.is_file()}
    return {name: _content(path) for name, path in files.items() if not name.startswith("tensorboard/")}


def differences(run: Path, expected: dict[str, Any]) -> list[str]:
    """Names of the files that a run lacks, has too many, or holds with another content than expected."""
    found = outcome(run)
    return sorted(name for name in {**found, **expected} if found.get(name, "absent") != expected.get(name, "absent"))


def strays(place: Path) -> list[Path]:
    """What a command that has ended must not leave: temporary files of its run and, but for locks, of the texts."""
    cached = (place / "cache/texts").glob("*.*")
    return [*(place / "run").rglob(".*"), *(path for path in cached if path.suffix != ".lock")]


def _content(path: Path) -> Any:
    try:
        if path.name == "summary.json":
            return without_times(read_json(path))
        if path.name == "metrics.jsonl":
            return without_times(read_metrics(path))
        if path.name.startswith(("stage-", "checkpoint")):  # whose report tells the seconds
            return {name: array.tobytes() for name, array in load_file(path).items()}
    except (InputError, SafetensorError):
        return "damaged"
    if path.suffix == ".png":
        return "whole" if path.read_bytes().endswith(b"IEND\xaeB`\x82") else "damaged"
    return path.read_bytes()


def without_times(value: Any) -> Any:
    """A summary, or lines of the metrics, without what differs from run to run."""
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name not in TIMES}
    return list(map(without_times, value)) if isinstance(value, list) else value
