"""What every public factory promises: one compilation, saved state, jit and scan, extra arguments, bfloat16, manual."""

import inspect
import re
import subprocess
import sys
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft
from jaxft.training import checkpoint

LABELS = {"body": {"kernel": "body", "bias": "body"}, "head": {"kernel": "head"}}
RATES = {"body": None, "head": 0.1}
TRIANGLE = jaxft.slanted_triangular_schedule(1.0, 20)

SCHEDULES: dict[str, Any] = {
    "slanted_triangular_schedule": TRIANGLE,
    "warmup_linear_decay_schedule": jaxft.warmup_linear_decay_schedule(1.0, 2, 20),
    "bert_warmup_schedule": jaxft.bert_warmup_schedule(1.0, 2, 20),
    "keras_bert_warmup_schedule": jaxft.keras_bert_warmup_schedule(1.0, 2, 20),
    "swa_schedule": jaxft.swa_schedule(TRIANGLE, 10, 0.1, 3),
    "schedule_by_name": jaxft.schedule_by_name("one_cycle", 1.0, 20),
    "phase_schedule": jaxft.phase_schedule(jaxft.full(["all"], 0.1, schedule="linear")[0], 20),
}
OPTIMIZERS: dict[str, Any] = {
    "discriminative": jaxft.discriminative(optax.adam(1.0), LABELS, RATES, TRIANGLE, clip_norm=1.0),
    "adam_warmup": jaxft.adam_warmup(0.1, 2, 20, weight_decay=0.1, weight_decay_pattern=["kernel"], amsgrad=True),
    "bert_adamw": jaxft.bert_adamw(TRIANGLE, bias_correction=True),
    "scale_by_uncorrected_adam": jaxft.scale_by_uncorrected_adam(),
}
UNGUARDED = jaxft.discriminative(optax.adam(1.0), LABELS, RATES, TRIANGLE, skip_not_finite=False)
AVERAGES: dict[str, Any] = {"ema": jaxft.ema(0.9), "swa": jaxft.swa(2), "nt_asgd": jaxft.nt_asgd(2)}
MONITORS: dict[str, Any] = {"plateau": jaxft.plateau(), "early_stopping": jaxft.early_stopping(2)}
STEPS = {"make_train_step", "accumulate_gradients"}
OTHERS = {  # plain functions and types, tested where they are defined
    "SCHEDULE_NAMES", "Average", "DiscriminativeState", "EarlyStoppingState", "Monitor", "Phase", "PlateauState",
    "TrainState", "applied_metrics", "chain_thaw", "decay_mask", "describe", "discriminative_rates",
    "fastai_unfreezing", "format_plan", "full", "gradual_unfreezing", "label_params", "last_layer",
    "layerwise_decay_rates", "learning_rates", "load", "migrate", "phase_at", "rescale", "train_steps",
}  # fmt: skip
DTYPES = [jnp.float32, jnp.bfloat16]


def parameters(dtype: Any = jnp.float32) -> Any:
    return {
        "body": {"kernel": jnp.ones((2, 3), dtype), "bias": jnp.ones(3, dtype)},
        "head": {"kernel": jnp.ones((3, 1), dtype)},
    }


def shapes_and_dtypes(tree: Any) -> Any:
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)  # keys have none


def compilations(step: Any, state: Any, *arguments: Any) -> int:
    """How often a step is compiled for its first three calls."""
    jitted: Any = jax.jit(lambda *arguments: step(*arguments))  # one function, one cache: not that of an earlier test
    for _ in range(3):
        state = jitted(state, *arguments)
    return jitted._cache_size()


def round_trip(state: Any, fresh: Any, folder: Any) -> None:
    checkpoint.save(folder / "state.safetensors", state, {})
    restored, _ = checkpoint.restore(folder / "state.safetensors", fresh)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert (raw(a).tobytes(), a.dtype) == (raw(b).tobytes(), b.dtype)


