"""One LSTM layer as a pure function with a hand-written derivative, for AWD-LSTM and the BiLSTM.

The derivative of `lax.scan` over `h @ U` would add to a weight-sized dU at every time step. This backward scan only
saves the gate gradients, and dU is one matrix product after it. The input projection of a whole window is one product
before the forward scan.

A window with padding on the left is read in chunks, from the first one that has a word, so that one compiled shape
serves documents of every length and a short document costs less. There, each chunk has its own two products. The
derivative keeps the gates and the hidden state of every step and the cell state before each chunk; the layer above
shares the hidden states, and the other cell states are computed again.

Axes: B batch, T time, D input features, H hidden; the 4H gates stand in the order input, forget, cell, output.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxft.models.options import Precision
from jaxft.models.products import matmul, matmul_nt, matmul_nt_few, matmul_tn, operand, transposed

Carry = tuple[jax.Array, jax.Array]

# A gate pre-activation this low is exactly 0 after the sigmoid.
CLOSED = -1e9


def lstm(
    inputs: jax.Array,
    carry: Carry,
    kernel: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array,
    valid: jax.Array | None = None,
    precision: Precision = "f32",
    mask: jax.Array | None = None,
) -> tuple[jax.Array, Carry]:
    """Runs one LSTM layer over a window, time first.

    i, f, o = sigmoid(.), g = tanh(.) of `x_t @ kernel + h @ recurrent + bias`; c_t = f c + i g; h_t = o tanh(c_t).

    Args:
        inputs: (T, B, D) float.
        carry: hidden and cell state, (B, H) each, from the window before; zeros at the start.
        kernel: (D, 4H).
        recurrent: (H, 4H).
        bias: (4H,).
        valid: (T, B) bool; where it is False a finite state is reset to zero, so that padding on the left has no
            effect. Chunks before the first word of any row are skipped; a chunk has as many steps as T's smallest
            divisor from 16 to 48, and a T without one is read whole.
        precision: of the matrix products; see `jaxft.models.products`.
        mask: (B, D) float, by which the inputs of every step are multiplied, as dropout does; its own gradient is zero.

    Returns:
        The hidden states (T, B, H) and the carry after the last step.

    Examples:
        >>> T, B, D, H = 5, 2, 3, 4
        >>> zeros = jnp.zeros((B, H))
        >>> hidden, (h, c) = lstm(jnp.ones((T, B, D)), (zeros, zeros), jnp.ones((D, 4 * H)), jnp.ones((H, 4 * H)),
        ...                       jnp.zeros(4 * H))
        >>> hidden.shape, bool((hidden[-1] == h).all())
        ((5, 2, 4), True)

    References:
        Hochreiter & Schmidhuber, Long Short-Term Memory, 1997, with the forget gate of Gers et al., 2000.
    """
    states: Any
    mask = None if mask is None else jax.lax.stop_gradient(mask)
    if valid is None or _chunk_steps(len(valid)) == len(valid):
        gates = matmul(_masked(inputs, mask), kernel, precision)  # (T, B, 4H)
        states = _recurrence(gates, recurrent, bias, valid, *carry, precision)
    else:
        states = _padded(inputs, mask, kernel, recurrent, bias, valid, *carry, precision)
    hidden, cell = states
    return hidden, (hidden[-1], cell)


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def _recurrence(
    gates: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array,
    valid: jax.Array | None,
    h: jax.Array,
    c: jax.Array,
    precision: Precision,
) -> tuple[jax.Array, jax.Array]:
    rows = transposed(operand(recurrent, precision))
    return _run(gates, rows, bias, valid, h, c, precision, lambda h, c, activations: h)


def _run(
    gates: jax.Array,
    rows: jax.Array,
    bias: jax.Array,
    valid: jax.Array | None,
    h: jax.Array,
    c: jax.Array,
    precision: Precision,
    kept: Callable[[jax.Array, jax.Array, jax.Array], Any],
) -> tuple[Any, jax.Array]:
    """What is kept of every step, stacked, and the last cell state (B, H); `rows` (4H, H) is the recurrent weight.

    `kept` chooses from the hidden state (B, H), the cell state (B, H) and the activations of the gates (B, 4H).
    """

    def step(carry: Carry, x: tuple) -> tuple[Carry, Any]:
        h, c, activations = _cell(x, carry, rows, bias, precision)
        return (h, c), kept(h, c, activations)

    (_, c), stacked = jax.lax.scan(step, (h, c), (gates, valid))
    return stacked, c


def _cell(
    x: tuple[jax.Array, jax.Array | None],
    carry: Carry,
    rows: jax.Array,
    bias: jax.Array,
    precision: Precision,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step with the recurrent weight as `rows`, (4H, H): the new state, and the gates' activations (B, 4H)."""
    (gate, valid), (h, c) = x, carry
    gate = gate + matmul_nt_few(h, rows, precision) + bias[None, :]  # (B, 4H)
    activations = activated(gate, valid, axis=1)
    return *next_state(activations, c, axis=1), activations


