"""Schedules: the contracts over all step counts, closed forms, and parity with the originals."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxft.optim import schedules
from jaxft.optim.named_schedules import SCHEDULE_NAMES, schedule_by_name

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "schedules.json").read_text())
STEPS = jnp.arange(512)  # one shape for all step counts below, so that nothing compiles twice


def values(schedule: schedules.Schedule) -> np.ndarray:
    return np.asarray(jax.vmap(schedule)(STEPS))


END_OPTIONS = {  # what the option of a name that sets its end counts in: learning rates, or shares of the peak
    "linear": "end_value", "bert": "end_value", "polynomial": "end_value", "keras_bert": "min_value",
    "cosine_with_min_lr": "min_value", "warmup_stable_decay": "min_ratio",
}  # fmt: skip


def make(
    name: str, total_steps: int, warmup_steps: int, peak_value: float = 1e-3, end: float = 0.0
) -> schedules.Schedule:
    """The schedule with the nearest warm-up that it takes, ending at a share of the peak where it can."""
    warmup_steps = {"constant": 0, "one_cycle": min(warmup_steps, total_steps - 1)}.get(name, warmup_steps)
    unit = 1.0 if name == "warmup_stable_decay" else peak_value
    options: Any = {END_OPTIONS[name]: end * unit} if name in END_OPTIONS else {}
    return schedule_by_name(name, peak_value, total_steps, warmup_steps, **options)


def assert_contract(lr: np.ndarray, peak_value: float, total_steps: int) -> None:
    assert np.isfinite(lr).all()
    assert (lr >= 0.0).all()
    assert (lr <= np.float32(peak_value)).all()
    np.testing.assert_array_equal(lr[total_steps:], lr[total_steps])


NUMBERS: Any = {
    "total_steps": st.integers(1, 400),
    "warmup": st.sampled_from([0.0, 0.1, 0.29, 0.5, 1.0]),
    "peak_value": st.sampled_from([1.0, 1e-3, 3.5e-6, 30.0]) | st.floats(1e-6, 1.0),
    "end": st.sampled_from([0.0, 1e-7, 0.1, 1 / 3, 1.0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULE_NAMES)
@settings(max_examples=30, deadline=None)
@given(**NUMBERS)
@example(total_steps=60, warmup=0.1, peak_value=3.5e-6, end=1.0)
def test_contract_for_every_number_of_steps(name, total_steps, warmup, peak_value, end):
    lr = values(make(name, total_steps, round(warmup * total_steps), peak_value, end))
    assert_contract(lr, peak_value, total_steps)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(SCHEDULE_NAMES),
    start=st.integers(0, 400),
    anneal_steps=st.sampled_from([0, 1, 2, 37]),
    share=st.sampled_from([0.0, 0.1, 1.0]) | st.floats(1e-6, 2.0),  # XLA flushes subnormal numbers to 0
    **NUMBERS,
)
def test_contract_of_swa_over_every_schedule(name, start, anneal_steps, share, total_steps, warmup, peak_value, end):
    base = make(name, total_steps, round(warmup * total_steps), peak_value, end)
    lr = values(schedules.swa_schedule(base, start, share * peak_value, anneal_steps))
    assert_contract(lr, max(1.0, share) * peak_value, start + anneal_steps)
    np.testing.assert_array_equal(lr[:start], values(base)[:start])
    assert lr[start + anneal_steps] == np.float32(share * peak_value)


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_same_values_under_jit_vmap_and_plain_python(name):
    schedule = make(name, total_steps=19, warmup_steps=4)
    plain = [float(schedule(step)) for step in range(25)]
    jitted = [float(jax.jit(schedule)(step)) for step in range(25)]
    from_numpy = [float(schedule(step)) for step in np.arange(25)]
    vmapped = jax.vmap(schedule)(jnp.arange(25))
    scanned = jax.lax.scan(lambda step, _: (step + 1, schedule(step)), jnp.int32(0), length=25)[1]
    for other in (jitted, from_numpy, vmapped, scanned):
        np.testing.assert_allclose(other, plain, rtol=1e-6, atol=2e-7 * 1e-3)  # of the peak
    assert schedule(3).dtype == jnp.float32
    assert schedule(3).shape == ()


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
@pytest.mark.parametrize("total_steps", [1, 2, 19, 100])
def test_zero_warmup_starts_at_the_peak(name, total_steps):
    first = {
        "slanted_triangular": 1e-3 / 32,  # it rises by cut_frac, not by warm-up
        "one_cycle": 1e-3 if total_steps < 4 else 1e-3 / 25,  # likewise, by three tenths of the steps
        "keras_bert": 1e-3 * (1 - 1 / total_steps),  # decay counts from 1
    }.get(name, 1e-3)
    np.testing.assert_allclose(make(name, total_steps, 0)(0), first, rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), total_steps=st.integers(2, 400), end=st.sampled_from([0.0, 1e-7, 0.1, 1.0]))
def test_start_peak_and_end(name, data, total_steps, end):
    warmup_steps = data.draw(st.integers(1, total_steps - 1))
    schedule = make(name, total_steps, warmup_steps, 1.0, end)
    start = {
        "constant": 1.0,
        "keras_bert": 1 / warmup_steps,
        "warmup_stable_decay": end,
        "slanted_triangular": 1 / 32,
        "one_cycle": 1 / 25,
    }.get(name, 0.0)
    top = {"keras_bert": warmup_steps - 1}.get(name, warmup_steps)
    last = {
        "constant": 1.0,
        "constant_with_warmup": 1.0,
        "cosine": 0.0,
        "cosine_with_restarts": 0.0,
        "inverse_sqrt": (warmup_steps / total_steps) ** 0.5,
        "slanted_triangular": 1 / 32,
        "one_cycle": 1 / 25e4,
    }.get(name, end)
    peak = end + (1.0 - end) * (1 - warmup_steps / total_steps) if name == "bert" else 1.0
    ours = [schedule(step) for step in (0, top, total_steps, 10_000)]
    np.testing.assert_allclose(ours, [start, peak, last, last], rtol=2e-5, atol=1e-9)
    if name != "bert":
        np.testing.assert_allclose(values(schedule).max(), values(schedule)[top], rtol=1.2e-7)  # 61 * (1 / 61) rounds


@pytest.mark.parametrize("total_steps", [2, 3, 19, 100])
def test_peak_of_a_single_cycle_is_where_warmup_ends(total_steps):
    for warmup_steps in range(1, total_steps):
        assert values(schedule_by_name("one_cycle", 1.0, total_steps, warmup_steps)).argmax() == warmup_steps


@pytest.mark.parametrize("total_steps", [1, 2, 19])
def test_keras_bert_follows_the_original_past_the_end(total_steps):
    def original(t, warmup_steps, low):
        if t <= warmup_steps:
            return t / warmup_steps
        return low + (1.0 - low) * (1.0 - min(t, total_steps) / total_steps)

    for warmup_steps in range(total_steps + 1):
        ours = values(schedules.keras_bert_warmup_schedule(1.0, warmup_steps, total_steps, 0.01))[:40]
        theirs = [original(step + 1, warmup_steps, 0.01) for step in range(40)]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@settings(max_examples=200, deadline=None)
@given(
    total_steps=st.integers(1, 500),
    cut_frac=st.sampled_from([0.0, 0.02, 0.1, 0.125, 1 / 3, 0.5, 1.0]),
    ratio=st.sampled_from([1.0, 8.0, 32.0]),
)
def test_slanted_triangle_stays_between_its_bounds(total_steps, cut_frac, ratio):
    lr = values(schedules.slanted_triangular_schedule(0.01, total_steps, cut_frac, ratio))
    assert (lr >= np.float32(0.01 / ratio) * (1 - 1e-6)).all()
    assert (lr <= np.float32(0.01)).all()
    top = lr[: total_steps + 1].argmax()
    assert (np.diff(lr[: top + 1]) >= 0).all()
    assert (np.diff(lr[top:]) <= 0).all()


def test_trap_floored_slanted_triangle_goes_negative_and_ours_does_not():
    def literal(t: int, total_steps: int, cut_frac: float = 0.1, ratio: float = 32.0) -> float:
        cut = int(total_steps * cut_frac)
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        return (1 + p * (ratio - 1)) / ratio

    assert literal(18, 19) == pytest.approx(-0.83, abs=0.01)
    with pytest.raises(ZeroDivisionError):
        literal(0, 9)
    for total_steps in (9, 19, 99, 199):
        assert values(schedules.slanted_triangular_schedule(1.0, total_steps)).min() >= 1 / 32 - 1e-7


def test_trap_optax_warmup_of_no_steps_holds_zero_and_ours_does_not():
    assert optax.linear_schedule(0.0, 1.0, transition_steps=0)(1000) == 0.0
    assert optax.warmup_constant_schedule(0.0, 1.0, warmup_steps=0)(1000) == 0.0
    for name in ("linear", "constant_with_warmup", "bert", "inverse_sqrt"):
        assert float(schedule_by_name(name, 1.0, 100, warmup_steps=0)(0)) == 1.0


@pytest.mark.parametrize("case", GOLDEN["articles"], ids=lambda case: case["name"])
def test_parity_with_the_articles_formulas(case):
    factory = getattr(schedules, case["factory"])
    np.testing.assert_allclose(
        jax.vmap(factory(**case["arguments"]))(jnp.arange(len(case["values"]))), case["values"], rtol=2e-6, atol=1e-12
    )


@pytest.mark.parametrize("case", GOLDEN["transformers"], ids=lambda case: f"{case['name']}-{case['warmup_steps']}")
def test_parity_with_transformers(case):
    schedule = schedule_by_name(
        case["name"], case["peak_value"], case["total_steps"], case["warmup_steps"], **case["options"]
    )
    np.testing.assert_allclose(
        jax.vmap(schedule)(jnp.arange(len(case["values"]))), case["values"], rtol=2e-6, atol=2e-7 * case["peak_value"]
    )


@pytest.mark.parametrize("case", GOLDEN["swa"], ids=lambda case: f"anneal-{case['arguments']['anneal_steps']}")
def test_parity_with_torch_swa_rates(case):
    schedule = schedules.swa_schedule(optax.constant_schedule(case["base"]), **case["arguments"])
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(len(case["values"]))), case["values"], rtol=2e-6)


def test_swa_schedule_leaves_any_schedule_alone_until_it_starts():
    base = schedules.warmup_linear_decay_schedule(1.0, 10, 100)
    lr = values(schedules.swa_schedule(base, start_step=60, swa_value=0.05, anneal_steps=20))
    np.testing.assert_array_equal(lr[:60], values(base)[:60])
    np.testing.assert_allclose(lr[60], values(base)[60], rtol=1e-6)
    np.testing.assert_allclose(lr[80:], 0.05, rtol=1e-6)
    assert (np.diff(lr[60:81]) <= 0).all()


def test_swa_schedule_without_annealing_switches_at_once():
    lr = values(schedules.swa_schedule(optax.constant_schedule(1e-5), start_step=3, swa_value=2e-6))
    np.testing.assert_allclose(lr[:5], [1e-5, 1e-5, 1e-5, 2e-6, 2e-6], rtol=1e-6)


def test_swa_schedule_takes_a_schedule_that_strict_promotion_refuses():
    cycle = optax.cosine_onecycle_schedule(100, 1.0)
    with pytest.raises(Exception, match="implicit dtype promotion"):
        cycle(jnp.int32(3))
    with jax.numpy_dtype_promotion("standard"):
        expected = [np.asarray(cycle(step)) for step in range(50)]
    np.testing.assert_allclose(values(schedules.swa_schedule(cycle, 50, 0.1))[:50], expected, rtol=1e-6)


def test_linear_decay_is_continuous_where_bert_drops():
    linear = values(schedules.warmup_linear_decay_schedule(1.0, 20, 100))
    bert = values(schedules.bert_warmup_schedule(1.0, 20, 100))
    keras = values(schedules.keras_bert_warmup_schedule(1.0, 20, 100))
    assert np.abs(np.diff(linear[:101])).max() == pytest.approx(1 / 20, rel=1e-5)
    assert linear[20] == 1.0
    assert bert[19] - bert[20] == pytest.approx(0.95 - 0.8, rel=1e-5)
    assert keras[19] - keras[20] == pytest.approx(1.0 - 0.79, rel=1e-5)


def test_train_steps_rounds_batches_up_and_warmup_down():
    assert schedules.train_steps(1024, 32, 10, 0.1) == (320, 32)
    assert schedules.train_steps(1025, 32, 1, 0.1) == (33, 3)
    assert schedules.train_steps(1, 64, 1, 0.1) == (1, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.slanted_triangular_schedule(1.0, 0), "the schedule has 0 steps"),
        (lambda: schedules.slanted_triangular_schedule(1.0, 10, cut_frac=1.5), "cut_frac"),
        (lambda: schedules.slanted_triangular_schedule(1.0, 10, ratio=0.5), "ratio"),
        (lambda: schedules.slanted_triangular_schedule(-1.0, 10), "peak_value"),
        (lambda: schedules.slanted_triangular_schedule(float("nan"), 10), "peak_value"),
        (lambda: schedules.warmup_linear_decay_schedule(1.0, 11, 10), "warm-up has"),
        (lambda: schedules.warmup_linear_decay_schedule(1.0, 1, 10, end_value=2.0), "last learning rate"),
        (lambda: schedules.bert_warmup_schedule(1.0, -1, 10), "warm-up has"),
        (lambda: schedules.keras_bert_warmup_schedule(1.0, 1, 10, min_value=2.0), "last learning rate"),
        (lambda: schedules.swa_schedule(optax.constant_schedule(1.0), -1, 0.1), "start_step"),
        (lambda: schedules.train_steps(0, 32, 1), "num_examples"),
        (lambda: schedules.train_steps(10, 32, 1, 2.0), "warmup_proportion"),
        (lambda: schedule_by_name("cosin", 1.0, 10), "no schedule 'cosin': choose one of linear"),
        (lambda: schedule_by_name("polynomial", 1.0, 10, lr_end=0.1, end_value=0.1), "says what another option says"),
        (lambda: schedule_by_name("cosine", 1.0, 10, num_cycles=0.0), "num_cycles is 0.0: give a positive number"),
        (lambda: schedule_by_name("warmup_stable_decay", 1.0, 10, warmup_type="x"), "warmup_type is 'x'"),
        (lambda: schedule_by_name("linear", 1.0, 10, power=2), "no option 'power': give end_value"),
        (lambda: schedule_by_name("constant", 1.0, 10, 3), "no warm-up"),
        (lambda: schedule_by_name("slanted_triangular", 1.0, 10, 3, cut_frac=0.2), "both place the peak"),
        (lambda: schedule_by_name("one_cycle", 1.0, 10, 10), "peak of one_cycle is at its last step"),
        (lambda: schedule_by_name("one_cycle", 1.0, 10, peak_frac=1.0), "peak of one_cycle is at its last step"),
        (lambda: schedule_by_name("warmup_stable_decay", 1.0, 10, 3, decay_steps=9), "decay_steps"),
        (lambda: schedule_by_name("warmup_stable_decay", 1.0, 10, decay_type="x"), "decay_type"),
        (lambda: schedule_by_name("cosine_with_restarts", 1.0, 10, num_cycles=0), "num_cycles"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
