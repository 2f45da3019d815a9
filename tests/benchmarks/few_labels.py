"""Fine-tuning with default settings on few labels, beside the probe that it starts from and a linear model on words.

    python tests/benchmarks/few_labels.py subj 100 --model MINILM --data DATA [--seeds 3] [--texts 1000]
        [--out few_labels.json --name MiniLM] [--peer PYTHON_WITH_SETFIT] [-- FLAGS]

DATA is a folder with `subj/`, `ag_news/` and, for imdb, `imdb.csv` with the columns text, label and split. Every seed
draws other rows, equally many of each class. FLAGS go to `jaxft.finetune`. The file of `--out` gets the accuracies for
the picture of `low_labels.py`. The peer trains the same checkpoint on the same rows.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxft.base.files import read_json, write_json
from jaxft.finetune.inputs import read_inputs, split_examples
from jaxft.finetune.job import train
from jaxft.finetune.settings import Settings, parse
from jaxft.finetune.stages import as_model, predict_examples, with_probe
from jaxft.training.process import set_up

Row = tuple[str, str]
"""text and label"""


def subj(folder: Path) -> tuple[list[Row], list[Row]]:
    """Sentences that are subjective or objective (Pang & Lee 2004); they have no test split."""
    lines = {name: (folder / f"subj/subj.{name}").read_text("latin-1").splitlines() for name in SUBJ}
    return [(line.strip(), name) for name, texts in lines.items() for line in texts if line.strip()], []


def ag_news(folder: Path) -> tuple[list[Row], list[Row]]:
    """News of four classes (Zhang et al. 2015), title and description; drawn from its test file."""
    with open(folder / "ag_news/test.csv", newline="", encoding="utf-8") as file:
        return [(f"{title} {description}", label) for label, title, description in csv.reader(file)], []


def imdb(folder: Path) -> tuple[list[Row], list[Row]]:
    """Film reviews (Maas et al. 2011) with their own test split."""
    with open(folder / "imdb.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"]]
    train, test = ([(r["text"], r["label"]) for r in rows if r["split"] == split] for split in ("train", "test"))
    return train, test


SUBJ = ("objective", "subjective")
READERS = {"subj": subj, "ag_news": ag_news, "imdb": imdb}


def draw(rows: Sequence[Row], count: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """`count` rows, equally many of each class, and the others."""
    classes = sorted({label for _, label in rows})
    numbers = [np.array([i for i, (_, label) in enumerate(rows) if label == name]) for name in classes]
    chosen = np.concatenate([rng.permutation(own)[: count // len(classes)] for own in numbers])
    rest = rng.permutation(np.setdiff1d(np.arange(len(rows)), chosen))
    return [rows[i] for i in chosen], [rows[i] for i in rest]


def write_table(path: Path, train: Sequence[Row], test: Sequence[Row]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        writer.writerows([*((*row, "train") for row in train), *((*row, "test") for row in test)])


def probe_accuracy(settings: Settings) -> float:
    """The accuracy of the solved head on the frozen encoder, which fine-tuning starts from."""
    inputs = read_inputs(settings)
    split, targets = split_examples(inputs.examples, settings)["train"], inputs.examples.targets
    model = as_model(inputs, settings, with_probe(inputs, split.train, targets, inputs.encoder.params, settings))
    outputs = predict_examples(model, inputs, split.test)
    return float((outputs.argmax(axis=1) == targets[split.test]).mean())


def peer_accuracy(python: str, rows: str, model: str, seed: int) -> float:
    """The accuracy of SetFit."""
    command = [python, str(Path(__file__).with_name("setfit_labels.py")), rows, model, str(seed)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def add(path: Path, name: str, labels: int, scores: Sequence[Sequence[float]]) -> None:
    """Adds the accuracies of a number of labels to a file of them."""
    results = read_json(path) if path.exists() else {}
    for curve, column in ((name, 0), (f"probe of {name}", 1)):
        results.setdefault(curve, {})[str(labels)] = [row[column] for row in scores]
    write_json(path, results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=sorted(READERS))
    parser.add_argument("labels", type=int)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=1000, help="test texts")
    parser.add_argument("--out", type=Path, help="JSON file to add the accuracies to")
    parser.add_argument("--name", default="encoder", help="of the model, in that file")
    parser.add_argument("--peer", help="Python in whose environment SetFit runs")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, flags = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    set_up()
    rows, test_rows = READERS[arguments.corpus](arguments.data)
    scores, peers = [], []
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        train_rows, rest = draw(rows, arguments.labels, rng)
        test = (test_rows and [test_rows[i] for i in rng.permutation(len(test_rows))]) or rest
        with tempfile.TemporaryDirectory() as folder:
            write_table(Path(folder) / "rows.csv", train_rows, test[: arguments.texts])
            place = ["--data", f"{folder}/rows.csv", "--out", f"{folder}/run", "--seed", str(seed)]
            settings = parse(["--model", arguments.model, *place, *flags])
            summary = train(settings)
            seconds = next(row["seconds"] for row in summary["stages"] if row["name"] == "train")
            scores.append(
                (summary["test"]["accuracy"], probe_accuracy(settings), summary["baseline"]["accuracy"], seconds)
            )
            if arguments.peer:
                peers.append(peer_accuracy(arguments.peer, f"{folder}/rows.csv", arguments.model, seed))
        if arguments.out is not None:
            add(arguments.out, arguments.name, arguments.labels, scores)
        print(f"seed {seed}: fine-tuned %.4f, probe %.4f, words %.4f, %.0f s" % scores[-1], flush=True)
    names = ("fine-tuned", "probe", "words")
    columns: dict[str, Sequence[float]] = dict(zip(names, zip(*scores, strict=True), strict=False))
    if peers:
        columns["setfit"] = peers
        print(f"setfit: {', '.join(f'{peer:.4f}' for peer in peers)}")
    ddof = 1 if len(scores) > 1 else 0
    parts = [f"{name} {100 * np.mean(of):.1f} ({100 * np.std(of, ddof=ddof):.1f})" for name, of in columns.items()]
    print(f"{arguments.corpus}, {arguments.labels} labels: {', '.join(parts)}")


if __name__ == "__main__":
    main()
