"""The published plans: what each trains, at which rates, and what it prints and draws."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft.optim import unfreezing
from jaxft.optim.discriminative import applied_metrics, discriminative
from jaxft.optim.phases import Phase, format_plan, learning_rates, migrate, phase_schedule

GROUPS = ["embed", "lstm_1", "lstm_2", "head"]
PLANS = {
    "gradual": unfreezing.gradual_unfreezing(GROUPS, 0.01, final_epochs=3),
    "fastai": unfreezing.fastai_unfreezing(GROUPS, 0.01, final_epochs=3),
    "chain-thaw": unfreezing.chain_thaw(GROUPS),
    "last": unfreezing.last_layer(GROUPS),
    "full": unfreezing.full(GROUPS, 0.01, divisor=2.6, schedule="linear"),
}


def training(phase: Phase) -> list[str]:
    return [group for group, rate in phase.rates.items() if rate is not None]


def test_order_of_each_plan():
    assert [training(phase) for phase in PLANS["gradual"]] == [GROUPS[3:], GROUPS[2:], GROUPS[1:], GROUPS]
    assert [training(phase) for phase in PLANS["fastai"]] == [GROUPS[3:], GROUPS[2:], GROUPS]
    assert [training(phase) for phase in PLANS["chain-thaw"]] == [
        ["head"], ["embed"], ["lstm_1"], ["lstm_2"], GROUPS,
    ]  # fmt: skip
    assert [training(phase) for phase in PLANS["last"]] == [["head"]]
    assert [training(phase) for phase in PLANS["full"]] == [GROUPS]
    assert [phase.epochs for phase in PLANS["gradual"]] == [1, 1, 1, 3]


def test_rates_stay_discriminative_in_every_phase():
    for phase in PLANS["gradual"]:
        for group, rate in phase.rates.items():
            assert rate is None or rate == pytest.approx(0.01 / 2.6 ** (3 - GROUPS.index(group)))


def test_rates_and_schedules_of_the_published_baselines():
    assert PLANS["chain-thaw"][0].rates["head"] == 1e-3
    assert PLANS["chain-thaw"][-1].rates == dict.fromkeys(GROUPS, 1e-4)
    assert PLANS["last"][0].rates["head"] == 1e-3
    assert [dict(phase.options) for phase in PLANS["fastai"]] == [
        {"cut_frac": 1 / 3, "ratio": 8.0}, {"cut_frac": 1 / 3, "ratio": 8.0}, {"cut_frac": 1 / 8, "ratio": 8.0},
    ]  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_plans_survive_json(name):
    phases = json.loads(json.dumps([dataclasses.asdict(phase) for phase in PLANS[name]]))
    assert tuple(Phase(**phase) for phase in phases) == PLANS[name]


@pytest.mark.parametrize("name", PLANS)
def test_curves_are_the_rates_that_training_applies(name):
    plan, steps_per_epoch = PLANS[name], 3
    curves = learning_rates(plan, steps_per_epoch)
    params = {group: jnp.ones(1) for group in GROUPS}
    labels = {group: group for group in GROUPS}
    applied = {group: [] for group in GROUPS}
    opt_state: Any = None
    for previous, phase in zip((None, *plan), plan, strict=False):
        schedule = phase_schedule(phase, steps_per_epoch)
        tx = discriminative(optax.sgd(1.0), labels, phase.rates, schedule)
        fresh: Any = tx.init(params)
        opt_state = fresh if previous is None else migrate(opt_state, previous, fresh)
        update = jax.jit(tx.update)
        for _ in range(phase.epochs * steps_per_epoch):
            _, opt_state = update(params, opt_state, params)
            for group in GROUPS:
                applied[group].append(float(applied_metrics(opt_state)[f"lr/{group}"]))
    for group in GROUPS:
        np.testing.assert_allclose(np.nan_to_num(curves[group]), applied[group], rtol=1e-6)
    lengths = {len(curve) for curve in curves.values()}
    assert lengths == {sum(phase.epochs for phase in plan) * steps_per_epoch}


def test_table_shows_phases_steps_rates_and_schedule():
    lines = format_plan(PLANS["fastai"], steps_per_epoch=1000).splitlines()
    assert lines[0].split() == ["phase", "epochs", "steps", *GROUPS, "schedule"]
    assert lines[1].split() == [
        *["last", "1", "1", "1,000", *3 * ["frozen"], "0.01", "slanted_triangular", "cut_frac=0.3333", "ratio=8"]
    ]
    assert lines[3].split()[:3] == ["all", "3", "3,000"]
    assert "steps" not in format_plan(PLANS["full"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unfreezing.gradual_unfreezing([], 0.1), "distinct names"),
        (lambda: unfreezing.full(["a"], -0.1), "positive"),
        (lambda: unfreezing.chain_thaw(["a", "b"], last_rate=-1.0), "trains 'b' at -1.0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
