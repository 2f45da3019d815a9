"""AWD-LSTM: the encoder of ULMFiT, and a language model whose softmax shares the embedding's weight.

The modules hold parameters only. The recurrent state and the PRNG key are arguments, and `key=None` means evaluation.

Axes: B batch, T time, E embedding, H hidden, V vocabulary. Tokens are (B, T); everything inside is time first.

References:
    Merity, Keskar & Socher, Regularizing and Optimizing LSTM Language Models, ICLR 2018.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxft.models.dropout import keep_masks
from jaxft.models.lstm import Carry, lstm
from jaxft.models.lstm_columns import joined, step_columns
from jaxft.models.options import Dropouts, Precision
from jaxft.models.products import matmul, on_accelerator
from jaxft.models.tied_softmax import tied_cross_entropy

MANY_TEXTS = 64
"""the smallest batch, of one device, that a CPU evaluates with a text in each column"""

ColumnWeights = tuple[jax.Array, ...]
"""for each layer; see `column_weights`"""


@dataclass(frozen=True)
class AWDLSTMConfig:
    """Sizes of the encoder, and the precision of its products."""

    vocabulary_size: int
    embedding_size: int = 400
    hidden_size: int = 1152
    num_layers: int = 3
    precision: Precision = "f32"

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of the embedding and of every layer's output; the last layer is as wide as the embedding."""
        return (self.embedding_size, *[self.hidden_size] * (self.num_layers - 1), self.embedding_size)


def layer_rules(num_layers: int) -> tuple[tuple[str, str], ...]:
    """Rules for `jaxft.label_params` with one group for each LSTM layer, bottom to top.

    Examples:
        >>> layer_rules(2)
        (('encoder/lstm_0/.*', 'lstm_0'), ('encoder/lstm_1/.*', 'lstm_1'))
    """
    return tuple((rf"encoder/lstm_{i}/.*", f"lstm_{i}") for i in range(num_layers))


class LSTMLayer(nnx.Module):
    """Weights of one LSTM layer, drawn from U(-1/sqrt(H), 1/sqrt(H)) as in PyTorch."""

    def __init__(self, inputs: int, units: int, rngs: nnx.Rngs):
        bound = units**-0.5

        def uniform(*shape: int) -> nnx.Param:
            return nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound))

        self.kernel = uniform(inputs, 4 * units)
        self.recurrent = uniform(units, 4 * units)
        self.bias = uniform(4 * units)


class Encoder(nnx.Module):
    """Embedding and LSTM layers with the five dropouts of the paper."""

    def __init__(self, config: AWDLSTMConfig, dropouts: Dropouts, rngs: nnx.Rngs):
        self.config, self.dropouts = config, dropouts
        shape = (config.vocabulary_size, config.embedding_size)
        self.embedding = nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-0.1, maxval=0.1))
        for i, (inputs, units) in enumerate(zip(config.widths[:-1], config.widths[1:], strict=True)):
            setattr(self, f"lstm_{i}", LSTMLayer(inputs, units, rngs))

    def __call__(
        self,
        tokens: jax.Array,
        carry: tuple[Carry, ...],
        valid: jax.Array | None = None,
        key: jax.Array | None = None,
        masks: "Masks | None" = None,
    ) -> tuple[jax.Array, jax.Array, tuple[Carry, ...]]:
        """Encodes a window (B, T) of int tokens.

        Args:
            tokens: (B, T) int.
            carry: one (hidden, cell) pair per layer, as `initial_carry` makes it.
            valid: (B, T) bool, False on padding, which has to be on the left; None without padding.
            key: for the dropouts; None for no dropout. The masks depend on the key and not on T, so that the windows of
                one document can share them.
            masks: what `masks` makes of a key, in place of `key`.

        Returns:
            The last layer's output before and after its dropout, (T, B, E) each, and the new carry.
        """
        if key is not None:
            masks = self.masks(key, tokens.shape[0])
        valid = None if valid is None else valid.T
        outputs, carries = self.embedding[...][tokens.T], []  # (T, B, E)
        if masks is not None:
            outputs = outputs * masks.words[tokens.T]
        for i in range(self.config.num_layers):
            layer: LSTMLayer = getattr(self, f"lstm_{i}")
            mask, recurrent = None, layer.recurrent[...]
            if masks is not None:
                mask, recurrent = masks.features[i][0], recurrent * masks.weights[i]
            weights = (layer.kernel[...], recurrent, layer.bias[...])
            outputs, state = lstm(outputs, carry[i], *weights, valid, self.config.precision, mask)
            carries.append(state)
        return outputs, outputs if masks is None else outputs * masks.features[-1], tuple(carries)

    def step_columns(
        self, tokens: jax.Array, carry: Sequence[Carry], valid: jax.Array, weights: ColumnWeights
    ) -> tuple[Carry, ...]:
        """One step of all layers with a text in each column, without dropout.

        Nothing has to be stored of a step but the states after it.

        Args:
            tokens: (B,) int.
            carry: one (hidden, cell) pair per layer, (H, B) each.
            valid: (B,) bool, False on padding.
            weights: the `column_weights` of this encoder.

        Returns:
            The new carry, whose last hidden state is the output.
        """
        precision, carries = self.config.precision, []
        x = self.embedding[...][tokens].T
        for i, (state, weight) in enumerate(zip(carry, weights, strict=True)):
            layer: LSTMLayer = getattr(self, f"lstm_{i}")
            carries.append(step_columns(x, state, weight, layer.bias[...], valid, precision))
            x = carries[-1][0]
        return tuple(carries)

    def masks(self, key: jax.Array, batch: int) -> "Masks":
        """The dropout masks of a window with `batch` rows."""
        p, widths, layers = self.dropouts, self.config.widths, self.config.num_layers
        between = [p.input, *[p.hidden] * (layers - 1), p.output]
        masks = keep_masks(
            key,
            [
                (p.embedding, (self.config.vocabulary_size, 1)),
                *((share, (1, batch, width)) for share, width in zip(between, widths, strict=True)),
                *((p.weight, (width, 4 * width)) for width in widths[1:]),
            ],
            row_axes=[None, *[1] * len(widths), *[None] * layers],
        )
        return Masks(masks[0], masks[1 : layers + 2], masks[layers + 2 :])


