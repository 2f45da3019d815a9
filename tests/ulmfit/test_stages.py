"""How long the classifier's stage trains."""

from dataclasses import replace

import pytest

from jaxft.ulmfit.presets import SMALL
from jaxft.ulmfit.stages import classifier_plan


@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs"), [(2, [30, 30, 30, 30]), (14, [5, 5, 5, 5]), (100, [1, 1, 1, 2])]
)
def test_few_labels_get_more_epochs(steps_per_epoch, epochs):
    assert [phase.epochs for phase in classifier_plan(SMALL, steps_per_epoch)] == epochs
    stage = replace(SMALL.classifier, plan="full")
    assert [phase.epochs for phase in classifier_plan(replace(SMALL, classifier=stage), steps_per_epoch)] == epochs[-1:]
