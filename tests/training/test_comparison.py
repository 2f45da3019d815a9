"""A comparison trains every row and repeat once, and its table shows each score, their mean and their deviation."""

import pytest

from jaxft.training.comparison import comparison_row, comparison_table, train_rows, write_comparison
from jaxft.training.run import Run, StageResult


def test_every_row_and_repeat_is_trained_once_and_read_back_on_resume(tmp_path):
    trained = []

    def train(row, repeat, stage):
        trained.append((row, repeat, stage))
        return StageResult({}, {}, {"score": row})

    rows, repeats = {"slow": 1, "fast": 2}, ["run_1", "run_2"]
    with Run(tmp_path) as run:
        first = list(train_rows(run, rows, repeats, train))
    assert trained == [
        (1, "run_1", "row_1_run_1"),
        (1, "run_2", "row_1_run_2"),
        (2, "run_1", "row_2_run_1"),
        (2, "run_2", "row_2_run_2"),
    ]
    assert first[2] == ("fast", "run_1", "row_2_run_1", {"score": 2})
    with Run(tmp_path) as run:
        assert list(train_rows(run, rows, repeats, train)) == first
    assert len(trained) == 4
    (named,) = train_rows(Run(None), {"slow": 1}, ["run_1"], train, lambda row, repeat: f"{repeat} of {row}")
    assert named[2] == trained[-1][2] == "run_1 of 0"


def test_a_row_has_the_sample_deviation_of_its_scores():
    row = comparison_row("slow", "rmse", [0.5, 0.7, 0.9], [60, 90, 120])
    assert (row["mean"], row["sd"], row["seconds"]) == pytest.approx((0.7, 0.2, 90))
    assert comparison_row("slow", "rmse", [0.5], [60])["sd"] is None


def test_one_repeat_has_no_deviation_in_the_table():
    table = comparison_table([comparison_row("slow", "rmse", [0.5], [60])], "fold").splitlines()
    assert table[0] == "| rmse | fold 1 | mean | sd | time of a fold |"
    assert table[2] == "| slow | 0.5000 | 0.5000 |  | 1.0 min |"


def test_a_run_keeps_table_and_picture(tmp_path):
    rows = [comparison_row(name, "rmse", [0.5, 0.6], [60, 60]) for name in ("slow", "fast")]
    write_comparison(None, rows, "run")
    write_comparison(tmp_path, rows[:1], "run")
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.md"]
    write_comparison(tmp_path, rows, "run")
    assert (tmp_path / "comparison.md").read_text() == comparison_table(rows, "run") + "\n"
    assert (tmp_path / "plots/comparison.png").stat().st_size > 5000