def column_weights(params: Mapping[str, Any], config: AWDLSTMConfig, texts: int) -> ColumnWeights | None:
    """The weights of every layer for `Encoder.step_columns`, which all batches of a prediction share.

    Shared, they are made once, and stay in the cache of the cores that compute a batch each.

    Args:
        params: of an `Encoder`.
        config: its sizes and precision.
        texts: how many a batch has on one device.

    Returns:
        (4H, D + H) for each layer, in the dtype of a product's operands; None where batches are better read in rows: on
        an accelerator, and with fewer than `MANY_TEXTS` texts.
    """
    if on_accelerator() or texts < MANY_TEXTS:
        return None
    layers = [params[f"lstm_{i}"] for i in range(config.num_layers)]
    return tuple(joined(layer["kernel"], layer["recurrent"], config.precision) for layer in layers)


class Masks(NamedTuple):
    """Dropout masks of one window.

    Attributes:
        words: (V, 1).
        features: (1, B, D) each, before, between and after the layers.
        weights: (H, 4H) each, of the hidden-to-hidden weights.
    """

    words: jax.Array
    features: list[jax.Array]
    weights: list[jax.Array]

    def first(self, rows: int) -> "Masks":
        """Those of the first rows of the window."""
        return self._replace(features=[mask[:, :rows] for mask in self.features])


def initial_carry(config: AWDLSTMConfig, batch_size: int) -> tuple[Carry, ...]:
    """Zero state for every layer: a tuple of (hidden, cell), (B, H) float32 each."""
    return tuple((jnp.zeros((batch_size, h)), jnp.zeros((batch_size, h))) for h in config.widths[1:])


class LanguageModel(nnx.Module):
    """The encoder and a softmax whose weight is the embedding."""

    def __init__(self, config: AWDLSTMConfig, dropouts: Dropouts, rngs: nnx.Rngs):
        self.encoder = Encoder(config, dropouts, rngs)
        self.decoder_bias = nnx.Param(jnp.zeros(config.vocabulary_size))

    def __call__(
        self, tokens: jax.Array, carry: tuple[Carry, ...], key: jax.Array | None = None
    ) -> tuple[jax.Array, tuple[Carry, ...]]:
        """Logits (B, T, V) of the word after each of the tokens (B, T), and the new carry."""
        _, hidden, carry = self.encoder(tokens, carry, key=key)
        logits = matmul(hidden.swapaxes(0, 1), self.encoder.embedding[...].T, self.encoder.config.precision)
        return logits + self.decoder_bias[...][None, None, :], carry


def language_model_rules(num_layers: int) -> tuple[tuple[str, str], ...]:
    """Rules for `jaxft.label_params` of the language model, bottom to top.

    The embedding is in the top group, because it is the decoder's weight as well.

    Examples:
        >>> [group for _, group in language_model_rules(2)]
        ['lstm_0', 'lstm_1', 'embedding']
    """
    return (*layer_rules(num_layers), (r"encoder/embedding|decoder_bias", "embedding"))


def language_model_loss(
    graphdef: nnx.GraphDef, activation_penalty: float = 2.0, temporal_penalty: float = 1.0
) -> Callable[..., tuple[jax.Array, tuple[Any, Mapping[str, jax.Array]]]]:
    """The loss function for the trainer: cross-entropy in nats per token, plus the penalties AR and TAR.

    AR is `activation_penalty` times the mean square of the last layer's outputs after dropout. TAR is
    `temporal_penalty` times the mean square of the differences between successive outputs. Both are absent when `key`
    is None.

    Returns:
        `loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))`. `batch` holds `inputs` and `targets`, (B, T)
        int, and `reset`, a bool: whether to start from a zero state. `metrics` holds `cross_entropy`.

    References:
        Merity, McCann & Socher, Revisiting Activation Regularization for Language RNNs, 2017.
    """

    def loss_fn(params: Any, carry: Any, batch: Mapping[str, jax.Array], key: jax.Array | None) -> tuple:
        model: LanguageModel = nnx.merge(graphdef, params)
        carry = jax.tree.map(lambda c: jnp.where(batch["reset"], jnp.zeros_like(c), c), carry)
        outputs, dropped, carry = model.encoder(batch["inputs"], carry, key=key)
        flat = dropped.reshape(-1, dropped.shape[-1])
        embedding, bias = model.encoder.embedding[...], model.decoder_bias[...]
        targets = batch["targets"].T.reshape(-1)
        cross_entropy = tied_cross_entropy(flat, embedding, bias, targets, precision=model.encoder.config.precision)
        loss = cross_entropy
        if key is not None:
            loss = loss + activation_penalty * jnp.mean(dropped**2)
            if len(outputs) > 1:
                loss = loss + temporal_penalty * jnp.mean((outputs[1:] - outputs[:-1]) ** 2)
        return loss, (carry, {"cross_entropy": cross_entropy})

    return loss_fn
