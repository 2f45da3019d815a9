"""Scores against scikit-learn's and closed forms; the closing table says what the summary says."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from jaxft.training.summary import accuracy_interval, classification_summary, environment, peak_memory_mb, summary_table


@given(counts=st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(counts):
    correct, n = counts
    expected = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(accuracy_interval(correct, n), (expected.low, expected.high), atol=1e-12)
    low, high = accuracy_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert low < high


@settings(deadline=None)
@given(
    pairs=st.integers(2, 6).flatmap(
        lambda c: st.tuples(st.just(c), st.lists(st.tuples(*[st.integers(0, c - 1)] * 2), min_size=1, max_size=60))
    )
)
def test_scores_are_scikit_learns(pairs):
    size, rows = pairs
    labels, predictions = np.array(rows).T
    result = classification_summary(labels, predictions, [str(i) for i in range(size)])
    indices = np.arange(size)
    expected = precision_recall_fscore_support(labels, predictions, labels=indices, zero_division=0)  # pyright: ignore[reportArgumentType]
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in result["per_class"]], np.asarray(values), atol=1e-12)
    assert result["confusion_matrix"] == confusion_matrix(labels, predictions, labels=indices).tolist()
    assert result["accuracy"] == np.mean(labels == predictions)
    assert result["macro_f1"] == pytest.approx(np.mean(np.asarray(expected[2])))
    assert result["n"] == len(rows)


@pytest.mark.parametrize(
    ("labels", "predictions"), [([], []), ([0, 1], [0]), ([0, 2], [0, 1]), ([0, 1], [0, -1]), ([[0]], [[0]])]
)
def test_what_cannot_be_compared_is_refused(labels, predictions):
    with pytest.raises(ValueError, match=r"shape|index"):
        classification_summary(labels, predictions, ["a", "b"])


def test_memory_is_in_megabytes_and_grows_with_use():
    code = (
        "import numpy as np; from jaxft.training.summary import peak_memory_mb; before = peak_memory_mb()['process']; "
        "block = np.ones(40_000_000); print(peak_memory_mb()['process'] - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 250 < float(grown) < 330  # of 320 MB, some may fit where something else has been
    assert peak_memory_mb()["children"] > 320


def test_the_environment_names_versions_and_device():
    found = environment()
    assert found["versions"]["jax"].count(".") == 2
    assert found["platform"] in ("cpu", "gpu", "tpu")
    assert found["cores"] >= 1


def test_the_table_shows_a_whole_summary():
    scores = classification_summary([0] * 50 + [1] * 50, [0] * 40 + [1] * 60, ["neg", "pos"])
    summary = {
        "data": {
            "name": "imdb",
            "sizes": {"train": 22500, "dev": 2500, "test": 100, "unlabelled": 0},
            "classes": ["neg", "pos"],
            "transductive": True,
        },
        "language_model": {"valid_loss": 4.23412, "perplexity": 69.0012},
        "test": scores,
        "stages": [
            {"name": "language model", "seconds": 3723.4, "tokens": 1_000_000, "tokens_per_s": 268.6},
            {"name": "test", "seconds": 59.6},
        ],
        "peak_memory_mb": {"process": 2210.4, "children": 310.0},
        "environment": environment(),
    }
    table = summary_table(summary)
    for part in (
        "imdb; 22,500 train, 2,500 dev, 100 test; the language model has read the test texts",
        "valid loss 4.234, perplexity 69",
        "accuracy 90.00 % (95 % interval 82.56 to 94.48), macro-F1 89.90 %",
        "neg                40   10\n",
        "language model  1:02:03  1,000,000       269\n",
        "test               1:00\n",
        "total           1:03:03",
        "2,210 MB, 310 MB in a worker process",
    ):
        assert part in table


def test_the_table_takes_other_jobs_numbers():
    assert "mse 0.25, pearson 0.9123" in summary_table({"test": {"mse": 0.25, "pearson": 0.91234}})
    entities = {
        "f1": 0.9,
        "per_class": [{"class": "PER", "precision": 0.9, "recall": 1.0, "f1": 0.947, "support": 1234}],
    }
    assert "F1 90.00 %" in summary_table({"test": entities})
    assert "PER         90.00    100.00  94.70    1,234" in summary_table({"test": entities})
    assert summary_table({}) == ""


def test_many_classes_are_listed_instead_of_a_wide_matrix():
    classes = [f"class {i}" for i in range(20)]
    table = summary_table({"data": {"classes": classes}, "test": classification_summary(range(20), range(20), classes)})
    assert "predicted" not in table
    assert max(map(len, table.splitlines())) < 120
