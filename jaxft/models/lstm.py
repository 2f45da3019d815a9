"""One LSTM layer as a pure function with a hand-written derivative: what AWD-LSTM and BiLSTM are made of.

`lax.scan` over `h @ U` would add to a weight-sized dU at every time step. Here the backward scan only keeps the gate
gradients, and dU is one matrix product after it. The input projection of a whole window is one product before it.

Axes: B batch, T time, D input features, H hidden; the 4H gates stand in the order input, forget, cell, output.
"""

import jax
import jax.numpy as jnp

Carry = tuple[jax.Array, jax.Array]

# A gate pre-activation this low is exactly 0 after the sigmoid, in float32 and bfloat16, whatever h @ U adds to it.
CLOSED = -1e9


def lstm(
    inputs: jax.Array,
    carry: Carry,
    kernel: jax.Array,
    recurrent: jax.Array,
    bias: jax.Array,
    valid: jax.Array | None = None,
) -> tuple[jax.Array, Carry]:
    """Runs one LSTM layer over a window, time first.

    i, f, o = sigmoid(.), g = tanh(.) of `x_t @ kernel + h @ recurrent + bias`; c_t = f c + i g; h_t = o tanh(c_t).

    Args:
      inputs: (T, B, D) float.
      carry: hidden and cell state, (B, H) each, from the window before; zeros at the start.
      kernel: (D, 4H).
      recurrent: (H, 4H).
      bias: (4H,).
      valid: (T, B) bool; where it is False the state is reset to zero, so padding on the left leaves no trace.

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
    gates = jnp.einsum("tbd,dg->tbg", inputs, kernel) + bias[None, None, :]  # (T, B, 4H)
    if valid is not None:
        gates = jnp.where(valid[:, :, None], gates, jnp.asarray(CLOSED, gates.dtype))
    hidden, cell = _recurrence(gates, recurrent, *carry)
    return hidden, (hidden[-1], cell)


@jax.custom_vjp
def _recurrence(gates: jax.Array, recurrent: jax.Array, h: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
    def step(carry: Carry, gate: jax.Array) -> tuple[Carry, jax.Array]:
        h, c, _ = _cell(gate, recurrent, *carry)
        return (h, c), h

    (_, c), hidden = jax.lax.scan(step, (h, c), gates)
    return hidden, c


def _cell(gate: jax.Array, recurrent: jax.Array, h: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    i, f, g, o = jnp.split(gate + h @ recurrent, 4, axis=1)  # (B, H) each
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * c + i * g
    return o * jnp.tanh(c), c, jnp.concatenate([i, f, g, o], axis=1)


def _forward(gates: jax.Array, recurrent: jax.Array, h0: jax.Array, c0: jax.Array) -> tuple:
    def step(carry: Carry, gate: jax.Array) -> tuple[Carry, tuple[jax.Array, jax.Array, jax.Array]]:
        h, c, activations = _cell(gate, recurrent, *carry)
        return (h, c), (h, c, activations)

    (_, c), (hidden, cells, activations) = jax.lax.scan(step, (h0, c0), gates)
    return (hidden, c), (recurrent, h0, c0, hidden, cells, activations)


def _backward(residuals: tuple, cotangents: tuple[jax.Array, jax.Array]) -> tuple:
    recurrent, h0, c0, hidden, cells, activations = residuals
    d_hidden, d_cell = cotangents
    previous_cells = jnp.concatenate([c0[None], cells[:-1]])
    recurrent_t = recurrent.T  # transposed once, so that every step multiplies row-major matrices

    def step(carry: Carry, x: tuple) -> tuple[Carry, jax.Array]:
        dh, dc = carry
        d_out, cell, previous, activation = x
        i, f, g, o = jnp.split(activation, 4, axis=1)
        dh = dh + d_out
        tanh_cell = jnp.tanh(cell)
        dc = dc + dh * o * (1 - tanh_cell * tanh_cell)
        d_gate = jnp.concatenate(
            [dc * g * i * (1 - i), dc * previous * f * (1 - f), dc * i * (1 - g * g), dh * tanh_cell * o * (1 - o)],
            axis=1,
        )
        return (d_gate @ recurrent_t, dc * f), d_gate

    zeros = jnp.zeros_like(h0)
    (dh0, dc0), d_gates = jax.lax.scan(
        step, (zeros, d_cell), (d_hidden, cells, previous_cells, activations), reverse=True
    )
    previous_hidden = jnp.concatenate([h0[None], hidden[:-1]])
    d_recurrent = jnp.einsum("tbh,tbg->hg", previous_hidden, d_gates)
    return d_gates, d_recurrent, dh0, dc0


_recurrence.defvjp(_forward, _backward)
