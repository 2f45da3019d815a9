"""Accuracy over the number of labels: ULMFiT, its probe, and TF-IDF with logistic regression.

The first two take the language model of a finished run on the same texts, so that the points differ in their labels
alone; it has read the texts without their labels, dev texts of other seeds among them. Every seed draws other labelled
texts, and all are tested on the same test texts:

    python tests/benchmarks/low_labels.py --data aclImdb_v1.tar.gz --run runs/imdb --out runs/low_labels \\
        [--labels 100 500 2500] [--seeds 3] [--texts 2500] [--beside few_labels.json] [-- FLAGS]

FLAGS go to `jaxft.ulmfit`. Writes `low_labels.json`, prints a table, and draws `low_labels.png`, with the results of
`few_labels.py --out` if `--beside` names them.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxft.base.files import read_json, write_json
from jaxft.language_model.stage import LANGUAGE_MODEL
from jaxft.training.baseline import linear_baseline
from jaxft.training.process import set_up
from jaxft.training.run import StageResult, read_stage
from jaxft.ulmfit.inputs import open_corpus_of, raw_texts, read_texts
from jaxft.ulmfit.presets import parse
from jaxft.ulmfit.settings import Settings
from jaxft.ulmfit.stages import (
    as_classifier,
    starting_classifier,
    test_probabilities,
    train_classifier,
)

ULMFIT, PROBE, WORDS = "ULMFiT", "its probe", "TF-IDF + logistic regression"
COLOURS = ("#0072B2", "#56B4E9", "#6b6b6b", "#D55E00", "#E69F00")

Results = dict[str, dict[str, list[float]]]
"""accuracies of each draw, by the name of the curve and by the number of labels"""


def main() -> None:
    """Trains, then prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", type=Path, required=True, help="finished run, for its language model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results and the picture")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 500, 2500])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=2500, help="test texts")
    parser.add_argument("--beside", type=Path, help="results of other models, to draw beside these")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, flags = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    set_up()
    options.out.mkdir(parents=True, exist_ok=True)
    language_model = read_stage(options.run, LANGUAGE_MODEL)
    if language_model is None:
        parser.error(f"{options.run} holds no trained language model")
    results: Results = {ULMFIT: {}, PROBE: {}, WORDS: {}}
    for labels in options.labels:
        for seed in range(options.seeds):
            own = ["--data", options.data, "--limit-labels", str(labels), "--seed", str(seed), *flags]
            scores = accuracies(parse(own), language_model.params, options.texts)
            for name, score in scores.items():
                results[name].setdefault(str(labels), []).append(score)
            print(labels, "labels, seed", seed, *(f"{n} {s:.4f}" for n, s in scores.items()), flush=True)
            write_json(options.out / "low_labels.json", results)
    print_table(results)
    beside = read_json(options.beside) if options.beside else {}
    draw({**results, **beside}, options.out)


def accuracies(settings: Settings, language_model: Mapping, count: int) -> dict[str, float]:
    """The accuracies on `count` test texts."""
    texts = read_texts(settings, progress=False)
    test = np.sort(np.random.default_rng(0).permutation(texts.test)[:count])
    texts = replace(texts, test=test)
    labels = texts.store.labels[test]
    trained, _ = train_classifier(texts, settings, language_model)
    _, params, statistics = starting_classifier(texts, settings, language_model, "probe")
    probe = as_classifier(texts, settings, StageResult(params, statistics, {}))
    models = {ULMFIT: trained, PROBE: probe}
    scores = {
        name: float((test_probabilities(model, texts, settings).argmax(axis=1) == labels).mean())
        for name, model in models.items()
    }
    labelled = np.concatenate([texts.train, texts.dev])
    words = raw_texts(open_corpus_of(settings), np.concatenate([labelled, test]))
    known, others = texts.store.labels[labelled].tolist(), words[len(labelled) :]
    baseline = linear_baseline(words[: len(labelled)], known, others, labels.tolist(), texts.store.classes)
    return {**scores, WORDS: baseline["accuracy"]}


def print_table(results: Results) -> None:
    """Markdown, a row for each number of labels, with means and standard deviations."""
    print("| labels | " + " | ".join(results) + " |\n|" + "---|" * (len(results) + 1))
    for count in results[ULMFIT]:
        parts = (100 * np.array(points[count]) for points in results.values())
        cells = (f"{part.mean():.1f} % ({part.std(ddof=1) if len(part) > 1 else 0:.1f})" for part in parts)
        print(f"| {int(count):,} | " + " | ".join(cells) + " |")


def draw(results: Results, folder: Path) -> None:
    """Mean accuracy over labels, with standard deviations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    ticks = sorted({int(count) for points in results.values() for count in points})
    for (name, points), colour in zip(results.items(), COLOURS[: len(results)], strict=True):
        counts = sorted(map(int, points))
        parts = [100 * np.array(points[str(count)]) for count in counts]
        means = [part.mean() for part in parts]
        deviations = [part.std(ddof=1) if len(part) > 1 else 0.0 for part in parts]
        axes.errorbar(counts, means, deviations, marker="o", capsize=3, color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{count:,}" for count in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labelled reviews")
    axes.set_ylabel("test accuracy in %")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="best")
    figure.savefig(folder / "low_labels.png")


if __name__ == "__main__":
    main()
