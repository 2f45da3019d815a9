"""The LSTM layer and the fused loss against plain implementations, in value and gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxft.models.lstm import lstm
from jaxft.models.lstm_columns import joined, step_columns
from jaxft.models.tied_softmax import tied_cross_entropy


def plain_lstm(inputs, carry, kernel, recurrent, bias, valid):
    """The equations, step by step, differentiated by JAX."""
    h, c = carry
    outputs = []
    for x, keep in zip(inputs, valid, strict=True):
        i, f, g, o = jnp.split(x @ kernel + h @ recurrent + bias[None, :], 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        h, c = (jnp.where(keep[:, None], s, jnp.zeros_like(s)) for s in (h, c))
        outputs.append(h)
    return jnp.stack(outputs), (h, c)


def random_layer(seed, steps, batch, features, units):
    keys = iter(jax.random.split(jax.random.key(seed), 8))

    def normal(*shape):
        return 0.5 * jax.random.normal(next(keys), shape)

    carry = (normal(batch, units), normal(batch, units))
    arrays = (normal(steps, batch, features), carry, normal(features, 4 * units), normal(units, 4 * units))
    return *arrays, normal(4 * units)


@pytest.mark.slow
@pytest.mark.parametrize("padded", [False, True])
@settings(deadline=None, max_examples=3)
@given(
    steps=st.integers(1, 6),
    batch=st.integers(1, 4),
    features=st.integers(1, 5),
    units=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@example(steps=1, batch=2, features=3, units=2, seed=0)
def test_equals_the_equations_in_value_and_gradient(padded, steps, batch, features, units, seed):
    arrays = random_layer(seed, steps, batch, features, units)
    starts = np.random.default_rng(seed).integers(0, steps, batch) if padded else np.zeros(batch, int)
    valid = jnp.asarray(np.arange(steps)[:, None] >= starts[None, :])

    def scalar(layer, *arrays):
        hidden, (h, c) = layer(*arrays, valid)
        return jnp.sum(jnp.sin(hidden)) + jnp.sum(h * c) + jnp.sum(c), hidden

    ours, plain = (
        jax.jit(jax.value_and_grad(partial(scalar, layer), argnums=(0, 1, 2, 3, 4), has_aux=True))(*arrays)
        for layer in (lstm, plain_lstm)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, plain)


@pytest.mark.parametrize(("masked", "features"), [(False, 4), (True, 4), (True, 5)])  # 5 is also what comes out
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("steps", "lengths"), [(96, (96, 2, 40)), (96, (17, 1, 3)), (37, (20, 5, 0)), (53, (20, 5, 0)), (96, (0, 0, 0))]
)
def test_reading_in_chunks_equals_the_equations(steps, lengths, side, masked, features):
    shape = len(lengths), features
    mask = 2 * jax.random.bernoulli(jax.random.key(3), 0.5, shape).astype(jnp.float32) if masked else None
    arrays = random_layer(1, steps, len(lengths), features, 5)
    valid = jnp.asarray(np.arange(steps)[:, None] >= steps - np.asarray(lengths)[None, :])
    valid = valid if side == "left" else valid[::-1]

    def scalar(layer, *arrays):
        hidden, (h, c) = layer(*arrays, valid)
        return jnp.sum(jnp.sin(hidden)) + jnp.sum(h * c) + jnp.sum(c), hidden

    def plain(inputs, carry, kernel, recurrent, bias, valid):
        def step(carry, x):
            new, state = plain_lstm(x[0][None], carry, kernel, recurrent, bias, x[1][None])
            return state, new[0]

        end, hidden = jax.lax.scan(step, carry, (inputs if mask is None else inputs * mask[None], valid))
        return hidden, end

    ours_masked = partial(lstm, mask=mask)

    ours, theirs = (
        jax.jit(jax.value_and_grad(partial(scalar, layer), argnums=(0, 1, 2, 3, 4), has_aux=True))(*arrays)
        for layer in (ours_masked, plain)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), ours, theirs)
    np.testing.assert_allclose(jax.jit(partial(ours_masked, valid=valid))(*arrays)[0], ours[0][1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("lengths", [(9, 2, 4), (6, 1, 3), (0, 0, 0)])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_columns_equal_rows(lengths, precision):
    inputs, carry, kernel, recurrent, bias = random_layer(1, 9, len(lengths), 4, 5)
    valid = jnp.asarray(np.arange(9)[:, None] >= 9 - np.asarray(lengths)[None, :])
    hidden, last = jax.jit(partial(lstm, precision=precision))(inputs, carry, kernel, recurrent, bias, valid)
    weight, step = joined(kernel, recurrent, precision), jax.jit(partial(step_columns, precision=precision))
    transpose = partial(jax.tree.map, jnp.transpose)
    columns, state = [], transpose(carry)
    for x, words in zip(inputs, valid, strict=True):
        state = step(x.T, state, weight, bias, words)
        columns.append(state[0].T)
    expected = (hidden, last)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), (jnp.stack(columns), transpose(state)), expected)


def test_nothing_is_computed_where_no_document_has_begun():
    inputs, carry, *weights = random_layer(2, 96, 2, 3, 4)
    inputs = inputs.at[:48].set(jnp.nan)
    valid = jnp.broadcast_to(jnp.arange(96)[:, None] >= 50, (96, 2))
    loss = lambda *weights: lstm(inputs, carry, *weights, valid=valid)[0].sum()  # noqa: E731
    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(*weights)
    assert all(bool(jnp.isfinite(gradient).all()) for gradient in gradients)


def test_layers_read_in_chunks_share_a_state_and_keep_the_gates_besides():
    """A text's states are most of the memory of training."""
    steps, batch, width = 96, 2, 5
    inputs, carry, kernel, recurrent, bias = random_layer(2, steps, batch, width, width)
    valid, mask = jnp.ones((steps, batch), bool), jnp.ones((batch, width))
    layer = partial(lstm, carry=carry, kernel=kernel, recurrent=recurrent, bias=bias, valid=valid, mask=mask)
    _, kept = jax.vjp(lambda x: layer(layer(x)[0])[0], inputs)
    arrays = {id(leaf): leaf for leaf in jax.tree.leaves(kept) if leaf.shape[:2] == (steps, batch)}
    assert sorted(array.shape[2] // width for array in arrays.values()) == [1, 1, 1, 4, 4]  # inputs, two states, gates


def test_no_chunk_is_stacked_before_it_is_written():
    inputs, carry, *weights = random_layer(2, 96, 2, 3, 4)
    layer = partial(lstm, inputs, carry, valid=jnp.ones((96, 2), bool))
    program = jax.make_jaxpr(partial(jax.vjp, layer))(*weights)
    (chunks,) = (e.params["body_jaxpr"] for e in program.jaxpr.eqns if e.primitive.name == "while")
    (steps,) = (e for e in chunks.jaxpr.eqns if e.primitive.name == "scan")
    assert len(steps.outvars) == steps.params["num_carry"]


def test_two_half_windows_equal_a_whole_one():
    inputs, carry, kernel, recurrent, bias = random_layer(0, 8, 3, 4, 5)
    weights = (kernel, recurrent, bias)
    layer = jax.jit(lstm)
    whole, end = layer(inputs, carry, *weights)
    first, middle = layer(inputs[:4], carry, *weights)
    second, later_end = layer(inputs[4:], middle, *weights)
    np.testing.assert_allclose(jnp.concatenate([first, second]), whole, rtol=1e-6, atol=1e-7)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), later_end, end)


