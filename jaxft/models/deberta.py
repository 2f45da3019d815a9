"""Disentangled attention of DeBERTa, whose scores also compare a token with the distance to the other.

Axes: B batch, T time, H hidden, N heads, D features of a head, R rows of the embeddings of distances, L the 2T - 1
distances within a text.

References:
    He et al., DeBERTa: Decoding-enhanced BERT with Disentangled Attention, ICLR 2021, section 3.1.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxft.models.attention import attention, by_text, heads_first, split_heads
from jaxft.models.bert_config import BertConfig
from jaxft.models.dropout import dropout
from jaxft.models.encoder_layers import activation_dtype, dense, linear, saved, split_key
from jaxft.models.options import Precision
from jaxft.models.products import batch_matmul, transposed


class DisentangledAttention(nnx.Module):
    """Multi-head self-attention with scores for the distances between tokens."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        assert config.disentangled is not None
        self.config, self.options = config, config.disentangled
        self.query, self.key, self.value, self.output = (
            dense(config, config.hidden_size, config.hidden_size, rngs) for _ in range(4)
        )
        if not self.options.shares_keys:
            if "c2p" in self.options.parts:
                self.position_key = dense(config, config.hidden_size, config.hidden_size, rngs)
            if "p2c" in self.options.parts:
                self.position_query = dense(config, config.hidden_size, config.hidden_size, rngs)

    def __call__(self, x: jax.Array, valid: jax.Array, distances: jax.Array | None, key: jax.Array | None) -> jax.Array:
        """(B, T, H) -> (B, T, H); tokens where `valid` (B, T) is False are not attended to, `distances` is (R, H)."""
        assert distances is not None
        precision, p = self.config.precision, self.config.attention_dropout
        keys, dtype = split_key(key, 2), activation_dtype(precision)
        projected = saved(linear(self.config, x, self.query, self.key, self.value, dtype=dtype))  # (B, T, 3H)
        distances = dropout(distances, self.config.hidden_dropout, keys[1], has_rows=False)
        position_keys, position_queries = self._of_distances(distances, x.shape[1], dtype)
        heads, parts = self.config.num_heads, 1 + len(self.options.parts)

        def attend(projected: jax.Array, valid: jax.Array, key: jax.Array | None) -> jax.Array:
            q, k, v = split_heads(projected, heads)
            scale = (q.shape[-1] * parts) ** -0.5
            q, bias = q * scale, None
            if position_keys is not None:
                bias = _shifted(_products(q, position_keys[::-1], precision))
            if position_queries is not None:
                to_content = _shifted(_products(k * scale, position_queries, precision)).swapaxes(1, 2)
                bias = to_content if bias is None else bias + to_content
            return attention(q, k, v, valid[None, :], bias, precision=precision, p=p, key=key)

        attended = by_text(attend, projected, valid, keys[0])
        return linear(self.config, attended.reshape(x.shape), self.output, dtype=dtype)

    def _of_distances(
        self, distances: jax.Array, length: int, dtype: jax.typing.DTypeLike
    ) -> tuple[jax.Array | None, jax.Array | None]:
        """Keys and queries (L, N, D) of the distances from -(T - 1) to T - 1, each None where no score has them."""
        # Distances that share a row are multiplied once.
        rows, places = np.unique(self.options.rows(length), return_inverse=True)
        distances = distances[rows]

        def made(part: str, shared: nnx.Linear, own: str) -> jax.Array | None:
            if part not in self.options.parts:
                return None
            layer = shared if self.options.shares_keys else getattr(self, own)
            product = saved(linear(self.config, distances, layer, dtype=dtype))[places]
            return product.reshape(len(places), self.config.num_heads, -1)

        return made("c2p", self.key, "position_key"), made("p2c", self.query, "position_query")


def _products(tokens: jax.Array, distances: jax.Array, precision: Precision) -> jax.Array:
    """The scores of each token with each distance: (T, N, D) and (L, N, D) -> (N, T, L) float32."""
    return batch_matmul(heads_first(tokens, precision), transposed(heads_first(distances, precision)))


def _shifted(scores: jax.Array) -> jax.Array:
    """(N, T, 2T - 1) -> (N, T, T): row i without its first T - 1 - i columns.

    Where the columns are distances in descending order from T - 1, column j of row i is then the distance i - j.
    To move rows as a whole needs no array of indices, which would be larger than the scores.

    Examples:
        >>> _shifted(jnp.array([[[1, 0, -1], [1, 0, -1]]])).tolist()
        [[[0, -1], [1, 0]]]

    References:
        Dai et al., Transformer-XL: Attentive Language Models beyond a Fixed-Length Context, ACL 2019, appendix B.
    """
    heads, length, width = scores.shape
    flat = jnp.pad(scores, ((0, 0), (0, 0), (0, 1))).reshape(heads, -1)
    return flat[:, length - 1 : length - 1 + length * width].reshape(heads, length, width)[:, :, :length]
