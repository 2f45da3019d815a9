"""The encoder as a Flax module: embeddings, layers, pooler and head, of any architecture that jaxft knows.

The module holds parameters only; the PRNG key is an argument, and `key=None` means evaluation.

Axes: B batch, T time, H hidden, C classes.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxft.models import bert_layers, encoder_layers, modernbert
from jaxft.models.encoder_config import EncoderConfig
from jaxft.models.encoder_layers import Head, norm, pool, split_key
from jaxft.models.layer_loops import run_layers
from jaxft.models.modernbert_config import ModernBertConfig


class Transformer(nnx.Module):
    """The encoder with its pooler and its head, each of which may be absent."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        self.config = config
        if isinstance(config, ModernBertConfig):
            self.embeddings: Any = modernbert.Embeddings(config, rngs)
            layers: list[Any] = [modernbert.Layer(config, i, rngs) for i in range(config.num_layers)]
            self.final_norm = norm(config, config.hidden_size, rngs, bias=config.norm_bias)
            pooler: Any = modernbert.Pooler
        else:
            self.embeddings = bert_layers.Embeddings(config, rngs)
            layers = [bert_layers.Layer(config, rngs) for _ in range(config.layer_groups)]
            pooler = encoder_layers.Pooler
        for i, layer in enumerate(layers):
            setattr(self, f"layer_{i}", layer)
        if config.pooler:
            self.pooler = pooler(config, rngs)
        if config.num_labels is not None:
            self.head = Head(config, config.num_labels, rngs)

    def __call__(
        self,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
        *,
        frozen_layers: int = 0,
        remat: bool = False,
    ) -> dict[str, Any]:
        """Encodes texts.

        Args:
            input_ids: (B, T) int.
            attention_mask: (B, T) bool or int, 0 on padding.
            token_type_ids: (B, T) int, 0 for the first text of a pair and 1 for the second; None for all 0.
            key: for the dropouts; None for evaluation.
            frozen_layers: number of layers, from the bottom, that get no gradient; above 0 the embeddings get none
                either. The backward pass leaves them out. Layers that share weights count as one.
            remat: whether the backward pass computes whole layers again, to save memory.

        Returns:
            `hidden_states`, a list of (B, T, H): the embeddings and the output of every layer, the last of them
            after the final norm, where there is one; `pooled` (B, H), the
            pooler's output, or without a pooler what `config.pooling` makes of the last layer; and, with a head,
            `logits` (B, C) float32 and `features` (B, H), which the output layer multiplies.

        Raises:
            ValueError: `frozen_layers` is negative or above the number of layers, or T is above `config.longest`, where
                the embeddings have a vector for each position.
        """
        if not 0 <= frozen_layers <= self.config.layer_groups:
            raise ValueError(f"frozen_layers is {frozen_layers}: give 0 to {self.config.layer_groups}")
        valid = jnp.asarray(attention_mask).astype(bool)
        keys = split_key(key, self.config.num_layers + 3)
        embedded = self.embeddings(jnp.asarray(input_ids), token_type_ids, keys[0])
        distances = self.embeddings.distances(input_ids.shape[1])
        if frozen_layers:
            embedded, distances = jax.lax.stop_gradient((embedded, distances))
        states = [embedded]
        for groups in (range(frozen_layers), range(frozen_layers, self.config.layer_groups)):
            frozen = groups.stop <= frozen_layers
            states += self._run(groups, states[-1], valid, distances, keys, frozen, remat)
        if isinstance(self.config, ModernBertConfig):
            normed = self.final_norm(states[-1])
            states[-1] = jax.lax.stop_gradient(normed) if frozen_layers == self.config.layer_groups else normed
        pooled = features = pool(states[-1], valid, self.config.pooling)
        if self.config.pooler:
            pooled = self.pooler(features if self.config.head_reads_pooler else states[-1][:, 0], keys[-2])
        outputs: dict[str, Any] = {"hidden_states": states, "pooled": pooled}
        if self.config.num_labels is not None:
            read = pooled if self.config.head_reads_pooler else features
            outputs["features"], outputs["logits"] = self.head(read, keys[-1])
        return outputs

    def _run(
        self,
        groups: range,
        x: jax.Array,
        valid: jax.Array,
        distances: jax.Array | None,
        keys: Sequence[Any],
        frozen: bool,
        remat: bool,
    ) -> list[jax.Array]:
        """The outputs of the layers with these groups of weights, applied one after another to `x`."""
        uses = self.config.num_layers // self.config.layer_groups
        layers = []
        for i in groups:
            graphdef, state = nnx.split(getattr(self, f"layer_{i}"))
            params = nnx.to_pure_dict(state)
            layers += [(graphdef, jax.lax.stop_gradient(params) if frozen else params)] * uses

        def call(graphdef: Any, params: Any, x: jax.Array, key: jax.Array | None) -> jax.Array:
            return nnx.merge(graphdef, params)(x, valid, distances, key)

        return run_layers(layers, call, x, keys[1 + groups.start * uses : 1 + groups.stop * uses], remat)
