"""predictions.csv and errors.md: every test text in its order, the worst first, mistakes in words."""

import csv

import numpy as np
import pytest

from jaxft.training.predictions import (
    classified_rows,
    entity_row,
    errors_page,
    label_set_rows,
    number_rows,
    top_losses,
    write_predictions,
)

TEXTS = ["dull, <b>really</b>", "fine\nand | good", "poor"]


def classified():
    return classified_rows(TEXTS, np.array([0, 1, 0]), np.array([[0.9, 0.1], [0.2, 0.8], [0.25, 0.75]]), ["neg", "pos"])


def test_every_text_has_a_row_in_order(tmp_path):
    write_predictions(tmp_path, classified())
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == TEXTS
    assert [row["prediction"] for row in rows] == ["neg", "pos", "pos"]
    assert rows[2] == {
        "text": "poor",
        "label": "neg",
        "prediction": "pos",
        "loss": "1.3862943611198906",
        "p(neg)": "0.25",
        "p(pos)": "0.75",
    }


def test_the_page_counts_mistakes_and_shows_the_worst_first():
    page = errors_page(classified())
    assert "| neg taken for pos | 1 |" in page
    assert page.index("poor") < page.index("fine and") < page.index("dull")
    assert "&lt;b>really" in page
    assert "fine and \\| good" in page


def test_losses_are_those_of_their_task():
    numbers = number_rows(TEXTS, np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 2.0]))
    assert [row["loss"] for row in numbers] == [0.0, 4.0, 1.0]
    assert [row["text"] for row in top_losses(numbers, 2)] == [TEXTS[1], TEXTS[2]]
    targets, probabilities = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.8, 0.5], [0.4, 0.9]])
    sets = label_set_rows(TEXTS[:2], targets, probabilities, np.array([0.9, 0.5]), ["a", "b"])
    assert [(row["label"], row["prediction"]) for row in sets] == [("a", "b"), ("b", "b")]
    assert sets[0]["mistakes"] == ["a missed", "b added"]
    assert sets[0]["loss"] == pytest.approx(-(np.log(0.8) + np.log(0.5)) / 2)
    certain = classified_rows(["x"], np.array([0]), np.array([[0.0, 1.0]]), ["neg", "pos"])
    assert np.isfinite(certain[0]["loss"])


@pytest.mark.parametrize(
    ("predicted", "mistakes"),
    [
        ([("PER", 0, 2)], []),
        ([], ["PER missed"]),
        ([("LOC", 0, 2)], ["PER taken for LOC"]),
        ([("PER", 0, 1)], ["PER with other ends"]),
        ([("PER", 0, 2), ("LOC", 3, 4)], ["LOC added"]),
        ([("LOC", 3, 4)], ["PER missed", "LOC added"]),
    ],
)
def test_mistakes_of_a_tagger_are_told_in_words(predicted, mistakes):
    scores = dict.fromkeys(predicted, 0.75)
    row = entity_row(["Ada", "Byron", "in", "Rome"], [("PER", 0, 2)], scores, 1.5)
    assert row["mistakes"] == mistakes
    assert row["loss"] == 1.5
    assert row["scores"].split("; ") == (["0.7500"] * len(predicted) or [""])
