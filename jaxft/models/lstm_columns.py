"""One step of an LSTM layer that is only evaluated, with a text in each column.

A CPU reads many texts faster this way than by `jaxft.models.lstm`, and few texts more slowly: no product has to
transpose the state, and one product serves input and state.

Axes: D input features, H hidden, B batch; the 4H gates stand in the order input, forget, cell, output.
"""

from functools import partial

import jax
import jax.numpy as jnp

from jaxft.models.lstm import Carry, activated, next_state
from jaxft.models.options import Precision
from jaxft.models.products import matmul_nn, operand, transposed


@partial(jax.jit, static_argnums=2)
def joined(kernel: jax.Array, recurrent: jax.Array, precision: Precision) -> jax.Array:
    """The weights of a layer, (D, 4H) and (H, 4H), as `step_columns` reads them: (4H, D + H)."""
    return jnp.concatenate([transposed(operand(weight, precision)) for weight in (kernel, recurrent)], axis=1)


def step_columns(
    x: jax.Array, carry: Carry, weight: jax.Array, bias: jax.Array, valid: jax.Array, precision: Precision = "f32"
) -> Carry:
    """What `jaxft.models.lstm.lstm` computes in a step, with columns in place of rows.

    Args:
        x: (D, B) float.
        carry: hidden and cell state before the step, (H, B) each.
        weight: (4H, D + H), made by `joined` in the same precision; all steps and batches share it.
        bias: (4H,).
        valid: (B,) bool; where it is False a finite state becomes zero.
        precision: of the matrix product; see `jaxft.models.products`.

    Returns:
        Hidden and cell state after the step.

    Examples:
        >>> D, H, B = 3, 4, 2
        >>> weight = joined(jnp.ones((D, 4 * H)), jnp.ones((H, 4 * H)), "f32")
        >>> zeros, valid = jnp.zeros((H, B)), jnp.array([True, False])
        >>> h, c = step_columns(jnp.ones((D, B)), (zeros, zeros), weight, jnp.zeros(4 * H), valid)
        >>> [[round(float(x), 3) for x in state[0]] for state in (h, c)]
        [[0.704, 0.0], [0.948, 0.0]]
    """
    h, c = carry
    read = jnp.concatenate([operand(x, precision), operand(h, precision)])  # (D + H, B)
    gates = matmul_nn(weight, read, precision) + bias[:, None]  # (4H, B)
    return next_state(activated(gates, valid, axis=0), c, axis=0)
