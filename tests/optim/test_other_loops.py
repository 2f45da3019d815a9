"""The library in other people's training loops: Flax NNX, Linen, Equinox and Haiku, and other savers of states."""

import io
import pickle
from typing import Any

import equinox as eqx
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState as LinenTrainState

import jaxft

RULES = [(".*(kernel|weight|w)", "kernel"), (".*(bias|b)", "bias")]
RATES = {"kernel": 0.1, "bias": None}
X = jnp.ones((4, 3))


def optimizer(labels) -> Any:
    return jaxft.discriminative(optax.adam(1.0), labels, RATES, clip_norm=1.0)


LABELS = {
    "labels of the state": lambda state: jaxft.label_params(state, RULES),
    "labels of its plain dict": lambda state: jaxft.label_params(nnx.to_pure_dict(state), RULES),
    "a function": lambda state: lambda params: jaxft.label_params(params, RULES),
}


@pytest.mark.parametrize("kind", LABELS)
def test_an_nnx_optimizer_trains_a_group_and_freezes_the_other(kind):
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    tx = nnx.Optimizer(model, optimizer(LABELS[kind](nnx.state(model, nnx.Param))), wrt=nnx.Param)
    bias = np.asarray(nnx.state(model)["bias"][...]).copy()

    @nnx.jit
    def step(model, tx):
        loss, grads = nnx.value_and_grad(lambda model: (model(X) ** 2).mean())(model)
        tx.update(model, grads)
        return loss

    losses = [float(step(model, tx)) for _ in range(5)]
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_array_equal(nnx.state(model)["bias"][...], bias)


@pytest.mark.parametrize("as_function", [False, True])
def test_an_equinox_loop(as_function):
    model = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    arrays = eqx.filter(model, eqx.is_inexact_array)
    label = lambda params: jaxft.label_params(params, RULES)  # noqa: E731
    tx = optimizer(label if as_function else label(arrays))
    state, bias = tx.init(arrays), model.bias

    @eqx.filter_jit
    def step(model, state):
        loss, grads = eqx.filter_value_and_grad(lambda model: (jax.vmap(model)(X) ** 2).mean())(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for _ in range(5):
        model, state, loss = step(model, state)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(model.bias, bias)


def test_a_linen_train_state():
    module = nn.Dense(2)
    params = module.init(jax.random.key(0), X)["params"]
    state = LinenTrainState.create(
        apply_fn=module.apply, params=params, tx=optimizer(lambda params: jaxft.label_params(params, RULES))
    )

    @jax.jit
    def step(state):
        loss, grads = jax.value_and_grad(lambda params: (state.apply_fn({"params": params}, X) ** 2).mean())(
            state.params
        )
        return state.apply_gradients(grads=grads), loss

    losses = []
    for _ in range(5):
        state, loss = step(state)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(state.params["bias"], params["bias"])


def test_a_haiku_loop():
    hk = pytest.importorskip("haiku")
    model = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(2)(x)))
    params = model.init(jax.random.key(0), X)
    tx = optimizer(jaxft.label_params(params, RULES))
    state = tx.init(params)
    loss_fn = lambda params: (model.apply(params, X) ** 2).mean()  # noqa: E731
    before = loss_fn(params)
    for _ in range(5):
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
        params = optax.apply_updates(params, updates)
    assert loss_fn(params) < before


def test_labels_with_other_paths_are_refused():
    with pytest.raises(ValueError, match="differ in structure, as at bias, weight: call label_params"):
        optimizer({"kernel": "kernel", "weight": "bias"}).init({"kernel": X, "bias": X})
    with pytest.raises(ValueError, match="rates name groups that label no parameter: bias"):
        optimizer(lambda params: jaxft.label_params(params, [(".*", "kernel")])).init({"kernel": X})
    with pytest.raises(ValueError, match="the label 3 is no string"):
        optimizer({"kernel": "kernel", "bias": 3})


def test_a_prng_key_among_the_parameters_is_named():
    params = {"kernel": X, "bias": jax.random.key(0)}
    with pytest.raises(ValueError, match="the parameter bias is a PRNG key, which cannot be trained: leave it out"):
        optimizer({"kernel": "kernel", "bias": "bias"}).init(params)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["head"], "the rule 'head' is no pattern with a label"),
        ([("(", "head")], r"the pattern '\(' is no regular expression"),
        ([("head", None)], r"the rule \('head', None\) is no pattern with a label"),
        ("head", "the rule 'head' is no pattern with a label"),
        (None, "the rule None is no pattern with a label"),
    ],
)
def test_bad_rules_are_named(rules, message):
    with pytest.raises(ValueError, match=message):
        jaxft.label_params({"head": X}, rules)


