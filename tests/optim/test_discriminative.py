"""Optimizers: closed-form updates, parity with the published rules, what freezing costs, and what NaN may do."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.optim.adam import adam_warmup, bert_adamw, scale_by_uncorrected_adam
from jaxft.optim.discriminative import DiscriminativeState, applied_metrics, discriminative, rescale
from jaxft.optim.groups import decay_mask, label_params
from jaxft.optim.schedules import bert_warmup_schedule, slanted_triangular_schedule, swa_schedule

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "optimizers.json").read_text())
LABELS = {"body": {"kernel": "body", "bias": "body"}, "head": {"kernel": "head"}}


def parameters() -> Any:
    return {
        "body": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])},
        "head": {"kernel": jnp.array([3.0])},
    }


def gradients(scale: float = 1.0) -> Any:
    return {
        "body": {"kernel": scale * jnp.array([[0.3, 0.1]]), "bias": scale * jnp.array([-0.2])},
        "head": {"kernel": scale * jnp.array([0.4])},
    }


def step_of(tx: Any, params: Any, state: Any, grads: Any) -> Any:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def run(tx: Any, params: Any, grads: Any, steps: int = 1) -> Any:
    def step(carry, _):
        params, state = carry
        params, state = step_of(tx, params, state, grads)
        return (params, state), applied_metrics(state)

    (params, state), metrics = jax.lax.scan(step, (params, tx.init(params)), length=steps)
    return params, state, metrics


def first_update(tx: Any, grads: Any, params: Any) -> Any:
    return tx.update(grads, tx.init(params), params)


def relaxed(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """A plain optax optimizer for comparison, some of which do not run under strict promotion."""

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return tx.update(updates, state, params)

    return optax.GradientTransformation(tx.init, update)


def assert_same_bytes(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


# --- rates ---


def test_sgd_update_is_rate_times_schedule_times_gradient():
    schedule = slanted_triangular_schedule(1.0, 10, cut_frac=0.5)
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.2}, schedule)
    params, state, metrics = run(tx, parameters(), gradients(), steps=4)
    shape = np.asarray(jax.vmap(schedule)(jnp.arange(4)))
    total = shape.sum()
    np.testing.assert_allclose(
        params["body"]["kernel"], [[1.0 - 0.1 * total * 0.3, -2.0 - 0.1 * total * 0.1]], rtol=1e-6
    )
    np.testing.assert_allclose(params["head"]["kernel"], [3.0 - 0.2 * total * 0.4], rtol=1e-6)
    np.testing.assert_allclose(metrics["lr/body"], 0.1 * shape, rtol=1e-6)
    np.testing.assert_allclose(metrics["lr/head"], 2 * metrics["lr/body"], rtol=1e-6)
    assert int(state.step) == 4


def test_each_group_equals_plain_adam_with_its_own_rate():
    rates = {"body": 0.01, "head": 0.1}
    params, _, _ = run(discriminative(optax.adam(1.0, b1=0.7), LABELS, rates), parameters(), gradients(), steps=5)
    for group, rate in rates.items():
        plain, _, _ = run(relaxed(optax.adam(rate, b1=0.7)), parameters()[group], gradients()[group], steps=5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params[group], plain)


def test_scaling_gradients_would_not_be_discriminative_for_adam():
    small, _, _ = run(relaxed(optax.adam(0.1)), parameters(), gradients(scale=1e-3))
    whole, _, _ = run(relaxed(optax.adam(0.1)), parameters(), gradients())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), small, whole)
    ours, _, _ = run(discriminative(optax.adam(1.0), LABELS, {"body": 1e-4, "head": 0.1}), parameters(), gradients())
    np.testing.assert_allclose(ours["body"]["bias"], [0.5 + 1e-4], rtol=1e-5)


def test_each_group_may_have_its_own_optimizer_and_schedule():
    tx = discriminative(
        {"body": optax.sgd(1.0), "head": optax.sign_sgd(1.0)},
        LABELS,
        {"body": 1e-5, "head": 1e-4},
        # One absolute averaging rate for every group, as the torch recipes have it.
        {
            "body": swa_schedule(optax.constant_schedule(1.0), 2, 2e-6 / 1e-5),
            "head": swa_schedule(optax.constant_schedule(1.0), 2, 2e-6 / 1e-4),
        },
    )
    _, _, metrics = run(tx, parameters(), gradients(), steps=3)
    np.testing.assert_allclose(metrics["lr/body"], [1e-5, 1e-5, 2e-6], rtol=1e-5)
    np.testing.assert_allclose(metrics["lr/head"], [1e-4, 1e-4, 2e-6], rtol=1e-5)


def test_decoupled_decay_moves_weights_towards_zero_and_spares_biases():
    tx = discriminative(optax.adamw(1.0, weight_decay=0.5, mask=decay_mask()), LABELS, {"body": 0.1, "head": 0.2})
    params, _, _ = run(tx, parameters(), jax.tree.map(jnp.zeros_like, gradients()))
    np.testing.assert_allclose(params["body"]["kernel"], [[0.95, -1.9]], rtol=1e-6)
    np.testing.assert_allclose(params["body"]["bias"], [0.5])
    np.testing.assert_allclose(params["head"]["kernel"], [2.7], rtol=1e-6)


def test_each_group_may_decay_on_its_own():
    decays = {"body": 0.5, "head": 0.25}
    optimizers = {group: optax.adamw(1.0, weight_decay=decay, mask=decay_mask()) for group, decay in decays.items()}
    tx = discriminative(optimizers, LABELS, {"body": 0.1, "head": 0.2})
    params, _, _ = run(tx, parameters(), jax.tree.map(jnp.zeros_like, gradients()))
    np.testing.assert_allclose(params["body"]["kernel"], [[0.95, -1.9]], rtol=1e-6)  # 1 - 0.1 * 0.5
    np.testing.assert_allclose(params["body"]["bias"], [0.5])
    np.testing.assert_allclose(params["head"]["kernel"], [2.85], rtol=1e-6)  # 1 - 0.2 * 0.25


def test_grouped_rates_of_the_article():
    """Three blocks of layers and the head, each at a rate of its own, as a mapping from group to rate."""
    params = {"embeddings": jnp.ones(2), "layer": [jnp.ones(2) for _ in range(12)], "head": jnp.ones(2)}
    rules = [("embeddings|layer/[0-3]", "low"), ("layer/[4-7]", "middle"), ("layer/.*", "high"), ("head", "head")]
    rates = {"low": 1e-6, "middle": 1.75e-6, "high": 3.5e-6, "head": 3.6e-6}
    labels = label_params(params, rules)
    tx = discriminative(optax.sgd(1.0), labels, rates, lambda step: 0.5)
    updates, state = first_update(tx, jax.tree.map(jnp.ones_like, params), params)
    blocks = ["low"] * 4 + ["middle"] * 4 + ["high"] * 4
    assert labels == {"embeddings": "low", "layer": blocks, "head": "head"}
    expected = [-0.5 * rates[group] * np.ones(2) for group in jax.tree.leaves(labels)]
    np.testing.assert_allclose(jax.tree.leaves(updates), expected, rtol=1e-6)
    assert {name: round(float(rate), 9) for name, rate in state.rates.items()} == {
        group: round(0.5 * rate, 9) for group, rate in rates.items()
    }


def test_rates_of_a_skipped_step_are_zero():
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": None, "head": 0.2}, lambda step: 1.0)
    _, skipped = first_update(tx, gradients(jnp.nan), parameters())
    assert {name: float(rate) for name, rate in skipped.rates.items()} == {"body": 0.0, "head": 0.0}
    after: Any = tx.update(gradients(), skipped, parameters())[1]
    np.testing.assert_allclose(after.rates["head"], 0.2)
    np.testing.assert_allclose(after.scale, 1.0)


def test_schedules_that_strict_promotion_refuses_are_taken():
    cycle = optax.cosine_onecycle_schedule(100, 1.0, div_factor=4.0)
    _, state = first_update(
        discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.2}, cycle), gradients(), parameters()
    )
    np.testing.assert_allclose([state.rates["body"], state.rates["head"]], [0.025, 0.05], rtol=1e-6)
    updates, _ = first_update(bert_adamw(cycle, weight_decay=0.0), gradients(), parameters())
    np.testing.assert_allclose(updates["head"]["kernel"], [-0.25 * 0.1 / 0.001**0.5], rtol=1e-4)


def test_float64_parameters_keep_their_digits():
    with jax.enable_x64(True):
        params = {"w": jnp.array([1.0 + 2.0**-40], jnp.float64)}
        tx = discriminative(optax.sgd(1.0), {"w": "all"}, {"all": 1.0}, clip_norm=1e3)
        updates, _ = first_update(tx, params, params)
        assert updates["w"].dtype == jnp.float64
        assert float(updates["w"][0]) == -(1.0 + 2.0**-40)


def test_rescale_changes_the_rates_and_nothing_else():
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.2})
    _, once = first_update(tx, gradients(), parameters())
    _, scaled = first_update(
        optax.GradientTransformation(lambda params: rescale((tx.init(params),), 0.5)[0], tx.update),
        gradients(),
        parameters(),
    )
    np.testing.assert_allclose(scaled.rates["head"], 0.5 * once.rates["head"])
    with pytest.raises(ValueError, match="only the state of a discriminative optimizer"):
        rescale(optax.sgd(0.1).init(parameters()), 0.5)


def test_metrics_are_found_inside_other_transforms_and_absent_elsewhere():
    tx = optax.chain(optax.identity(), discriminative(optax.adam(1.0), LABELS, {"body": 0.1, "head": 0.2}))
    assert set(applied_metrics(tx.init(parameters()))) == {
        "lr/body", "lr/head", "grad_norm", "skipped", "skipped_in_a_row",
    }  # fmt: skip
    assert applied_metrics(optax.adam(0.1).init(parameters())) == {}


# --- clipping ---


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-3, 1e3), clip_norm=st.floats(0.01, 10.0))
def test_one_clip_over_all_groups(scale, clip_norm):
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": 1.0, "head": 1.0}, clip_norm=clip_norm)
    grads = gradients(scale)
    updates, state = first_update(tx, grads, parameters())
    norm = float(optax.tree.norm(grads))
    np.testing.assert_allclose(float(optax.tree.norm(updates)), min(norm, clip_norm), rtol=1e-5)
    np.testing.assert_allclose(state.grad_norm, norm, rtol=1e-5)


def test_trap_frozen_gradients_have_no_share_in_the_clip():
    params = {"body": jnp.zeros(1), "head": jnp.zeros(1)}
    grads = {"body": jnp.array([30.0]), "head": jnp.array([0.5])}
    labels = {"body": "body", "head": "head"}
    outside = optax.chain(
        optax.clip_by_global_norm(1.0), optax.partition({"body": optax.set_to_zero(), "head": optax.sgd(1.0)}, labels)
    )
    updates, _ = first_update(outside, grads, params)
    np.testing.assert_allclose(updates["head"], [-0.0167], atol=1e-4)
    ours = discriminative(optax.sgd(1.0), labels, {"body": None, "head": 1.0}, clip_norm=1.0)
    updates, state = first_update(ours, grads, params)
    np.testing.assert_allclose(updates["head"], [-0.5])
    np.testing.assert_allclose(state.grad_norm, 0.5)


# --- freezing ---


def mlp(frozen_layers=3, width=64):
    params = {f"layer_{i}": {"kernel": jnp.eye(width), "bias": jnp.zeros(width)} for i in range(4)}
    rates = {f"layer_{i}": None if i < frozen_layers else 0.1 for i in range(4)}
    labels = label_params(params, [(f"layer_{i}/.*", f"layer_{i}") for i in range(4)])

    def loss(params, x):
        for i in range(4):
            x = jnp.tanh(x @ params[f"layer_{i}"]["kernel"] + params[f"layer_{i}"]["bias"][None])
        return (x**2).mean()

    return params, labels, rates, loss


def flops(tx: Any, params: Any, loss: Any) -> float:
    def step(params, state, x):
        updates, state = tx.update(jax.grad(loss)(params, x), state, params)
        return optax.apply_updates(params, updates), state

    arguments = (params, tx.init(params), jnp.ones((256, 64)))
    cost: Any = jax.jit(step).lower(*arguments).compile().cost_analysis()
    return cost["flops"]


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_frozen_layers_cost_no_backward_pass(clip_norm):
    params, labels, rates, loss = mlp(frozen_layers=3)
    all_rates = dict.fromkeys(rates, 0.1)
    optimizer = optax.adamw(1.0, weight_decay=0.01, mask=decay_mask())
    part = flops(discriminative(optimizer, labels, rates, clip_norm=clip_norm), params, loss)
    whole = flops(discriminative(optimizer, labels, all_rates, clip_norm=clip_norm), params, loss)
    assert part / whole <= 0.5


def test_trap_clip_outside_partition_pays_for_frozen_layers():
    params, labels, rates, loss = mlp(frozen_layers=3)
    inner: Any = {g: optax.set_to_zero() if rate is None else optax.adam(rate) for g, rate in rates.items()}
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.partition(inner, labels))
    assert flops(relaxed(tx), params, loss) / flops(relaxed(optax.adam(0.1)), params, loss) > 0.9


def test_frozen_groups_hold_no_state():
    params, labels, rates, _ = mlp(frozen_layers=3)
    state: Any = discriminative(optax.adam(1.0), labels, rates).init(params)
    moments = [leaf for leaf in jax.tree.leaves(state.inner) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * (64 * 64 + 64)


def test_trap_frozen_weights_do_not_decay_and_keep_every_bit():
    odd = jnp.array([0.0, -0.0, 1e-40, -1e-40, jnp.inf, jnp.nan, 3.0, 1e38])
    params = {"body": odd, "half": odd.astype(jnp.bfloat16), "head": jnp.ones(2)}
    labels = {"body": "body", "half": "body", "head": "head"}
    grads = {"body": jnp.ones(8), "half": jnp.ones(8, jnp.bfloat16), "head": jnp.ones(2)}
    decaying = optax.chain(optax.freeze({"body": True, "half": True, "head": False}), optax.adamw(0.1))
    moved, _, _ = run(relaxed(decaying), params, grads, steps=3)
    assert float(moved["body"][6]) != 3.0
    tx = discriminative(optax.adamw(1.0), labels, {"body": None, "head": 0.1}, clip_norm=1.0)
    kept, _, _ = run(tx, params, grads, steps=3)
    assert_same_bytes((kept["body"], kept["half"]), (params["body"], params["half"]))
    assert (kept["head"] != params["head"]).all()


def test_everything_frozen_is_a_step_that_does_nothing():
    tx = discriminative(optax.adam(1.0), LABELS, {"body": None, "head": None}, clip_norm=1.0)
    params, state, _ = run(tx, parameters(), gradients(), steps=2)
    assert_same_bytes(params, parameters())
    assert float(state.grad_norm) == 0.0


# --- what is not finite ---


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_trap_non_finite_steps_are_skipped_without_limit_and_counted(bad):
    tx = discriminative(
        optax.adamw(1.0), LABELS, {"body": 0.1, "head": 0.2}, slanted_triangular_schedule(1.0, 100), clip_norm=1.0
    )
    params, state, _ = run(tx, parameters(), gradients(), steps=2)
    poison = gradients() | {"head": {"kernel": jnp.array([bad])}}

    step = jax.jit(partial(step_of, tx))
    stuck, after = params, state
    for n in range(1, 21):
        stuck, after = step(stuck, after, poison)
        assert int(after.skipped) == int(after.skipped_in_a_row) == n
    assert_same_bytes(stuck, params)
    assert_same_bytes((after.inner, after.step), (state.inner, state.step))
    healed, after = step(stuck, after, gradients())
    never, _ = step(params, state, gradients())
    assert_same_bytes(healed, never)
    assert (int(after.skipped), int(after.skipped_in_a_row)) == (20, 0)

    # What optax has for this applies the NaN once its patience is over.
    guarded = optax.apply_if_finite(optax.adam(0.1), max_consecutive_errors=2)
    poisoned, _, _ = run(relaxed(guarded), parameters(), poison, steps=4)
    assert not np.isfinite(poisoned["head"]["kernel"]).all()


def test_trap_one_nan_through_a_norm_poisons_every_leaf_but_not_ours():
    poison = gradients() | {"head": {"kernel": jnp.array([jnp.nan])}}
    clipped, _ = first_update(optax.clip_by_global_norm(1.0), poison, parameters())
    assert np.isnan(clipped["body"]["kernel"]).all()
    params, _, _ = run(
        discriminative(optax.sgd(1.0), LABELS, {"body": 1.0, "head": 1.0}, clip_norm=1.0), parameters(), poison
    )
    assert_same_bytes(params, parameters())


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_without_the_guard_finite_steps_are_the_same_and_nan_goes_through(clip_norm):
    tx = partial(discriminative, optax.adamw(1.0), LABELS, {"body": None, "head": 0.2}, clip_norm=clip_norm)
    guarded, bare = tx(), tx(skip_not_finite=False)
    kept, state, metrics = run(bare, parameters(), gradients(), steps=3)
    same, _, measured = run(guarded, parameters(), gradients(), steps=3)
    assert_same_bytes(kept, same)
    assert ("grad_norm" in metrics) == (clip_norm is not None)
    assert_same_bytes(metrics, {name: measured[name] for name in metrics})
    lost, after = step_of(bare, kept, state, gradients(jnp.nan))
    assert np.isnan(lost["head"]["kernel"]).all()
    assert (int(after.step), int(after.skipped)) == (4, 0)
    assert_same_bytes(lost["body"], kept["body"])


@pytest.mark.parametrize("skip", [True, False])
def test_without_a_guard_and_a_clip_nothing_sums_over_gradients(skip):
    tx = discriminative(optax.adam(1.0), LABELS, {"body": 0.1, "head": 0.2}, skip_not_finite=skip)
    grads = jax.tree.map(lambda g: jnp.full((512,), g.ravel()[0]), gradients())
    program = str(jax.jit(tx.update).lower(grads, tx.init(grads), grads).compile().as_text())
    assert (" dot(" in program or " reduce(" in program) == skip


def test_nan_in_a_frozen_gradient_is_no_reason_to_skip():
    poison = gradients() | {"body": jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), gradients()["body"])}
    tx = discriminative(optax.sgd(1.0), LABELS, {"body": None, "head": 0.5}, clip_norm=1.0)
    params, state, _ = run(tx, parameters(), poison)
    np.testing.assert_allclose(params["head"]["kernel"], [2.8], rtol=1e-6)
    assert int(state.skipped) == 0


def test_skipping_is_separate_for_each_model_under_vmap():
    tx = discriminative(optax.adam(1.0), {"w": "all"}, {"all": 0.1})
    params = {"w": jnp.ones((2, 3))}
    grads = {"w": jnp.ones((2, 3)).at[0, 0].set(jnp.nan)}
    updates, state = jax.vmap(lambda grads, params: first_update(tx, grads, params))(grads, params)
    assert state.skipped.tolist() == [1, 0]
    assert (updates["w"][0] == 0).all()
    assert (updates["w"][1] != 0).all()


def test_program_is_the_same_in_every_process():
    code = (
        "import jax, optax, jaxft; p = {k: jax.numpy.ones(2) for k in 'abcdef'};"
        "tx = jaxft.discriminative(optax.adam(1.0), {k: k for k in p}, dict.fromkeys(p, 0.1), clip_norm=1.0);"
        "print(jax.jit(tx.update).lower(p, tx.init(p), p).as_text())"
    )
    programs = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(programs) == 1


# --- other pytrees ---


def test_works_on_nnx_state_and_on_a_callable_equinox_module():
    state = nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))[1]
    module = eqx.filter(eqx.nn.Linear(2, 3, key=jax.random.key(0)), eqx.is_array)
    for params in (state, module):
        labels = label_params(params, [(".*bias", "bias"), (".*", "kernel")])
        tx = discriminative(optax.adam(1.0), labels, {"bias": None, "kernel": 0.1})
        updates, _ = first_update(tx, params, params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)


# --- published optimizers ---


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


# --- refusals ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1}), "rates miss the groups head"),
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.1, "hed": 0.1}), "no parameter: hed"),
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": -0.1, "head": 0.1}), "rate of group 'body'"),
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.1}, clip_norm=0.0), "clip_norm"),
        (lambda: discriminative({"body": optax.sgd(1.0)}, LABELS, {"body": 0.1, "head": 0.1}), "optimizers miss"),
        (lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.1}, {"head": abs}), "schedules miss"),
        (
            lambda: discriminative(optax.sgd(1.0), LABELS, {"body": 0.1, "head": 0.1}).init({"body": jnp.ones(1)}),
            "differ in structure",
        ),
        (lambda: bert_adamw(0.1, b1=1.0), "b1 and b2"),
        (lambda: bert_adamw(0.1, weight_decay=-1.0), "weight_decay"),
        (lambda: bert_adamw(0.1, eps=0.0), "eps is positive"),
        (lambda: adam_warmup(0.1, 1, 5, eps=1e-50), "eps is positive"),  # zero in float32
        (lambda: bert_adamw(0.1, exclude="bias"), "not the string 'bias'"),
        (lambda: adam_warmup(0.1, 1, 5, weight_decay_pattern="kernel"), "not the string 'kernel'"),
        (lambda: adam_warmup(0.1, 10, 5), "warm-up"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_optimizers_and_schedules_of_frozen_groups_may_be_left_out():
    tx = discriminative({"head": optax.adam(1.0)}, LABELS, {"body": None, "head": 0.1}, {"head": lambda step: 1.0})
    assert isinstance(tx.init(parameters()), DiscriminativeState)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_donated_step_takes_no_memory_of_its_own(clip_norm, skip):
    """Skipping must not cost a copy of the moments, nor the norm a stored square of every gradient."""
    size = 1 << 16
    tx = discriminative(optax.adam(1.0), {"w": "all"}, {"all": 0.1}, clip_norm=clip_norm, skip_not_finite=skip)
    params = {"w": jax.ShapeDtypeStruct((size,), jnp.float32)}
    step = jax.jit(partial(step_of, tx), donate_argnums=(0, 1))
    lowered = step.lower(params, jax.eval_shape(tx.init, params), params)
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < size