def activated(gates: jax.Array, valid: jax.Array | None, axis: int) -> jax.Array:
    """The gates, (B, 4H) with axis 1 or (4H, B) with axis 0, after sigmoid or tanh.

    Those of a text whose `valid`, (B,) bool, is False are closed, which makes a finite state zero.
    One pass over all of them, tanh(x) as 2 sigmoid(2x) - 1, exact to 1e-7: XLA does not vectorize over quarters.
    """
    if valid is not None:
        gates = jnp.where(jnp.expand_dims(valid, axis), gates, jnp.asarray(CLOSED, gates.dtype))
    size = gates.shape[axis]
    slope = 1 + (jnp.arange(size) // (size // 4) == 2).astype(gates.dtype)
    slope = jnp.expand_dims(slope, 1 - axis)
    return slope * jax.nn.sigmoid(slope * gates) + (1 - slope)


def next_state(activations: jax.Array, c: jax.Array, axis: int) -> Carry:
    """Hidden and cell state after a step, (B, H) with axis 1 or (H, B) with axis 0.

    Args:
        activations: the `activated` gates, with the same axis.
        c: the cell state before the step.
        axis: that of the features.
    """
    i, f, g, o = jnp.split(activations, 4, axis=axis)
    c = f * c + i * g
    return o * jnp.tanh(c), c


def _forward(
    gates: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array,
    valid: jax.Array | None,
    h0: jax.Array,
    c0: jax.Array,
    precision: Precision,
) -> tuple:
    recurrent = operand(recurrent, precision)
    kept, cell = _run(gates, transposed(recurrent), bias, valid, h0, c0, precision, lambda *states: states)
    return (kept[0], cell), (recurrent, h0, c0, *kept)


def _backward(precision: Precision, residuals: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    recurrent, h0, c0, hidden, cells, activations = residuals
    d_hidden, d_cell = cotangents
    previous_cells = jnp.concatenate([c0[None], cells[:-1]])

    def step(carry: tuple, x: tuple) -> tuple[tuple, jax.Array]:
        dh, dc, d_bias = carry
        d_out, cell, previous, activation = x
        i, f, g, o = jnp.split(activation, 4, axis=1)
        dh = dh + d_out
        tanh_cell = jnp.tanh(cell)
        dc = dc + dh * o * (1 - tanh_cell * tanh_cell)
        # A closed gate is exactly at an end of its range, where its derivative is 0: padding needs no mask here.
        d_i, d_f = dc * g * i * (1 - i), dc * previous * f * (1 - f)
        d_g, d_o = dc * i * (1 - g * g), dh * tanh_cell * o * (1 - o)
        d_gate = jnp.concatenate([d_i, d_f, d_g, d_o], axis=1)
        return (matmul_nt_few(d_gate, recurrent, precision), dc * f, d_bias + d_gate.sum(axis=0)), d_gate

    start = (jnp.zeros_like(h0), d_cell, jnp.zeros(recurrent.shape[1], d_cell.dtype))
    (dh0, dc0, d_bias), d_gates = jax.lax.scan(
        step, start, (d_hidden, cells, previous_cells, activations), reverse=True
    )
    previous_hidden = jnp.concatenate([h0[None], hidden[:-1]])
    return d_gates, matmul_tn(previous_hidden, d_gates, precision), d_bias, None, dh0, dc0


_recurrence.defvjp(_forward, _backward)


def _masked(inputs: jax.Array, mask: jax.Array | None) -> jax.Array:
    return inputs if mask is None else inputs * mask[None]


@partial(jax.custom_vjp, nondiff_argnums=(8,))
def _padded(
    inputs: jax.Array,
    mask: jax.Array | None,
    kernel: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array,
    valid: jax.Array,
    h: jax.Array,
    c: jax.Array,
    precision: Precision,
) -> tuple[jax.Array, jax.Array]:
    columns, rows = operand(kernel, precision), transposed(operand(recurrent, precision))
    first, h, c = _begin(valid, _chunk_steps(len(valid)), h, c)
    _, c, hidden, *_ = _read(inputs, mask, columns, rows, bias, valid, first, h, c, precision)
    return hidden, c


def _padded_forward(
    inputs: jax.Array,
    mask: jax.Array | None,
    kernel: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array,
    valid: jax.Array,
    h0: jax.Array,
    c0: jax.Array,
    precision: Precision,
) -> tuple:
    columns, weight = operand(kernel, precision), operand(recurrent, precision)
    steps = _chunk_steps(len(valid))
    first, h0, c0 = _begin(valid, steps, h0, c0)
    activations = jnp.zeros((*valid.shape, 4 * h0.shape[1]), h0.dtype)
    starts = jnp.zeros((len(valid) // steps, *c0.shape), c0.dtype)
    _, c, hidden, activations, starts = _read(
        inputs, mask, columns, transposed(weight), bias, valid, first, h0, c0, precision, activations, starts
    )
    return (hidden, c), (inputs, mask, columns, weight, first, h0, hidden, activations, starts)


def _begin(valid: jax.Array, steps: int, h: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first chunk of so many steps to read, and the state before it: a new one where a chunk is skipped.

    `valid` is (T, B) bool. The number of chunks is returned where no row has a word.
    """
    first = _first_chunk(valid, steps)
    return first, _unless(first > 0, h), _unless(first > 0, c)


def _read(
    inputs: jax.Array,
    mask: jax.Array | None,
    columns: jax.Array,
    rows: jax.Array,
    bias: jax.Array,
    valid: jax.Array,
    first: jax.Array,
    h: jax.Array,
    c: jax.Array,
    precision: Precision,
    activations: jax.Array | None = None,
    starts: jax.Array | None = None,
) -> tuple:
    """The last state, all hidden states (T, B, H), and the last two arguments with what the derivative needs.

    The weights are the columns (D, 4H) of the input's and the rows (4H, H) of the recurrent one. `activations`
    (T, B, 4H) gets the activations of the gates, and `starts` (chunks, B, H) the cell state before each chunk. Each
    step is written straight to the whole array: a scan would stack the steps of a chunk first.
    """
    steps = _chunk_steps(len(valid))

    def read_chunk(i: jax.Array, state: tuple) -> tuple:
        h, c, hidden, activations, starts = state
        gates = matmul(_masked(_chunk(inputs, i, steps), mask), columns, precision)
        starts = None if starts is None else _put_at(starts, c, i)

        def step(j: jax.Array, state: tuple) -> tuple:
            h, c, hidden, activations = state
            t = i * steps + j
            h, c, activation = _cell((_at(gates, j), _at(valid, t)), (h, c), rows, bias, precision)
            return h, c, _put_at(hidden, h, t), None if activations is None else _put_at(activations, activation, t)

        return *jax.lax.fori_loop(0, steps, step, (h, c, hidden, activations)), starts

    hidden = jnp.zeros((*valid.shape, h.shape[1]), h.dtype)
    return jax.lax.fori_loop(first, len(valid) // steps, read_chunk, (h, c, hidden, activations, starts))


def _padded_backward(precision: Precision, residuals: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    inputs, mask, columns, weight, first, h0, hidden, activations, starts = residuals
    d_hidden, d_cell = cotangents
    steps = _chunk_steps(len(inputs))
    chunks = len(inputs) // steps
    in_place = inputs.shape == hidden.shape  # each chunk's gradient is written where that of its outputs was

    def before(i: jax.Array) -> jax.Array:
        return jnp.where(i > first, _at(hidden, jnp.maximum(i * steps - 1, 0)), h0)

    def read(chunks_read: jax.Array, state: tuple) -> tuple:
        dh, dc, d_inputs, *d_weights = state
        i = chunks - 1 - chunks_read
        x = _masked(_chunk(inputs, i, steps), mask)
        gates, start = _chunk(activations, i, steps), _at(starts, i)
        residuals = (weight, before(i), start, _chunk(hidden, i, steps), _cells(gates, start), gates)
        d_out = _chunk(d_inputs if in_place else d_hidden, i, steps).at[-1].add(dh)
        d_gates, d_recurrent, d_bias, _, dh, dc = _backward(precision, residuals, (d_out, dc))
        flat = operand(d_gates.reshape(-1, d_gates.shape[-1]), precision)
        d_x = _masked(matmul_nt(flat, columns, precision).reshape(x.shape), mask)
        d_inputs = _put(d_inputs, d_x, i)
        new = (matmul_tn(x, flat, precision), d_recurrent, d_bias)
        return (dh, dc, d_inputs, *(total + part for total, part in zip(d_weights, new, strict=True)))

    # The weights may be bfloat16 here, and their gradients are float32.
    zeros = [jnp.zeros(shape, d_cell.dtype) for shape in (columns.shape, weight.shape, weight.shape[1:])]
    d_inputs = _blank(d_hidden, first, steps) if in_place else jnp.zeros(inputs.shape, d_cell.dtype)
    start = (jnp.zeros_like(h0), d_cell, d_inputs, *zeros)
    dh, dc, d_inputs, *d_weights = jax.lax.fori_loop(0, chunks - first, read, start)
    return (d_inputs, None, *d_weights, None, _unless(first > 0, dh), _unless(first > 0, dc))


_padded.defvjp(_padded_forward, _padded_backward)


def _cells(activations: jax.Array, start: jax.Array) -> jax.Array:
    """The cell states (T, B, H) of the gates' activations (T, B, 4H), from the one before, without a matrix product."""

    def step(c: jax.Array, activation: jax.Array) -> tuple[jax.Array, jax.Array]:
        i, f, g, _ = jnp.split(activation, 4, axis=1)
        c = f * c + i * g
        return c, c

    return jax.lax.scan(step, start, activations)[1]


def _chunk_steps(steps: int) -> int:
    """Steps of a chunk: enough for a fast product, few enough that little padding is read."""
    return next((divisor for divisor in range(16, 49) if steps % divisor == 0), steps)


def _first_chunk(valid: jax.Array, steps: int) -> jax.Array:
    """The index of the first chunk with a valid step in any row, or the number of chunks where there is none."""
    begun = valid.reshape(-1, steps * valid.shape[1]).any(axis=1)
    return jnp.where(begun.any(), jnp.argmax(begun), len(begun))


def _chunk(whole: jax.Array, i: jax.Array, steps: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(whole, i * steps, steps)


def _at(whole: jax.Array, i: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(whole, i, keepdims=False)


def _put_at(whole: jax.Array, part: jax.Array, i: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(whole, part, i, axis=0)


def _put(whole: jax.Array, part: jax.Array, i: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(whole, part, i * len(part), axis=0)


def _blank(whole: jax.Array, chunks: jax.Array, steps: int) -> jax.Array:
    """`whole` with zeros in its first chunks."""
    zeros = jnp.zeros_like(whole[:steps])
    return jax.lax.fori_loop(0, chunks, lambda i, whole: _put(whole, zeros, i), whole)


def _unless(condition: jax.Array, x: jax.Array) -> jax.Array:
    """`x`, or zeros where the condition holds."""
    return jnp.where(condition, jnp.zeros_like(x), x)