def raw(x: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def test_tables_name_everything_that_is_public():
    tables = [*SCHEDULES, *OPTIMIZERS, *AVERAGES, *MONITORS, *STEPS, *OTHERS]
    assert sorted(tables) == sorted(jaxft.__all__)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    schedule = SCHEDULES[name]
    assert compilations(lambda step: schedule(step).astype(jnp.int32) * 0 + step + 1, jnp.int32(0)) == 1
    last, scanned = jax.lax.scan(lambda step, _: (step + 1, schedule(step)), jnp.int32(0), length=20)
    np.testing.assert_allclose(scanned, jax.vmap(schedule)(jnp.arange(20)), rtol=1e-6, atol=1e-7)
    assert (scanned.shape, scanned.dtype, int(last)) == ((20,), jnp.float32, 20)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("tx", [*OPTIMIZERS.values(), UNGUARDED], ids=[*OPTIMIZERS, "discriminative, unguarded"])
def test_optimizers(tx, dtype, tmp_path):
    params = parameters(dtype)

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    carry = params, tx.init(params)
    assert compilations(step, carry, params) == 1
    moved: Any
    (moved, state), _ = jax.lax.scan(lambda carry, _: (step(carry, params), None), carry, length=3)
    assert shapes_and_dtypes(moved) == shapes_and_dtypes(params)
    assert shapes_and_dtypes(state) == shapes_and_dtypes(tx.init(params))
    assert (moved["head"]["kernel"] != params["head"]["kernel"]).all()
    round_trip(state, tx.init(params), tmp_path)
    updates, _ = tx.update(params, tx.init(params), params, value=jnp.float32(1.0), anything=None)
    assert shapes_and_dtypes(updates) == shapes_and_dtypes(params)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", AVERAGES)
def test_averages(name, dtype, tmp_path):
    average, params = AVERAGES[name], parameters(dtype)
    state = average.init(params)
    assert compilations(average.update, state, params, jnp.int32(3)) == 1
    state, values = jax.lax.scan(
        lambda state, step: (average.update(state, params, step), average.value(state)), state, jnp.arange(4)
    )
    assert shapes_and_dtypes(average.value(state)) == shapes_and_dtypes(params)
    assert shapes_and_dtypes(state) == shapes_and_dtypes(average.init(params))
    assert jax.tree.leaves(values)[0].shape[0] == 4
    assert compilations(average.observe, state, jnp.float32(1.0)) == 1
    round_trip(average.observe(state, 1.0), average.init(params), tmp_path)


@pytest.mark.parametrize("name", MONITORS)
def test_monitors(name, tmp_path):
    monitor = MONITORS[name]
    state = monitor.init()
    assert compilations(monitor.update, state, jnp.float32(1.0)) == 1
    state, _ = jax.lax.scan(lambda state, value: (monitor.update(state, value), None), state, jnp.ones(3))
    assert shapes_and_dtypes(state) == shapes_and_dtypes(monitor.init())
    round_trip(state, monitor.init(), tmp_path)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("slices", [None, 1, 2])
def test_train_step(slices, dtype, tmp_path):
    def loss_fn(params, carry, batch, key):
        noise = jax.random.normal(key, batch.shape, batch.dtype)
        hidden = (batch + noise) @ params["body"]["kernel"] + params["body"]["bias"][None]
        loss = jnp.square((hidden @ params["head"]["kernel"]).astype(jnp.float32)).mean()
        return loss, (carry + 1, {"tokens": jnp.int32(batch.shape[0])})

    tx, average, batch = OPTIMIZERS["discriminative"], AVERAGES["swa"], jnp.ones((4, 2), dtype)
    value_and_grad = None if slices is None else partial(jaxft.accumulate_gradients, num_microbatches=slices)
    step = jaxft.make_train_step(loss_fn, tx, average, value_and_grad)

    def start():
        return jaxft.TrainState.create(
            parameters(dtype), tx, key=jax.random.key(0), carry=jnp.int32(0), average=average
        )

    assert compilations(lambda state, batch: step(state, batch)[0], start(), batch) == 1
    state, metrics = jax.lax.scan(lambda state, _: step(state, batch), start(), length=3)
    assert shapes_and_dtypes(state) == shapes_and_dtypes(start())
    assert set(metrics) == {"loss", "tokens", "lr/body", "lr/head", "grad_norm", "skipped", "skipped_in_a_row"}
    assert metrics["loss"].dtype == jnp.float32
    assert (state.params["head"]["kernel"] != start().params["head"]["kernel"]).all()
    round_trip(state, start(), tmp_path)


def test_discriminative_hands_extra_arguments_to_the_optimizer():
    def update(updates, state, params=None, *, factor, **extra):
        del params, extra
        return jax.tree.map(lambda u: -factor * u, updates), state

    inner: Any = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), cast(Any, update))
    tx: Any = jaxft.discriminative(inner, {"w": "all"}, {"all": 0.5})
    updates, _ = tx.update({"w": jnp.ones(1)}, tx.init({"w": jnp.ones(1)}), None, factor=3.0)
    np.testing.assert_allclose(updates["w"], [-1.5])


# --- the import ---


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_takes_under_a_second_on_top_of_jax():
    seconds = python("import jax, time; start = time.process_time(); import jaxft; print(time.process_time() - start)")
    assert float(seconds) < 1.0


def test_import_computes_nothing():
    assert python("import jaxft, jax._src.xla_bridge as x; print(x.backends_are_initialized())") == "False"


# --- the manual ---


def test_help_names_everything_by_topic_and_runs():
    manual = inspect.getdoc(jaxft) or ""
    for name in set(jaxft.__all__):
        assert re.search(rf"^ +{name} {{2,}}\S", manual, re.MULTILINE), f"no line of the manual says what {name} is"


@pytest.mark.parametrize("name", sorted(set(jaxft.__all__) - {"SCHEDULE_NAMES"}))
def test_docstrings_are_a_manual(name):
    thing = getattr(jaxft, name)
    text = inspect.getdoc(thing) or ""
    first = text.split("\n\n")[0]
    assert first.endswith((".", ":"))
    assert len(first.splitlines()) == 1, "one line says what it is"
    if inspect.isfunction(thing):
        documented = text.partition("Args:")[2].partition("Returns:")[0]
        for parameter in inspect.signature(thing).parameters:
            assert f"{parameter}:" in documented, f"{name} does not explain {parameter}"
        for section in ("Returns:", "Examples:", ">>>"):
            assert section in text, f"{name} has no {section}"
    else:
        for attribute in inspect.get_annotations(thing):
            assert re.search(rf"^    {attribute}: ", text, re.MULTILINE), f"{name} does not explain {attribute}"
