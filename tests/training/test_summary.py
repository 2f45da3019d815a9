"""The closing table says what the summary says."""

import subprocess
import sys

import pytest

from jaxft.training.scores import classification_scores
from jaxft.training.summary import environment, peak_memory_mb, summary_table, trained_row


def test_a_system_without_the_modules_of_unix_tells_no_memory(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)
    assert peak_memory_mb().keys() <= {"device"}
    assert environment()["cores"] >= 1


@pytest.mark.slow
def test_memory_is_in_megabytes_and_grows_with_use():
    code = (
        "import numpy as np; from jaxft.training.summary import peak_memory_mb; before = peak_memory_mb()['process']; "
        "block = np.ones(40_000_000); print(peak_memory_mb()['process'] - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 250 < float(grown) < 330  # of 320 MB, some may fit where something else has been
    assert peak_memory_mb()["children"] > 320


def test_the_environment_names_versions_and_device():
    record = environment()
    assert record["versions"]["jax"].count(".") >= 2
    assert record["platform"] in ("cpu", "gpu", "tpu")
    assert record["cores"] >= 1


def test_the_table_shows_a_whole_summary():
    scores = classification_scores([0] * 50 + [1] * 50, [0] * 40 + [1] * 60, ["neg", "pos"])
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
    table = summary_table({"data": {"classes": classes}, "test": classification_scores(range(20), range(20), classes)})
    assert "predicted" not in table
    assert max(map(len, table.splitlines())) < 120


def test_skipped_steps_are_in_the_row_of_their_stage_and_on_the_screen():
    report = {"seconds": 2.0, "tokens": 10, "steps": 5}
    rows = [trained_row("language model", report), trained_row("classifier", {**report, "skipped_steps": 3})]
    assert ["skipped_steps" in row for row in rows] == [False, True]
    line = "steps skipped, because their gradient was not finite: classifier 3"
    assert line in summary_table({"stages": rows})
    assert "skipped" not in summary_table({"stages": rows[:1]})
