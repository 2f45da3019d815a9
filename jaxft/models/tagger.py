"""A tagger of tokens: an encoder or an embedding, then a BiLSTM and a conditional random field, both optional.

Axes: B batch, T time, D features, H units per direction, K tags.

References:
    Huang, Xu & Yu, Bidirectional LSTM-CRF Models for Sequence Tagging, 2015. Weinberger et al., Feature Hashing for
    Large Scale Multitask Learning, ICML 2009, for the bigram embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxft.models.crf import constrain, init_crf, log_likelihood, marginals, tag_log_likelihoods, viterbi
from jaxft.models.dropout import dropout
from jaxft.models.encoders import Encoder
from jaxft.models.hashing import mixed
from jaxft.models.lstm import lstm
from jaxft.models.options import Precision
from jaxft.models.products import matmul

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class TaggerConfig:
    """Sizes of a tagger, without those of its encoder.

    Attributes:
        tags: names of the K tags, of a BIO or BIOES scheme.
        features: D, the size of a token's vector.
        vocab_size: tokens of the tagger's embedding; None where an encoder gives the vectors.
        bigrams: buckets of the bigram embedding, to which pairs of neighbouring tokens are hashed; its vectors have
            D / 2 features and are concatenated with those of the tokens. 0 for no bigram embedding.
        lstm_size: H, units of each direction of the BiLSTM; 0 for no BiLSTM.
        crf: whether a conditional random field scores the sequence of tags; without one, each tag is chosen alone.
        dropout: probability of dropping a feature of the vectors, a whole bigram vector, or an output of the BiLSTM.
        precision: of the matrix products; see `jaxft.models.products`.
    """

    tags: tuple[str, ...]
    features: int
    vocab_size: int | None = None
    bigrams: int = 0
    lstm_size: int = 64
    crf: bool = True
    dropout: float = 0.5
    precision: Precision = "f32"


class LSTM(nnx.Module):
    """One LSTM layer, initialized as in Keras, with a bias of 1 for the forget gate."""

    def __init__(self, features: int, units: int, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (features, 4 * units)))
        self.recurrent = nnx.Param(nnx.initializers.orthogonal()(rngs.params(), (units, 4 * units)))
        self.bias = nnx.Param(jnp.zeros(4 * units).at[units : 2 * units].set(1.0))

    def __call__(self, x: jax.Array, valid: jax.Array | None, precision: Precision) -> jax.Array:
        """(T, B, D) -> (T, B, H); the state is zero where `valid` (T, B) is False."""
        zeros = jnp.zeros((x.shape[1], self.recurrent.shape[0]), x.dtype)
        weights = self.kernel[...], self.recurrent[...], self.bias[...]
        return lstm(x, (zeros, zeros), *weights, valid=valid, precision=precision)[0]


class BiLSTM(nnx.Module):
    """Two LSTM layers, one in each direction, with their outputs concatenated."""

    def __init__(self, features: int, units: int, rngs: nnx.Rngs):
        self.ahead, self.back = LSTM(features, units, rngs), LSTM(features, units, rngs)

    def __call__(self, x: jax.Array, valid: jax.Array, precision: Precision) -> jax.Array:
        """(B, T, D) and (B, T) bool, with padding on the right -> (B, T, 2H).

        The backward layer reads the padding first, which keeps its state at zero.
        """
        x, valid = jnp.swapaxes(x, 0, 1), valid.T
        ahead, back = self.ahead(x, None, precision), self.back(x[::-1], valid[::-1], precision)[::-1]
        return jnp.swapaxes(jnp.concatenate([ahead, back], axis=2), 0, 1)


class Tagger(nnx.Module):
    """The scores of every tag at every token, and the parameters of the conditional random field."""

    def __init__(self, config: TaggerConfig, rngs: nnx.Rngs):
        self.config = config
        features = config.features + (config.features // 2 if config.bigrams else 0)
        num_tags, width = len(config.tags), 2 * config.lstm_size or features
        if config.vocab_size is not None:
            self.embedding = nnx.Param(jax.random.normal(rngs.params(), (config.vocab_size, config.features)) * 0.1)
        if config.bigrams:
            size = (config.bigrams, config.features // 2)
            self.bigrams = nnx.Param(jax.random.normal(rngs.params(), size) * 0.1)
        if config.lstm_size:
            self.lstm = BiLSTM(features, config.lstm_size, rngs)
        self.out = nnx.Linear(width, num_tags, rngs=rngs)
        if config.crf:
            self.crf = nnx.data({name: nnx.Param(x) for name, x in init_crf(num_tags, rngs.params()).items()})

    def __call__(self, tokens: jax.Array, valid: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Scores of tags.

        Args:
            tokens: (B, T) int ids, or (B, T, D) vectors where the tagger has no embedding.
            valid: (B, T) bool, False on padding, which is on the right.
            key: for the dropouts; None for evaluation.

        Returns:
            (B, T, K) float32.
        """
        p, keys = self.config.dropout, (None, None, None) if key is None else jax.random.split(key, 3)
        vectors = dropout(tokens if self.config.vocab_size is None else self.embedding[tokens], p, keys[0])
        if self.config.bigrams:
            bigrams = self.bigrams[bigram_buckets(tokens, valid, self.config.bigrams)]
            # Whole vectors are dropped, so that a rare bigram does not replace the vectors of its tokens.
            vectors = jnp.concatenate([vectors, dropout(bigrams, p, keys[1], together=True)], axis=2)
        if self.config.lstm_size:
            vectors = dropout(self.lstm(vectors, valid, self.config.precision), p, keys[2])
        assert self.out.bias is not None
        return matmul(vectors, self.out.kernel[...], self.config.precision) + self.out.bias[...][None, None, :]


