"""Class weights as they are read from a flag."""

import numpy as np
import pytest

from jaxft.errors import InputError
from jaxft.training.class_weights import class_weights

LABELS = np.array([0, 0, 0, 1])


def test_balanced_weights_give_every_class_the_same_sum():
    weights = class_weights("balanced", LABELS, ["ham", "spam"])
    assert weights is not None
    sums = np.bincount(LABELS, weights=weights[LABELS])
    np.testing.assert_allclose(sums, [2.0, 2.0])
    assert class_weights("none", LABELS, ["ham", "spam"]) is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("blanced", "give none, balanced, or a JSON object such as '{\"ham\": 2}'"),
        ("[1, 2]", "give none, balanced"),
        ('{"eggs": 2}', "names 'eggs', which is not a class: give ham, spam"),
        ('{"ham": 0}', "the weight 0: give a number above 0"),
        ('{"ham": true}', "the weight True"),
        ('{"ham": NaN}', "the weight nan"),
        ('{"ham": "2"}', "the weight '2'"),
    ],
)
def test_what_is_no_weight_is_refused(setting, message):
    with pytest.raises(InputError, match=message):
        class_weights(setting, LABELS, ["ham", "spam"])
