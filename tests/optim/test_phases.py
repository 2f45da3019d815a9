"""Plans: their tables and curves, and the optimizer state from phase to phase."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.optim.discriminative import discriminative, rescale
from jaxft.optim.phases import Phase, format_plan, learning_rates, migrate, phase_at


def test_table_reads_rates_by_group_and_not_by_order():
    plan = [Phase("one", {"body": None, "head": 0.1}, 1), Phase("two", {"head": 0.2, "body": 0.01}, 1)]
    lines = format_plan(plan).splitlines()
    assert [line.split()[2:4] for line in lines] == [["body", "head"], ["frozen", "0.1"], ["0.01", "0.2"]]
    curves = learning_rates(plan, steps_per_epoch=10)
    np.testing.assert_allclose([np.nanmax(curves["body"]), np.nanmax(curves["head"])], [0.01, 0.2], rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    epochs=st.lists(st.integers(1, 4), min_size=1, max_size=4), per_epoch=st.integers(1, 7), step=st.integers(0, 120)
)
def test_every_step_falls_in_one_phase(epochs, per_epoch, step):
    plan = [Phase(str(i), {"all": 0.1}, count) for i, count in enumerate(epochs)]
    position, within = phase_at(plan, per_epoch, step)
    before = per_epoch * sum(epochs[:position])
    if step < per_epoch * sum(epochs):
        assert before + within == step
        assert within < per_epoch * epochs[position]
    else:
        assert (position, within) == (len(plan), 0)


# --- from phase to phase ---

PARAMS = {"body": jnp.array([1.0, 2.0]), "head": jnp.array([3.0])}
LABELS = {"body": "body", "head": "head"}
HEAD = Phase("head", {"body": None, "head": 0.1}, 1)
BOTH = Phase("both", {"body": 0.01, "head": 0.1}, 1)


def optimizer(phase: Phase, inner: optax.GradientTransformation | None = None) -> Any:
    return discriminative(optax.adam(1.0) if inner is None else inner, LABELS, phase.rates)


def walk(tx: Any, params: Any, opt_state: Any, steps: int) -> Any:
    for step in range(steps):
        grads = jax.tree.map(lambda p, step=step: jnp.sin(p + step), params)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params, opt_state


def adam_state(opt_state: Any, group: str) -> Any:
    return opt_state.inner.inner_states[group].inner_state[0]


def test_trap_optax_cannot_take_an_old_state_into_a_new_phase():
    def tx(*frozen: str) -> Any:
        return optax.partition({g: optax.set_to_zero() if g in frozen else optax.adam(0.1) for g in LABELS}, LABELS)

    with pytest.raises(ValueError, match="number of updates and states"), jax.numpy_dtype_promotion("standard"):
        tx().update(PARAMS, tx("body").init(PARAMS), PARAMS)


def test_group_that_trains_on_keeps_its_moments_and_its_count():
    tx_head, tx_both = optimizer(HEAD), optimizer(BOTH)
    params, state = walk(tx_head, PARAMS, tx_head.init(PARAMS), 5)
    moved = migrate(state, HEAD, tx_both.init(params))
    jax.tree.map(np.testing.assert_array_equal, adam_state(moved, "head"), adam_state(state, "head"))
    assert int(adam_state(moved, "head").count) == 5
    assert int(adam_state(moved, "body").count) == 0
    assert not adam_state(moved, "body").mu["body"].any()
    assert int(moved.step) == 0
    # The head trains as without a change of phase.
    alone = optax.adam(0.1)
    on, _ = walk(tx_both, params, moved, 3)
    with jax.numpy_dtype_promotion("standard"):
        expected, _ = walk(alone, {"head": PARAMS["head"]}, alone.init({"head": PARAMS["head"]}), 5)
    np.testing.assert_allclose(params["head"], expected["head"], rtol=1e-6)
    assert on["body"].shape == (2,)


def test_migration_into_the_same_phase_changes_nothing_but_the_schedule():
    tx = optimizer(BOTH)
    _, state = walk(tx, PARAMS, tx.init(PARAMS), 4)
    moved = migrate(state, BOTH, tx.init(PARAMS))
    jax.tree.map(np.testing.assert_array_equal, moved.inner, state.inner)
    assert (int(state.step), int(moved.step)) == (4, 0)


def test_group_that_freezes_drops_its_state_and_starts_fresh_when_it_thaws():
    tx_head, tx_both = optimizer(HEAD), optimizer(BOTH)
    _, state = walk(tx_both, PARAMS, tx_both.init(PARAMS), 4)
    frozen = migrate(state, BOTH.rates, tx_head.init(PARAMS))
    assert not jax.tree.leaves(frozen.inner.inner_states["body"])
    thawed = migrate(frozen, HEAD, tx_both.init(PARAMS))
    assert int(adam_state(thawed, "body").count) == 0
    assert int(adam_state(thawed, "head").count) == 4


def test_skipped_updates_are_counted_over_the_whole_run():
    tx_head, tx_both = optimizer(HEAD), optimizer(BOTH)
    _, state = tx_head.update({"body": jnp.ones(2), "head": jnp.array([jnp.nan])}, tx_head.init(PARAMS), PARAMS)
    moved = migrate(state, HEAD, tx_both.init(PARAMS))
    assert (int(moved.skipped), int(moved.skipped_in_a_row)) == (1, 1)


def test_factor_of_a_plateau_holds_in_the_next_phase():
    tx_head, tx_both = optimizer(HEAD), optimizer(BOTH)
    state = rescale(tx_head.init(PARAMS), 0.5)
    moved = migrate(state, HEAD, tx_both.init(PARAMS))
    _, moved = walk(tx_both, PARAMS, moved, 1)
    np.testing.assert_allclose(moved.rates["head"], 0.5 * 0.1, rtol=1e-6)


def test_state_inside_a_chain_migrates_and_its_neighbours_go_on():
    chains = [optax.chain(optax.trace(0.9), optimizer(phase), optax.identity()) for phase in (HEAD, BOTH)]
    params, state = walk(chains[0], PARAMS, chains[0].init(PARAMS), 3)
    fresh: Any = chains[1].init(params)
    moved = migrate(state, HEAD, fresh)
    alone = migrate(state[1], HEAD, fresh[1])
    jax.tree.map(np.testing.assert_array_equal, moved[1], alone)
    jax.tree.map(np.testing.assert_array_equal, moved[0], state[0])
    _, moved = walk(chains[1], params, moved, 1)
    assert int(moved[1].step) == 1
    with pytest.raises(ValueError, match="this optimizer state has no DiscriminativeState"):
        migrate(optax.sgd(0.1).init(PARAMS), HEAD, optax.sgd(0.1).init(PARAMS))


def test_migrated_state_can_be_donated():
    tx_head, tx_both = optimizer(HEAD), optimizer(BOTH)
    _, state = walk(tx_head, PARAMS, tx_head.init(PARAMS), 1)
    moved = migrate(state, HEAD, tx_both.init(PARAMS))
    step = jax.jit(lambda state, params: tx_both.update(params, state, params), donate_argnums=0)
    _, moved = step(moved, PARAMS)
    assert int(moved.step) == 1


def test_another_optimizer_cannot_take_over():
    tx, other = optimizer(BOTH), optimizer(BOTH, optax.sgd(1.0, momentum=0.9))
    with pytest.raises(ValueError, match="the optimizer of group 'body' differs"):
        migrate(tx.init(PARAMS), BOTH, other.init(PARAMS))
    with pytest.raises(ValueError, match="different groups"):
        migrate(tx.init(PARAMS), {"body": 0.1}, tx.init(PARAMS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Phase("p", {"all": 0.1}, 0), "phase 'p' has 0 epochs"),
        (lambda: Phase("p", {"all": None}, 1), "phase 'p' trains nothing"),
        (lambda: Phase("p", {"all": 0.1}, 1, "triangle"), "no schedule 'triangle'"),
        (lambda: Phase("p", {"all": 0.1}, 1, "linear", {"ratio": 3.0}), "no option 'ratio'"),
        (lambda: Phase("p", {"all": 0.1}, 1, "linear", {"peak_value": 3.0}), "phase 'p' has the options peak_value"),
        (lambda: Phase("p", {"all": -0.1}, 1), "phase 'p' trains 'all' at -0.1"),
        (lambda: Phase("p", {"all": float("nan")}, 1), "phase 'p' trains 'all' at nan"),
        (lambda: format_plan([]), "the plan is empty"),
        (lambda: learning_rates([], 10), "the plan is empty"),
        (
            lambda: format_plan([HEAD, Phase("p", {"head": 0.1}, 1)]),
            "phase 'p' has the groups head: give every phase the groups body, head",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
