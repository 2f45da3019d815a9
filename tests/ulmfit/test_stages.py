"""Choices that the classifier's stage makes: how long it trains, and which epoch it keeps."""

from dataclasses import replace

import pytest

from jaxft.ulmfit.presets import SMALL
from jaxft.ulmfit.stages import _as_good_as_the_best, classifier_plan


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
def test_the_last_epoch_is_kept_that_cannot_be_told_from_the_best(documents, accuracies, kept):
    epochs = [{"accuracy": accuracy} for accuracy in accuracies]
    chosen = [i for i in range(1, len(epochs) + 1) if _as_good_as_the_best(documents, epochs[:i])]
    assert chosen[-1] == kept


@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs"), [(2, [30, 30, 30, 30]), (14, [5, 5, 5, 5]), (100, [1, 1, 1, 2])]
)
def test_few_labels_get_more_epochs(steps_per_epoch, epochs):
    assert [phase.epochs for phase in classifier_plan(SMALL, steps_per_epoch)] == epochs
    stage = replace(SMALL.classifier, plan="full")
    assert [phase.epochs for phase in classifier_plan(replace(SMALL, classifier=stage), steps_per_epoch)] == epochs[-1:]
