"""The rates of the layers and the phases of fine-tuning, against the numbers of the articles."""

from dataclasses import replace

import pytest

from jaxft.finetune.plan import finetune_plan, group_rates
from jaxft.finetune.settings import Training
from jaxft.finetune.stages import frozen_layers
from jaxft.optim.phases import learning_rates


def test_rates_of_layers():
    rates = group_rates(Training(layer_rates="decay", peak_rate=3.5e-6, head_rate=3.6e-6), 12)
    assert list(rates)[:2] == ["embeddings", "layer_0"]
    assert rates["layer_11"] == pytest.approx(3.5e-6)
    assert rates["layer_0"] == pytest.approx(3.5e-6 * 0.9**11)
    assert rates["embeddings"] == pytest.approx(3.5e-6 * 0.9**12)
    assert rates["head"] == 3.6e-6
    grouped = group_rates(Training(layer_rates="grouped", peak_rate=3.5e-6), 12)
    expected = [1e-6] * 5 + [1.75e-6] * 4 + [3.5e-6] * 5
    assert list(grouped.values()) == pytest.approx(expected)
    divided = group_rates(Training(layer_rates="divisor", peak_rate=1.0), 2)
    assert list(divided.values()) == pytest.approx([1 / 2.6**2, 1 / 2.6, 1.0, 1.0])
    assert set(group_rates(Training(peak_rate=2e-5), 2).values()) == {2e-5}


def test_averaging_goes_on_from_the_schedule_at_rates_in_the_same_ratios():
    train = Training(epochs=4, swa_start=3, warmup=10, layer_rates="decay", peak_rate=1e-3, swa_rate=1e-4)
    curves = learning_rates(finetune_plan(train, 2, 100), 100)
    assert curves["layer_1"][10] == pytest.approx(1e-3)
    assert curves["layer_1"][299] == pytest.approx(1e-3 * (400 - 299) / 390)  # the schedule spans all four epochs
    assert curves["layer_1"][300:] == pytest.approx(1e-4)
    assert curves["layer_0"][300:] == pytest.approx(0.9e-4)
    same = learning_rates(finetune_plan(replace(train, swa_one_rate=True), 2, 100), 100)
    assert all(curve[300:] == pytest.approx(1e-4) for curve in same.values())


def test_each_phase_of_gradual_unfreezing_trains_one_layer_more():
    plan = finetune_plan(Training(unfreeze="gradual", epochs=2, min_steps=0), 3, 10)
    assert [(phase.name, phase.epochs) for phase in plan] == [
        ("last 1", 1),
        ("last 2", 1),
        ("last 3", 1),
        ("last 4", 1),
        ("all", 2),
    ]
    assert [frozen_layers(phase) for phase in plan] == [3, 2, 1, 0, 0]
    assert [frozen_layers(phase) for phase in finetune_plan(Training(unfreeze="head", min_steps=0), 3, 10)] == [3]


def test_few_texts_get_more_epochs_and_many_do_not():
    assert [phase.epochs for phase in finetune_plan(Training(epochs=3, min_steps=200), 2, 7)] == [29]
    assert [phase.epochs for phase in finetune_plan(Training(epochs=3, min_steps=200), 2, 100)] == [3]
    averaged = finetune_plan(Training(epochs=3, min_steps=200, swa_start=2), 2, 10)
    assert [(phase.name, phase.epochs) for phase in averaged] == [("all", 13), ("swa", 7)]