def bigram_buckets(tokens: jax.Array, valid: jax.Array, buckets: int) -> jax.Array:
    """The bucket (B, T) int32 of the pair of each token (B, T) and the next; the last valid token has no next one.

    Examples:
        >>> bigram_buckets(jnp.array([[5, 6, 5, 6]]), jnp.ones((1, 4), bool), 100).tolist()[0][::2]
        [76, 76]
    """
    first = jnp.where(valid, tokens + 1, 0).astype(jnp.uint32)  # 0 means no token
    second = jnp.pad(first[:, 1:], ((0, 0), (0, 1)))
    return (mixed(mixed(first) + second) % jnp.uint32(buckets)).astype(jnp.int32)


@dataclass(frozen=True)
class TaggerFns:
    """Pure functions of a tagger's parameters: initial parameters, loss and decoding.

    The parameters are `{"tagger": ..., "encoder": ...}`, or without `encoder` where there is none. A batch holds
    `tokens` (B, T) int, padded on the right, `lengths` (B,), and `tags` (B, T) int. A tag of -1 marks a token without
    one: padding, special pieces, and all pieces of a word but the first.

    Attributes:
        config: sizes of the tagger.
        encoder: gives the vectors of tokens; None where the tagger has an embedding.
    """

    config: TaggerConfig
    encoder: Encoder | None = None

    def init(self, seed: int) -> dict[str, Any]:
        """Random parameters of the tagger, and the checkpoint's parameters of the encoder."""
        tagger = nnx.to_pure_dict(nnx.state(Tagger(self.config, nnx.Rngs(seed)), nnx.Param))
        return {"tagger": tagger} if self.encoder is None else {"tagger": tagger, "encoder": self.encoder.params}

    def loss(self, params: Any, carry: Any, batch: Batch, key: jax.Array | None) -> Any:
        """Negative log-likelihood of the tags, in nats per token, for `jaxft.make_train_step`."""
        tags = jnp.asarray(batch["tags"])
        mask = tags >= 0
        scores, crf = self._scores_and_crf(params, batch, key)
        if crf is None:
            total = _tag_losses(scores, crf, tags, mask).sum()
        else:
            total = -log_likelihood(crf, scores, tags, mask).sum()
        count = mask.sum().astype(jnp.float32)
        return total / count, (carry, {"tokens": count})

    def decode(self, params: Any, batch: Batch) -> jax.Array:
        """The best tags (B, T) int32; -1 where the tags of the batch are -1."""
        mask = jnp.asarray(batch["tags"]) >= 0
        scores, crf = self._scores_and_crf(params, batch, None)
        if crf is None:
            return jnp.where(mask, scores.argmax(axis=2).astype(jnp.int32), jnp.int32(-1))
        return viterbi(crf, scores, mask)

    def decode_scored(self, params: Any, batch: Batch) -> jax.Array:
        """The best tags and their probabilities, (B, T, 2) float32; the tag is -1 where those of the batch are."""
        mask = jnp.asarray(batch["tags"]) >= 0
        scores, crf = self._scores_and_crf(params, batch, None)
        return _best_tags(scores, crf, mask)

    def decode_with_losses(self, params: Any, batch: Batch) -> jax.Array:
        """As `decode_scored`, and the losses of the batch's own tags in nats, (B, T, 3) float32.

        Those of a row sum to the negative log-likelihood of its tags.
        """
        tags = jnp.asarray(batch["tags"])
        scores, crf = self._scores_and_crf(params, batch, None)
        losses = _tag_losses(scores, crf, tags, tags >= 0)
        return jnp.concatenate([_best_tags(scores, crf, tags >= 0), losses[:, :, None]], axis=2)

    def _scores_and_crf(self, params: Any, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, Any]:
        """The scores (B, T, K), and the constrained random field or None."""
        tokens, lengths = jnp.asarray(batch["tokens"]), jnp.asarray(batch["lengths"])
        valid = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]
        keys = (None, None) if key is None else jax.random.split(key)
        if self.encoder is not None:
            padded = jnp.where(valid, tokens, self.encoder.config.pad_id)
            tokens = self.encoder.apply(params["encoder"], padded, valid, key=keys[0])["hidden_states"][-1]
        graphdef = nnx.graphdef(nnx.eval_shape(lambda: Tagger(self.config, nnx.Rngs(0))))
        scores = nnx.merge(graphdef, params["tagger"])(tokens, valid, keys[1])
        return scores, constrain(params["tagger"]["crf"], self.config.tags) if self.config.crf else None


def _best_tags(scores: jax.Array, crf: Any, mask: jax.Array) -> jax.Array:
    """The best tags, -1 where `mask` is False, and their probabilities, (B, T, 2) float32."""
    if crf is None:
        tags, probabilities = scores.argmax(axis=2).astype(jnp.int32), jax.nn.softmax(scores, axis=2)
    else:
        tags, probabilities = viterbi(crf, scores, mask), marginals(crf, scores, mask)
    chosen = jnp.take_along_axis(probabilities, jnp.maximum(tags, 0)[:, :, None], axis=2)[:, :, 0]
    return jnp.stack([jnp.where(mask, tags, jnp.int32(-1)).astype(jnp.float32), chosen], axis=2)


def _tag_losses(scores: jax.Array, crf: Any, tags: jax.Array, mask: jax.Array) -> jax.Array:
    """The loss (B, T) of each tag: with a random field given the tags after it, without one alone; 0 on padding."""
    if crf is not None:
        return -tag_log_likelihoods(crf, scores, tags, mask)
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.where(mask, tags, 0))
    return jnp.where(mask, losses, jnp.zeros_like(losses))
