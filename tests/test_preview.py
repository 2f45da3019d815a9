"""The operations that a dry run counts, against sums done by hand."""

import pytest

from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.phases import Phase
from jaxft.preview import flops_per_token

FULL_SIZE = AWDLSTMConfig(60_000, 400, 1152, 3)
GROUPS = ["embedding", "lstm_0", "lstm_1", "lstm_2", "head"]


def phase(trained):
    return Phase("", {group: 1.0 if group in GROUPS[-trained:] else None for group in GROUPS}, 1)


def test_a_full_size_language_model_step_is_265_megaflop_per_token():
    everything = Phase("all", dict.fromkeys(GROUPS[:-1], 1.0), 1)
    assert flops_per_token(FULL_SIZE, softmax=True, phase=everything) == pytest.approx(265e6, rel=0.005)


def test_each_layer_that_thaws_adds_its_own_two_backward_passes():
    costs = [flops_per_token(FULL_SIZE, softmax=False, phase=phase(trained)) for trained in range(1, 6)]
    top, middle, bottom = 4 * 400 * (1152 + 400), 4 * 1152 * (1152 + 1152), 4 * 1152 * (400 + 1152)
    forward = 2 * (top + middle + bottom)
    assert costs == [
        forward,
        forward + 4 * top,
        forward + 4 * (top + middle),
        forward + 4 * (top + middle + bottom),
        forward + 4 * (top + middle + bottom),
    ]


def test_a_layer_below_that_trains_costs_the_frozen_ones_above_a_pass():
    thawed = Phase("", {**dict.fromkeys(GROUPS), "lstm_1": 1.0}, 1)
    frozen = flops_per_token(FULL_SIZE, softmax=False)
    more = flops_per_token(FULL_SIZE, softmax=False, phase=thawed) - frozen
    assert more == 2 * 4 * (2 * 1152 * (1152 + 1152) + 400 * (1152 + 400))
