"""Decisions by evaluations: which weights are kept, and when training stops."""

import pytest

from jaxft.training.selection import best_score, out_of_patience, within_standard_error


def test_a_score_that_is_no_number_is_never_the_best_and_hides_no_other():
    def best(*scores):
        return best_score("rmse", "min")([{"rmse": score} for score in scores])

    assert best(float("nan"), 0.5)
    assert not best(0.5, float("nan"))
    assert best(0.6, 0.5)
    assert not best(0.5, 0.5)
    assert not best(0.5, 0.6)


def test_patience_counts_evaluations_without_a_better_score():
    is_over = out_of_patience("f1", 2)
    assert is_over is not None
    scores = [{"f1": score} for score in (0.5, 0.6, 0.6, 0.55)]
    assert [is_over(scores[:count]) for count in (1, 2, 3, 4)] == [False, False, False, True]
    assert out_of_patience("f1", None) is None


@pytest.mark.parametrize(
    ("documents", "accuracies", "kept"),
    [
        (10, [0.7, 0.5, 0.6, 0.5], 3),  # ten documents do not tell 0.6 from 0.7
        (10, [0.5, 0.9, 0.5, 0.5], 2),
        (10, [1.0, 1.0], 2),
        (2500, [0.80, 0.91, 0.90], 2),  # 2,500 tell 0.90 from 0.91
        (2500, [0.80, 0.91, 0.909], 3),
        (1, [1.0, 0.0], 1),
    ],
)
def test_the_last_epoch_within_a_standard_error_of_the_best_is_kept(documents, accuracies, kept):
    epochs = [{"accuracy": accuracy} for accuracy in accuracies]
    is_as_good = within_standard_error("accuracy", documents)
    chosen = [i for i in range(1, len(epochs) + 1) if is_as_good(epochs[:i])]
    assert chosen[-1] == kept
