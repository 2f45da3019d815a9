"""Accuracy over the number of labels: ULMFiT, the same classifier from scratch, and TF-IDF with logistic regression.

All three learn from the same labelled rows and are tested on the same test rows. ULMFiT takes the language model of a
finished run, so that the points differ in their labels alone. Runs that are in the folder already are not repeated:

    python tests/benchmarks/low_labels.py --data aclImdb_v1.tar.gz --run runs/imdb --out runs/low_labels

The last point stands for all labels. Writes `low_labels.json` and `low_labels.png`, and prints a table.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from jaxft.base.files import read_json, write_json
from jaxft.data.columns import Columns
from jaxft.data.corpus import open_corpus
from jaxft.training.scores import accuracy_interval
from jaxft.ulmfit.presets import parse
from jaxft.ulmfit.stages import read_texts

ULMFIT, SCRATCH, BASELINE = "ULMFiT", "the same from scratch", "TF-IDF + logistic regression"
COLOURS = {ULMFIT: "#0072B2", SCRATCH: "#D55E00", BASELINE: "#6b6b6b"}


def main() -> None:
    """Trains what is missing, then draws and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", type=Path, required=True, help="finished run on all labels, for its language model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the picture")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 500, 2500])
    options, flags = parser.parse_known_args()
    results = {ULMFIT: {}, SCRATCH: {}, BASELINE: {}}
    for labels in [*options.labels, None]:
        limit = [] if labels is None else ["--limit-labels", str(labels)]
        common = ["--data", options.data, *flags, *limit]
        whole = read_json(options.run / "summary.json") if labels is None else None
        borrowed = ["--language-model", str(options.run)]
        tested = whole or run_job(options.out / f"ulmfit-{labels}", [*common, *borrowed])
        sizes = tested["data"]["sizes"]
        count = sizes["train"] + sizes["dev"]
        results[ULMFIT][count] = score(tested)
        scratch = run_job(options.out / f"scratch-{labels or 'all'}", [*common, "--lm.epochs", "0"])
        results[SCRATCH][count] = score(scratch)
        results[BASELINE][count] = baseline(common)
        write_json(options.out / "low_labels.json", results)
    print_table(results)
    draw(results, options.out / "low_labels.png")


def run_job(folder: Path, flags: list[str]) -> dict:
    """The summary of a run, which is made or resumed unless it has finished."""
    if not (folder / "summary.json").exists():
        resume = ["--resume"] if (folder / "config.json").exists() else []
        subprocess.run([sys.executable, "-m", "jaxft.ulmfit", "--out", folder, *flags, *resume], check=True)
    return read_json(folder / "summary.json")


def score(summary: dict) -> tuple[float, float, float]:
    """Accuracy and its 95 % interval."""
    return (summary["test"]["accuracy"], *summary["test"]["accuracy_interval"])


def baseline(flags: list[str]) -> tuple[float, float, float]:
    """Logistic regression on the labelled rows of a run, its dev rows included, since it chooses nothing by them."""
    settings = parse(flags)
    texts = read_texts(settings, progress=False)
    rows = {"train": np.union1d(texts.train, texts.dev), "test": texts.test}
    wanted = set(np.concatenate(list(rows.values())).tolist())
    corpus = open_corpus(settings.data, Columns.of(settings))
    documents = {i: d for i, d in enumerate(corpus.documents()) if i in wanted}
    (train, train_labels), (test, test_labels) = (
        ([documents[i].text for i in part], [documents[i].label for i in part]) for part in rows.values()
    )
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if len(train) > 1000 else 1)
    model = LogisticRegression(C=10.0, max_iter=1000).fit(vectorizer.fit_transform(train), train_labels)
    right = int((model.predict(vectorizer.transform(test)) == np.array(test_labels)).sum())
    return (right / len(test), *accuracy_interval(right, len(test)))


def print_table(results: dict) -> None:
    """Markdown, a row for each number of labels."""
    print("| labels | " + " | ".join(results) + " |\n|" + "---|" * (len(results) + 1))
    for count in results[ULMFIT]:
        cells = (f"{100 * results[name][count][0]:.1f} %" for name in results)
        print(f"| {count:,} | " + " | ".join(cells) + " |")


def draw(results: dict, path: Path) -> None:
    """Accuracy over labels, with 95 % intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, points in results.items():
        counts, (accuracy, low, high) = list(points), 100 * np.array(list(points.values())).T
        axes.errorbar(
            counts, accuracy, (accuracy - low, high - accuracy), marker="o", capsize=3, color=COLOURS[name], label=name
        )
    counts = list(results[ULMFIT])
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("labelled reviews")
    axes.set_ylabel("test accuracy in %")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    figure.savefig(path)


if __name__ == "__main__":
    main()