def test_rates_may_be_traced():
    params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    labels = {"kernel": "kernel", "bias": "bias"}

    def moved(rate):
        tx: Any = jaxft.discriminative(optax.sgd(1.0), labels, {"kernel": rate, "bias": None})
        return tx.update(params, tx.init(params), params)[0]["kernel"]

    np.testing.assert_allclose(jax.vmap(moved)(jnp.array([0.1, 0.2])), [[-0.1, -0.1], [-0.2, -0.2]], rtol=1e-6)


def complex_loss(params, carry, batch, key):
    return jnp.mean(jnp.abs(batch.astype(jnp.complex64) * params - 1.0) ** 2), (
        carry,
        {"tokens": jnp.float32(batch.size)},
    )


def test_complex_gradients_are_accumulated_whole():
    params, batch = jnp.array(1 + 2j, jnp.complex64), jnp.arange(8.0)
    wanted = jaxft.accumulate_gradients(complex_loss, 1)(params, (), batch, None)
    got = jaxft.accumulate_gradients(complex_loss, 4)(params, (), batch, None)
    np.testing.assert_allclose(got[1], wanted[1], rtol=1e-6)
    np.testing.assert_allclose(got[0][0], wanted[0][0], rtol=1e-6)


@pytest.mark.parametrize(("average", "mean"), [(jaxft.swa(0), 2.0), (jaxft.ema(0.5), 7 / 3)])
def test_complex_parameters_are_averaged(average, mean):
    state = average.init(jnp.array(0j))
    for step, value in enumerate([1 + 1j, 3 + 3j]):
        state = average.update(state, jnp.array(value, jnp.complex64), step)
    np.testing.assert_allclose(average.value(state), mean * (1 + 1j), rtol=1e-6)


def test_the_norm_of_complex_gradients_counts_both_parts():
    params = {"w": jnp.array([3 + 4j], jnp.complex64)}
    tx: Any = jaxft.discriminative(optax.sgd(1.0), {"w": "w"}, {"w": 1.0}, clip_norm=1.0)
    updates, state = tx.update(params, tx.init(params))
    assert float(state.grad_norm) == 5.0
    np.testing.assert_allclose(updates["w"], [-0.6 - 0.8j], rtol=1e-6)


def square_loss(params, carry, batch, key):
    return jnp.sum((params["w"] - batch) ** 2) + jnp.sum(params["b"] ** 2), (carry, {})


def plain_steps(tx, count):
    """The parameters after some steps of optax's own loop."""
    loss_fn = lambda params: square_loss(params, (), jnp.ones(3), None)[0]  # noqa: E731
    params = {"w": jnp.zeros(3), "b": jnp.zeros(3)}
    tx = optax.with_extra_args_support(tx)
    state = tx.init(params)
    for _ in range(count):
        value, grad = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=loss_fn)
        params: Any = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    "tx",
    [
        optax.polyak_sgd(),
        optax.contrib.prodigy(1.0),
        optax.contrib.mechanize(optax.sgd(0.1), weight_decay=0.0),
        pytest.param(optax.lbfgs(), marks=pytest.mark.slow),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        optax.adam(0.1),
    ],
    ids=["polyak_sgd", "prodigy", "mechanize", "lbfgs", "reduce_on_plateau", "adam"],
)
def test_transforms_get_the_arguments_that_they_take_and_their_states_can_be_donated(tx):
    zeros = jnp.zeros(3)
    params = {"w": zeros, "b": zeros}  # one array for two parameters
    with jax.numpy_dtype_promotion("standard"):
        state = jaxft.TrainState.create(params, tx, key=jax.random.key(0))
        step = jax.jit(jaxft.make_train_step(square_loss, tx), donate_argnums=0)
        for _ in range(5):
            state, _ = step(state, jnp.ones(3))
        wanted = plain_steps(tx, 5)
    np.testing.assert_allclose(state.params["w"], wanted["w"], rtol=1e-5)


