"""The AWD-LSTM text classifier for documents of any length: encoder, pooling and head, and the loss.

Axes: B batch, T time, E encoder features, C classes.

References:
    Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018, section 3.3.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxft.base.sharding import axis_name, shards, sum_over_shards
from jaxft.models.awd_lstm import MANY_TEXTS, AWDLSTMConfig, ColumnWeights, Encoder, initial_carry, layer_rules
from jaxft.models.dropout import keep_masks
from jaxft.models.options import Dropouts
from jaxft.models.pooling import concat_pool, concatenated, pools, pools_with

LONG_CHUNKS = 192
"""above so many chunks, only the rows of a batch that have begun are read"""
EPSILON = 1e-5
"""what the batch norms add to a variance"""


class PoolingHead(nnx.Module):
    """Batch norm, dropout, linear, ReLU; then batch norm, dropout, linear to the classes (fastai's layout)."""

    def __init__(self, features: int, hidden: int, classes: int, dropouts: tuple[float, float], rngs: nnx.Rngs):
        self.dropouts = dropouts
        # A momentum of 0.9 here is PyTorch's default of 0.1, which weights the new statistics instead of the old. The
        # fast variance, a difference of means of squares, would depend on how many devices compute it.
        norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=EPSILON, use_fast_variance=False, rngs=rngs)
        self.norm_0 = norm(features)
        self.linear_0 = nnx.Linear(features, hidden, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        self.norm_1 = norm(hidden)
        self.linear_1 = nnx.Linear(hidden, classes, kernel_init=nnx.initializers.he_normal(), rngs=rngs)

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """(B, features) -> logits (B, C); a key turns dropout on, and normalizes by the statistics of the batch."""
        widths = zip(self.dropouts, (x.shape[1], self.linear_0.out_features), strict=True)
        masks = None if key is None else keep_masks(key, [(p, (x.shape[0], width)) for p, width in widths], [0, 0])
        for norm in (self.norm_0, self.norm_1):
            if norm.axis_name != axis_name():  # the statistics are those of the whole batch
                norm.axis_name = axis_name()
        x = self.norm_0(x, use_running_average=key is None)
        x = jax.nn.relu(self.linear_0(x if masks is None else x * masks[0]))
        x = self.norm_1(x, use_running_average=key is None)
        return self.linear_1(x if masks is None else x * masks[1])


def with_linear_head(
    params: Any, features: np.ndarray, solve: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[Any, Any]:
    """The parameters and statistics of a `PoolingHead` that answers as a linear layer on normalized features does.

    A hidden unit and its opposite hold each output, because relu(z) - relu(-z) = z. The other hidden units stay as they
    are and have no weight in the answer yet.

    Args:
        params: of the head, with at least 2 C hidden units.
        features: (N, F) float32, of training texts; the batch norms get their means and variances.
        solve: from the features, normalized, to kernel (F, C) and bias (C,) of the linear layer.
    """
    mean, var = features.mean(axis=0), features.var(axis=0)
    normalized = (features - mean) / np.sqrt(var + EPSILON)
    kernel, bias = solve(normalized)
    pairs = 2 * kernel.shape[1]
    linear_0 = {name: np.array(array) for name, array in params["linear_0"].items()}
    linear_0["kernel"][:, :pairs] = np.concatenate([kernel, -kernel], axis=1)
    linear_0["bias"][:pairs] = np.concatenate([bias, -bias])
    units = np.maximum(normalized @ linear_0["kernel"] + linear_0["bias"], 0)
    unit_mean, unit_var = units.mean(axis=0), units.var(axis=0)
    signs = np.concatenate([np.eye(kernel.shape[1]), -np.eye(kernel.shape[1])]).astype(np.float32)  # (2C, C)
    top = np.zeros_like(params["linear_1"]["kernel"])
    top[:pairs] = signs * np.sqrt(unit_var[:pairs, None] + EPSILON)
    linear_1 = {"kernel": top, "bias": unit_mean[:pairs] @ signs}
    statistics = {"norm_0": {"mean": mean, "var": var}, "norm_1": {"mean": unit_mean, "var": unit_var}}
    return {**params, "linear_0": linear_0, "linear_1": linear_1}, statistics


class Classifier(nnx.Module):
    """Encoder, concat pooling and head, with backpropagation through time for text classification (BPT3C)."""

    def __init__(
        self,
        config: AWDLSTMConfig,
        classes: int,
        dropouts: Dropouts,
        rngs: nnx.Rngs,
        *,
        head_hidden: int = 50,
        head_dropouts: tuple[float, float] = (0.4, 0.1),
        max_length: int = 1440,
        bptt: int = 72,
    ):
        self.encoder = Encoder(config, dropouts, rngs)
        self.head = PoolingHead(3 * config.embedding_size, head_hidden, classes, head_dropouts, rngs)
        self.max_length, self.bptt = max_length, bptt

    def __call__(self, tokens: jax.Array, lengths: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits (B, C) of documents of any length.

        Args:
            tokens: (B, T) int, padded on the left.
            lengths: (B,) int, words of each document, at least 1.
            key: for the dropouts; None for evaluation, with the running statistics.

        The state runs through the whole document; gradient and pooling cover its last `max_length` words. The words
        before are read in chunks of `bptt`, from the chunk where the batch's longest document starts, so that one
        compiled shape serves every length and short documents cost less.
        """
        encoder_key, head_key = (None, None) if key is None else jax.random.split(key)
        valid = _words(tokens, lengths)
        carry = initial_carry(self.encoder.config, len(tokens))
        masks = None if encoder_key is None else self.encoder.masks(encoder_key, len(tokens))
        before = max(0, tokens.shape[1] - self.max_length)
        if before:

            def read(encoder: Encoder, tokens: jax.Array, valid: jax.Array, carry: Any) -> Any:
                return encoder(tokens, carry, valid, masks=None if masks is None else masks.first(len(tokens)))[2]

            carry = jax.lax.stop_gradient(self._in_chunks(read, carry, tokens[:, :before], valid[:, :before]))
        valid = valid[:, before:]
        # The outputs before dropout, since the head drops from the pooled features.
        outputs, _, _ = self.encoder(tokens[:, before:], carry, valid, masks=masks)
        return self.head(concat_pool(outputs, valid.T), head_key)

    def evaluate(self, tokens: jax.Array, lengths: jax.Array, weights: ColumnWeights | None = None) -> jax.Array:
        """The logits (B, C) of a call without a key, without a gradient; see `pool`."""
        return jax.lax.stop_gradient(self.head(self.pool(tokens, lengths, weights)))

    def pool(self, tokens: jax.Array, lengths: jax.Array, weights: ColumnWeights | None = None) -> jax.Array:
        """The pooled outputs (B, 3E) of the encoder, without dropout and gradient.

        With the `column_weights` of the encoder, many texts are read with one in each column.

        The whole document is read and pooled in chunks of `bptt`, from the chunk where the batch's longest document
        starts, so that only the token ids take memory in proportion to T.
        """

        def read(encoder: Encoder, tokens: jax.Array, valid: jax.Array, tail: jax.Array, state: Any) -> Any:
            # `_in_chunks` also gives the few rows alone that have begun.
            if weights is not None and len(tokens) >= MANY_TEXTS:
                return _pool_columns(encoder, weights, tokens.T, valid.T, tail.T, state)
            carry, _, largest, total = state
            outputs, _, carry = encoder(tokens, carry, valid)
            last, new_largest, new_total = pools(outputs, tail.T)
            return carry, last, jnp.maximum(largest, new_largest), total + new_total

        batch, width = tokens.shape
        zeros = jnp.zeros((batch, self.encoder.config.embedding_size))
        state = (initial_carry(self.encoder.config, batch), zeros, jnp.full_like(zeros, -jnp.inf), zeros)
        valid = _words(tokens, lengths)
        tail = valid & (jnp.arange(width) >= width - self.max_length)[None, :]
        _, last, largest, total = self._in_chunks(read, state, tokens, valid, tail)
        return jax.lax.stop_gradient(concatenated(last, largest, total, tail.sum(axis=1)))

    def _in_chunks(self, read: Callable[..., Any], state: Any, tokens: jax.Array, valid: jax.Array, *more: Any) -> Any:
        """Folds `read(encoder, *columns, state) -> state` over chunks of `bptt` columns, from the first with a word.

        Batches hold the longest documents first. In a very wide batch, where only the first or the first few of them
        have begun, `read` gets their rows alone, so that a long document costs no more than it would by itself.
        """
        parameters = jax.lax.stop_gradient(nnx.to_pure_dict(nnx.state(self.encoder, nnx.Param)))
        graphdef, padding = nnx.graphdef(self.encoder), -tokens.shape[1] % self.bptt
        columns = [jnp.pad(x, ((0, 0), (padding, 0))) for x in (tokens, valid, *more)]
        chunks = columns[0].shape[1] // self.bptt

        def first_chunk(valid: jax.Array) -> jax.Array:
            begun = valid.any(axis=0)
            return jnp.where(begun.any(), jnp.argmax(begun) // self.bptt, chunks)

        # Each number of rows is compiled, which pays for very long documents alone.
        rows = sorted({1, max(1, len(tokens) // 8), len(tokens)} if chunks > LONG_CHUNKS else {len(tokens)})
        starts = [first_chunk(columns[1][fewer:]) for fewer in (0, *rows[:-1])]
        for count, start, end in zip(rows, starts, (*starts[1:], chunks), strict=True):

            def chunk(i: jax.Array, state: Any, count: int = count) -> Any:
                parts = (jax.lax.dynamic_slice_in_dim(x[:count], i * self.bptt, self.bptt, axis=1) for x in columns)
                return read(nnx.merge(graphdef, parameters), *parts, state)

            part = jax.lax.fori_loop(start, end, chunk, jax.tree.map(lambda x, count=count: x[:count], state))
            state = jax.tree.map(lambda x, part, count=count: x.at[:count].set(part), state, part)
        return state


def _pool_columns(
    encoder: Encoder, weights: ColumnWeights, tokens: jax.Array, valid: jax.Array, tail: jax.Array, state: Any
) -> Any:
    """The state that `Classifier.pool` has after a chunk, whose words, (T, B), are read with a text in each column."""

    def step(t: jax.Array, columns: tuple) -> tuple:
        carry, _, largest, total = columns
        carry = encoder.step_columns(tokens[t], carry, valid[t], weights)
        last, _ = carry[-1]
        return carry, last, *pools_with(largest, total, last, tail[t][None, :])

    first = jnp.argmax(valid.any(axis=1))
    turned = jax.tree.map(jnp.transpose, state)
    return jax.tree.map(jnp.transpose, jax.lax.fori_loop(first, len(tokens), step, turned))


def _words(tokens: jax.Array, lengths: jax.Array) -> jax.Array:
    """Which places hold a word, (B, T) bool, in documents padded on the left."""
    width = tokens.shape[1]
    return jnp.arange(width)[None, :] >= width - lengths[:, None]


def classifier_rules(num_layers: int) -> tuple[tuple[str, str], ...]:
    """Rules for `jaxft.label_params` of the classifier: its parameter groups, bottom to top.

    Examples:
        >>> [group for _, group in classifier_rules(2)]
        ['embedding', 'lstm_0', 'lstm_1', 'head']
    """
    return (("encoder/embedding", "embedding"), *layer_rules(num_layers), ("head/.*", "head"))


def classification_loss(
    graphdef: nnx.GraphDef, class_weights: np.ndarray | None = None
) -> Callable[..., tuple[jax.Array, tuple[Any, Mapping[str, jax.Array]]]]:
    """The loss function for the trainer: mean cross-entropy in nats per document.

    Args:
        graphdef: of a `Classifier`.
        class_weights: (C,) float32, the weight of a document of each class in the mean; None weights all alike.

    Returns:
        `loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))`. `carry` holds the statistics of the batch
        norms, `batch` holds `tokens` (B, T), `lengths` (B,) and `labels` (B,) int, and `metrics` holds `accuracy`.
    """

    def loss_fn(params: Any, carry: Any, batch: Mapping[str, jax.Array], key: jax.Array | None) -> tuple:
        model: Classifier = nnx.merge(graphdef, params, carry)
        logits = model(batch["tokens"], batch["lengths"], key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        weights = None if class_weights is None else jnp.asarray(class_weights)[batch["labels"]]
        loss = jnp.average(losses, weights=weights)
        if weights is not None and shards() > 1:  # whose means of rows count alike
            loss = loss * weights.sum() * shards() / sum_over_shards(weights.sum())
        accuracy = jnp.mean((jnp.argmax(logits, axis=1) == batch["labels"]).astype(loss.dtype))
        statistics = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return loss, (statistics, {"accuracy": accuracy})

    return loss_fn
