"""The published Adams: parity with the originals, and their moments."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxft.optim.adam import adam_warmup, bert_adamw, scale_by_uncorrected_adam
from jaxft.optim.discriminative import discriminative
from jaxft.optim.schedules import bert_warmup_schedule
from tests.optim.toy_model import LABELS, assert_same_bytes, first_update, gradients, parameters, run

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "optimizers.json").read_text())


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
    tree = {}
    for path, value in flat.items():
        module, name = path.split("/")
        tree.setdefault(module, {})[name] = jnp.array(value, jnp.float32)
    return tree


def assert_trajectory(tx: Any, trajectory: list[dict]):
    params = unflatten(GOLDEN["params"])
    state = tx.init(params)
    update = jax.jit(tx.update)
    expected = {point["step"]: unflatten(point["params"]) for point in trajectory}
    for step, grads in enumerate(GOLDEN["grads"], start=1):
        updates, state = update(unflatten(grads), state, params)
        params = optax.apply_updates(params, updates)
        if step in expected:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=0), params, expected[step])


@pytest.mark.parametrize("case", GOLDEN["adam_warmup"], ids=lambda case: str(case["arguments"]))
def test_adam_warmup_follows_the_published_rule(case):
    tx = adam_warmup(GOLDEN["peak"], GOLDEN["warmup_steps"], GOLDEN["steps"], min_lr=1e-4, **case["arguments"])
    assert_trajectory(tx, case["trajectory"])


@pytest.mark.parametrize("case", GOLDEN["bert_adamw"], ids=lambda case: str(case["arguments"]))
def test_bert_adamw_follows_the_published_rule(case):
    schedule = bert_warmup_schedule(GOLDEN["peak"], GOLDEN["warmup_steps"], GOLDEN["steps"])
    assert_trajectory(bert_adamw(schedule, **case["arguments"]), case["trajectory"])


def test_bias_correction_makes_the_first_step_smaller():
    params = jnp.array([1.0])
    first = [
        float(first_update(tx, jnp.array([2.0]), params)[0][0])
        for tx in (bert_adamw(0.1, weight_decay=0.0), bert_adamw(0.1, weight_decay=0.0, bias_correction=True))
    ]
    np.testing.assert_allclose(first, [-0.1 * 0.1 / 0.001**0.5, -0.1], rtol=1e-4)


def test_initial_moments_are_made_once():
    params = jnp.ones((1000, 1000))
    for amsgrad, moments in ((False, 2), (True, 3)):
        tx = scale_by_uncorrected_adam(amsgrad=amsgrad)
        made = [e for e in jax.make_jaxpr(tx.init)(params).eqns if e.outvars[0].aval.shape == params.shape]
        assert len(made) == moments


def test_moments_of_bfloat16_parameters_are_float32():
    params = jnp.ones(3, jnp.bfloat16)
    tx = scale_by_uncorrected_adam(amsgrad=True)
    updates, state = first_update(tx, params, params)
    assert updates.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}


def test_published_optimizers_work_inside_discriminative():
    for optimizer in (bert_adamw(1.0), adam_warmup(1.0, 10, 100, weight_decay=0.1)):
        tx = discriminative(optimizer, LABELS, {"body": None, "head": 0.1})
        params, _, _ = run(tx, parameters(), gradients(), steps=2)
        assert_same_bytes(params["body"], parameters()["body"])
        assert float(params["head"]["kernel"][0]) < 3.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bert_adamw(0.1, b1=1.0), "b1 and b2"),
        (lambda: bert_adamw(0.1, weight_decay=-1.0), "weight_decay"),
        (lambda: bert_adamw(0.1, eps=0.0), "eps is 0.0: give"),
        (lambda: adam_warmup(0.1, 1, 5, eps=1e-50), "eps is 1e-50: give"),  # zero in float32
        (lambda: bert_adamw(0.1, exclude="bias"), "the string 'bias'"),
        (lambda: adam_warmup(0.1, 1, 5, weight_decay_pattern="kernel"), "the string 'kernel'"),
        (lambda: adam_warmup(0.1, 10, 5), "warm-up"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