def test_a_step_without_jit_compiles_once():
    tx = jaxft.discriminative(optax.adam(1.0), {"w": "w", "b": "b"}, {"w": 0.1, "b": None})
    state = jaxft.TrainState.create({"w": jnp.zeros(3), "b": jnp.zeros(3)}, tx, key=jax.random.key(0))
    step = jaxft.make_train_step(square_loss, tx)
    state, _ = step(state, jnp.ones(3))
    with jax.log_compiles(True), pytest.MonkeyPatch.context() as patch:
        compiled: list[str] = []
        patch.setattr("jax._src.dispatch.logger.log", lambda level, text, *values: compiled.append(text % values))
        step(state, jnp.ones(3))
    assert not [line for line in compiled if "XLA compilation" in line]


def test_a_rate_that_float32_does_not_hold_is_refused():
    with pytest.raises(ValueError, match="is 1e\\+39: give a finite rate"):
        jaxft.discriminative(optax.sgd(1.0), {"w": "w"}, {"w": 1e39})
    with pytest.raises(ValueError, match="peak_value is 1e\\+39: give a finite learning rate"):
        jaxft.slanted_triangular_schedule(1e39, 10)


def test_keys_in_the_carry_are_restored():
    tx = optax.sgd(0.1)
    state = jaxft.TrainState.create({"w": jnp.ones(2)}, tx, key=jax.random.key(0), carry={"k": jax.random.key(3)})
    assert_same(flax.serialization.from_bytes(state, flax.serialization.to_bytes(state)), state)


def states():
    params = {"body": jnp.ones((2, 2)), "head": jnp.ones(2, jnp.bfloat16)}
    labels = {"body": "body", "head": "head"}
    loss_fn = lambda params, carry, batch, key: (jnp.sum(params["body"] ** 2) * batch, (carry, {}))  # noqa: E731
    optimizers = {
        "discriminative": jaxft.discriminative(optax.adam(1.0), labels, {"body": 0.1, "head": None}),
        "bert_adamw": jaxft.bert_adamw(1e-3),
    }
    averages = {"ema": jaxft.ema(0.9), "swa": jaxft.swa(1), "nt_asgd": jaxft.nt_asgd(2), "none": None}
    for name, tx in optimizers.items():
        for kind, average in averages.items():
            state = jaxft.TrainState.create(params, tx, key=jax.random.key(0), average=average)
            state, _ = jaxft.make_train_step(loss_fn, tx, average)(state, jnp.float32(1.0))
            yield pytest.param(state, id=f"{name}-{kind}")


def assert_same(got, wanted):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        data = jax.random.key_data if jnp.issubdtype(b.dtype, jax.dtypes.prng_key) else np.asarray
        np.testing.assert_array_equal(data(a), data(b))


@pytest.mark.parametrize("state", list(states()))
def test_flax_pickle_and_equinox_restore_every_state(state):
    assert_same(flax.serialization.from_bytes(state, flax.serialization.to_bytes(state)), state)
    assert_same(pickle.loads(pickle.dumps(state)), state)
    parts = (state.params, state.opt_state, state.average)  # Equinox writes no typed keys
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, parts)
    file.seek(0)
    assert_same(eqx.tree_deserialise_leaves(file, parts), parts)


def test_orbax_restores_a_state(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    (state, *_) = (case.values[0] for case in states())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        assert_same(checkpointer.restore(tmp_path / "state", state), state)


def test_numbers_in_a_batch_are_named():
    loss_fn = lambda params, carry, batch, key: (params * batch["x"].sum(), (carry, {"tokens": jnp.float32(1)}))  # noqa: E731
    with pytest.raises(ValueError, match=r"2\.0 in the batch or the carry is no array, so it cannot be split"):
        jaxft.accumulate_gradients(loss_fn, 2)(jnp.array(1.0), (), {"x": jnp.ones(4), "scale": 2.0}, None)


def test_more_steps_than_a_counter_holds_are_refused():
    for make in (
        lambda: jaxft.slanted_triangular_schedule(0.1, 2**31),
        lambda: jaxft.schedule_by_name("cosine", 0.1, 2**31),
        lambda: jaxft.swa(2**31),
    ):
        with pytest.raises(ValueError, match="2,147,483,647"):
            make()
    average = jaxft.swa(0)
    with pytest.raises(ValueError, match="steps are counted in 32 bits"):
        average.update(average.init(jnp.ones(2)), jnp.ones(2), 2**31)