def test_weight_gradient_is_formed_outside_the_backward_loop():
    """A loop that carried dU would read and write a (H, 4H) matrix at every time step."""
    inputs, carry, *weights = random_layer(0, 7, 2, 3, 11)
    program = jax.make_jaxpr(jax.grad(lambda u: lstm(inputs, carry, weights[0], u, weights[2])[0].sum()))(weights[1])
    loops = [e for e in program.jaxpr.eqns if e.primitive.name == "scan"]
    assert len(loops) == 2
    for loop in loops:
        # What a loop carries leaves it with the shape that it has inside; what it stacks has one axis more.
        pairs = zip(loop.outvars, loop.params["jaxpr"].out_avals, strict=True)
        carried = [outer.aval.shape for outer, inner in pairs if outer.aval.shape == inner.shape]
        assert carried
        assert set(carried) <= {(2, 11), (44,)}


def plain_cross_entropy(hidden, embedding, bias, targets):
    logits = hidden @ embedding.T + bias[None, :]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(targets, 0)[:, None], axis=1)[:, 0]
    counts = (targets >= 0).astype(losses.dtype)
    return jnp.sum(losses * counts) / jnp.maximum(counts.sum(), 1)


@pytest.mark.slow
@settings(deadline=None, max_examples=4)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(2, 30), st.integers(1, 9), st.integers(0, 99))
def test_fused_loss_equals_the_plain_one_whatever_the_block(tokens, features, words, rows, seed):
    rng = np.random.default_rng(seed)
    hidden = jnp.asarray(rng.normal(size=(tokens, features)), jnp.float32)
    embedding = jnp.asarray(rng.normal(size=(words, features)), jnp.float32)
    bias = jnp.asarray(rng.normal(size=words), jnp.float32)
    targets = jnp.asarray(rng.integers(-1, words, tokens), jnp.int32)
    arrays = (hidden, embedding, bias)

    def ours(h, e, b):
        return 3.0 * tied_cross_entropy(h, e, b, targets, rows)

    def plain(h, e, b):
        return 3.0 * plain_cross_entropy(h, e, b, targets)

    value, gradients = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(*arrays)
    expected, plain_gradients = jax.jit(jax.value_and_grad(plain, (0, 1, 2)))(*arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(ours)(*arrays), expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e3, -1e3])
def test_fused_loss_survives_large_logits(scale):
    hidden, embedding = jnp.full((2, 1), scale), jnp.array([[1.0], [0.0], [-1.0]])
    loss, gradient = jax.value_and_grad(tied_cross_entropy)(hidden, embedding, jnp.zeros(3), jnp.array([0, 2]))
    np.testing.assert_allclose(loss, 1e3, rtol=1e-6)
    assert bool(jnp.isfinite(gradient).all())


def test_fused_loss_never_holds_all_the_logits():
    tokens, words, rows = 512, 3000, 64
    program = jax.jit(jax.value_and_grad(lambda h, e, b, t: tied_cross_entropy(h, e, b, t, rows), argnums=(0, 1, 2)))
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((tokens, 8), (words, 8), (words,))]
    memory = program.lower(*shapes, jax.ShapeDtypeStruct((tokens,), jnp.int32)).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < tokens * words * 4 / 2
