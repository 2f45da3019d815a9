"""The operations that a dry run counts, against sums done by hand."""

import pytest

from jaxft.language_model.estimate import flops_per_token
from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.optim.phases import Phase

FULL_SIZE = AWDLSTMConfig(60_000, 400, 1152, 3)
GROUPS = ["embedding", "lstm_0", "lstm_1", "lstm_2", "head"]


def phase(trained):
    return Phase("", {group: 1.0 if group in GROUPS[-trained:] else None for group in GROUPS}, 1)


def test_a_full_size_language_model_step_is_265_megaflop_per_token():
    everything = Phase("all", dict.fromkeys(GROUPS[:-1], 1.0), 1)
    assert flops_per_token(FULL_SIZE, softmax=True, phase=everything) == pytest.approx(265e6, rel=0.005)


def test_what_each_thaw_adds():
    costs = [flops_per_token(FULL_SIZE, softmax=False, phase=phase(trained)) for trained in range(1, 6)]
    forward = 2 * 4 * (400 * (1152 + 400) + 1152 * (1152 + 1152) + 1152 * (400 + 1152))
    # A layer's own weights and its recurrence; then its inputs, on the way to the layer below.
    top, to_middle = 4 * 400 * (1152 + 2 * 400), 4 * 400 * 1152
    middle, to_bottom = 4 * 1152 * (1152 + 2 * 1152), 4 * 1152 * 1152
    bottom, to_embedding = 4 * 1152 * (400 + 2 * 1152), 4 * 1152 * 400
    added = [0, 2 * top, 2 * (to_middle + middle), 2 * (to_bottom + bottom), 2 * to_embedding]
    assert costs == [forward + sum(added[: i + 1]) for i in range(5)]


def test_a_frozen_softmax_passes_the_gradient_on():
    thawed = Phase("", {**dict.fromkeys(GROUPS), "lstm_2": 1.0}, 1)
    softmax = [flops_per_token(FULL_SIZE, True, p) - flops_per_token(FULL_SIZE, False, p) for p in (None, thawed)]
    assert softmax == [2 * 60_000 * 400, 2 * 2 * 60_000 * 400]
