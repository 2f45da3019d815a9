"""What the layers of all encoders share: linear layers, norms, what is saved for the backward pass, pooling and heads.

Axes: B batch, T time, H hidden, C classes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxft.models.activations import ACTIVATIONS
from jaxft.models.bert_config import BertConfig
from jaxft.models.dropout import dropout
from jaxft.models.encoder_config import EncoderConfig
from jaxft.models.encoder_kinds import Kind
from jaxft.models.options import Pooling, Precision
from jaxft.models.products import matmul, on_accelerator, operand

HEAD_ACTIVATIONS: dict[Kind, Callable[[jax.Array], jax.Array]] = {
    "roberta": ACTIVATIONS["tanh"],
    "mpnet": ACTIVATIONS["tanh"],
    "distilbert": ACTIVATIONS["relu"],
    "electra": ACTIVATIONS["gelu"],
}


class Pooler(nnx.Module):
    """A dense layer with an activation on the first token's output."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        self.dense = dense(config, config.hidden_size, config.hidden_size, rngs)

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """(B, H) -> (B, H)."""
        x = dropout(x, self.config.pooler_dropout, key)
        return ACTIVATIONS[self.config.pooler_activation](linear(self.config, x, self.dense))


class Head(nnx.Module):
    """The head for whole texts: a linear layer; some kinds read the first token through a dense layer."""

    def __init__(self, config: EncoderConfig, num_labels: int, rngs: nnx.Rngs):
        self.config = config
        self.has_dense = config.pooling == "cls" and not config.head_reads_pooler
        if self.has_dense:
            self.dense = dense(config, config.hidden_size, config.hidden_size, rngs)
        self.out = dense(config, config.hidden_size, num_labels, rngs)

    def __call__(self, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """(B, H) -> the features of the output layer, (B, H), and logits (B, C)."""
        keys = split_key(key, 2)
        if self.has_dense:
            if self.config.kind != "distilbert":
                x = dropout(x, self.config.head_dropout, keys[0])
            x = HEAD_ACTIVATIONS[self.config.kind](linear(self.config, x, self.dense))
        return x, linear(self.config, dropout(x, self.config.head_dropout, keys[1]), self.out)


def pool(x: jax.Array, valid: jax.Array, pooling: Pooling) -> jax.Array:
    """(B, T, H) and (B, T) bool -> (B, H), over the tokens where `valid` is True.

    References:
        Reimers & Gurevych, Sentence-BERT, EMNLP 2019, section 3.
    """
    mask = valid[:, :, None]
    match pooling:
        case "cls":
            return x[:, 0]
        case "mean":
            counts = jnp.maximum(mask.sum(axis=1), 1).astype(x.dtype)
            return jnp.where(mask, x, jnp.zeros_like(x)).sum(axis=1) / counts
        case "max":
            return jnp.where(mask, x, jnp.full_like(x, jnp.finfo(x.dtype).min)).max(axis=1)


def dense(config: EncoderConfig, inputs: int, outputs: int, rngs: nnx.Rngs, bias: bool = True) -> nnx.Linear:
    """A linear layer with a normal kernel, whose standard deviation is the configuration's."""
    init = nnx.initializers.normal(config.initializer_range)
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=init, rngs=rngs)


def norm(config: EncoderConfig, size: int, rngs: nnx.Rngs, bias: bool = True) -> nnx.LayerNorm:
    """A layer norm with the configuration's epsilon."""
    return nnx.LayerNorm(size, epsilon=config.layer_norm_eps, use_bias=bias, use_fast_variance=False, rngs=rngs)


save_only_saved = jax.checkpoint_policies.save_only_these_names("saved")
"""a policy of `jax.checkpoint`: the backward pass computes everything again but what `saved` marks"""


def saved(x: jax.Array) -> jax.Array:
    """Marks `x` as an activation that `save_only_saved` saves."""
    return checkpoint_name(x, "saved")


def recomputed(layer: Callable[..., Any], whole: bool = False) -> Callable[..., Any]:
    """A call of a layer whose backward pass computes the norms, activations and dropout masks again.

    Of every layer it saves the input, the results of matrix products, which are what takes time, and two numbers for
    each row of attention weights; with `whole`, the input alone. `layer` has to run in a loop, where XLA cannot merge
    the second computation with the first.
    """
    policy = jax.checkpoint_policies.nothing_saveable if whole else save_only_saved
    return jax.checkpoint(layer, policy=policy, prevent_cse=False)


def linear(
    config: EncoderConfig, x: jax.Array, *layers: nnx.Linear, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """The outputs of linear layers side by side, in `dtype`, by one product in the configuration's precision."""
    kernel = jnp.concatenate([layer.kernel[...] for layer in layers], axis=1)
    product = matmul(x, kernel, config.precision, dtype)
    biases = [layer.bias[...] for layer in layers if layer.bias is not None]
    return _add_bias(product, jnp.concatenate(biases), config.precision) if biases else product


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _add_bias(x: jax.Array, bias: jax.Array, precision: Precision) -> jax.Array:
    """`x + bias` in the dtype of `x`; the derivative sums in float32, which JAX would do in the dtype of `x`.

    It rounds what it sums as the next products do, so that the unrounded array need not be kept.
    """
    return x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


def _add_bias_backward(precision: Precision, _: None, d_result: jax.Array) -> tuple[jax.Array, jax.Array]:
    rounded = operand(d_result, precision)
    d_bias = rounded.astype(jnp.float32).sum(axis=tuple(range(rounded.ndim - 1)))
    return rounded.astype(d_result.dtype), d_bias


_add_bias.defvjp(lambda x, bias, precision: (_add_bias(x, bias, precision), None), _add_bias_backward)


def activation_dtype(precision: Precision) -> jax.typing.DTypeLike:
    """The dtype of the arrays between two products of a layer.

    On an accelerator it is that of the operands, since reading and writing them takes longer than the products. A CPU
    multiplies bfloat16 faster into float32.
    """
    return jnp.bfloat16 if precision == "bf16" and on_accelerator() else jnp.float32


def split_key(key: jax.Array | None, count: int) -> list[Any]:
    """`count` keys, or as many None where there is no key."""
    return [None] * count if key is None else list(jax.random.split(key, count))
