"""Encoders as Flax modules: BERT, RoBERTa and XLM-R, DistilBERT, ELECTRA, ALBERT, MPNet. `load` reads a checkpoint.

The modules hold parameters only; the PRNG key is an argument, and `key=None` means evaluation.

Axes: B batch, T time, H hidden, C classes.

References:
    Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019; Liu et al., RoBERTa, 2019; Sanh et
    al., DistilBERT, 2019; Clark et al., ELECTRA, ICLR 2020; Lan et al., ALBERT, ICLR 2020; Song et al., MPNet,
    NeurIPS 2020.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxft.errors import InputError
from jaxft.models.bert_config import POOLER_KINDS, BertConfig, architecture_of, bert_config, kind_of, model_type_of
from jaxft.models.bert_layers import Embeddings, Head, Layer, dense, linear, pool, recomputed, split_key
from jaxft.models.checkpoint_files import read_checkpoint, read_config
from jaxft.models.hugging_face import (
    fill_encoder,
    read_pooling,
    reads_first_token,
    to_parameters,
    without_head,
    without_other_heads,
)
from jaxft.models.options import Pooling, Precision
from jaxft.models.weight_table import check_finite


class Bert(nnx.Module):
    """The encoder with its pooler and its head, each of which may be absent."""

    def __init__(self, config: BertConfig, rngs: nnx.Rngs):
        self.config = config
        self.embeddings = Embeddings(config, rngs)
        for i in range(config.layer_groups):
            setattr(self, f"layer_{i}", Layer(config, rngs))
        if config.pooler:
            self.pooler = dense(config, config.hidden_size, config.hidden_size, rngs)
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
    ) -> dict[str, Any]:
        """Encodes texts.

        Args:
            input_ids: (B, T) int.
            attention_mask: (B, T) bool or int, 0 on padding.
            token_type_ids: (B, T) int, 0 for the first text of a pair and 1 for the second; None for all 0.
            key: for the dropouts; None for evaluation.
            frozen_layers: number of layers, from the bottom, that get no gradient; above 0 the embeddings get none
                either. The backward pass leaves them out. Layers that share weights count as one.

        Returns:
            `hidden_states`, a list of (B, T, H): the embeddings and the output of every layer; `pooled` (B, H), the
            pooler's output, or without a pooler what `config.pooling` makes of the last layer; and, with a head,
            `logits` (B, C) float32 and `features` (B, H), which the output layer multiplies.

        Raises:
            ValueError: `frozen_layers` is negative or above the number of layers.
        """
        if not 0 <= frozen_layers <= self.config.layer_groups:
            raise ValueError(f"frozen_layers is {frozen_layers}: give 0 to {self.config.layer_groups}")
        valid = jnp.asarray(attention_mask).astype(bool)
        keys = split_key(key, self.config.num_layers + 2)
        embedded = self.embeddings(jnp.asarray(input_ids), token_type_ids, keys[0])
        bias = self.embeddings.attention_bias(input_ids.shape[1])
        if frozen_layers:
            embedded, bias = jax.lax.stop_gradient((embedded, bias))
        states = [embedded]
        states += self._scan(range(frozen_layers), states[-1], valid, bias, keys, frozen=True)
        states += self._scan(range(frozen_layers, self.config.layer_groups), states[-1], valid, bias, keys)
        pooled = features = pool(states[-1], valid, self.config.pooling)
        if self.config.pooler:
            pooled = jnp.tanh(linear(self.config, states[-1][:, 0], self.pooler))
        outputs: dict[str, Any] = {"hidden_states": states, "pooled": pooled}
        if self.config.num_labels is not None:
            read = pooled if self.config.head_reads_pooler else features
            outputs["features"], outputs["logits"] = self.head(read, keys[-1])
        return outputs

    def _scan(
        self,
        groups: range,
        x: jax.Array,
        valid: jax.Array,
        bias: jax.Array | None,
        keys: Sequence[Any],
        frozen: bool = False,
    ) -> list[jax.Array]:
        """The outputs of the layers with these groups of weights, applied one after another to `x`.

        A loop over the layers compiles one instead of all of them. Without a key, as in evaluation, it is unrolled:
        that compiles as fast at the sizes of real encoders, and does not copy the weights into a stack at every call,
        which takes longer than to read a single text.
        """
        if not groups:
            return []
        layers = [nnx.split(getattr(self, f"layer_{i}")) for i in groups]
        graphdef = layers[0][0]
        params = [nnx.to_pure_dict(state) for _, state in layers]
        if frozen:
            params = jax.lax.stop_gradient(params)

        @recomputed
        def layer(params: Any, x: jax.Array, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
            output = nnx.merge(graphdef, params)(x, valid, bias, key)
            return output, output

        def scan(step: Callable[..., Any], x: jax.Array, params: Any, numbers: range) -> tuple[jax.Array, Any]:
            stacked = None if keys[0] is None else jnp.stack([keys[i + 1] for i in numbers])
            return jax.lax.scan(step, x, (params, stacked), length=len(numbers), unroll=stacked is None)

        uses = self.config.num_layers // self.config.layer_groups
        states = []
        if uses == 1:
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
            x, outputs = scan(lambda x, part: layer(part[0], x, part[1]), x, stacked, groups)
            states.extend(outputs)
        else:
            for i, shared in zip(groups, params, strict=True):
                numbers = range(i * uses, (i + 1) * uses)
                x, outputs = scan(lambda x, part, p=shared: layer(p, x, part[1]), x, None, numbers)
                states.extend(outputs)
        # The last output comes from the carry, so that XLA drops `outputs` where nobody reads the others.
        return [*states[:-1], x]


@dataclass(frozen=True)
class Encoder:
    """A checkpoint in memory.

    Attributes:
        config: sizes and dropout probabilities.
        settings: content of its config.json.
        params: nested dict of float32 arrays.
        notes: what the user should know of how it was read.
    """

    config: BertConfig
    settings: Mapping[str, Any]
    params: Any
    notes: tuple[str, ...] = ()

    def apply(
        self,
        params: Any,
        input_ids: jax.Array,
        attention_mask: jax.Array,
        token_type_ids: jax.Array | None = None,
        key: jax.Array | None = None,
        *,
        frozen_layers: int = 0,
    ) -> dict[str, Any]:
        """The results of `Bert.__call__`, as a pure function of the parameters."""
        model = nnx.merge(_skeleton(self.config)[0], params)
        return model(input_ids, attention_mask, token_type_ids, key, frozen_layers=frozen_layers)


@lru_cache(maxsize=8)  # a job opens the same encoder several times
def _skeleton(config: BertConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """What an encoder is made of, without its parameters, and their shapes."""
    return nnx.split(nnx.eval_shape(lambda: Bert(config, nnx.Rngs(0))))


def load(
    folder: str | Path, num_labels: int | None = None, *, precision: Precision = "f32", seed: int = 0
) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """Reads a Hugging Face checkpoint as a pure function and its parameters; see `open_checkpoint`.

    Returns:
        `apply(params, input_ids, attention_mask, token_type_ids=None, key=None, *, frozen_layers=0)`, which returns
        what `Bert.__call__` does, and the parameters, a nested dict.
    """
    encoder = open_checkpoint(folder, num_labels, precision=precision, seed=seed)
    return encoder.apply, encoder.params


def open_checkpoint(
    folder: str | Path,
    num_labels: int | None = None,
    *,
    precision: Precision = "f32",
    seed: int = 0,
    dropout: float | None = None,
    new_head: bool = False,
    pooling: Pooling | None = "cls",
    draw_missing: bool = True,
) -> Encoder:
    """Reads a Hugging Face checkpoint.

    Args:
        folder: holds config.json and the weights: model.safetensors or pytorch_model.bin, in one file or in shards; a
            pickle is parsed and not run.
        num_labels: outputs of the head; None takes the head of the file, if it has one. A head that the file lacks is
            drawn at random, and so is the pooler of BERT and ALBERT below it. Heads of other tasks are left out.
        precision: of the matrix products; see `jaxft.models.products`.
        seed: of the parameters that are drawn at random.
        dropout: replaces every dropout probability in config.json.
        new_head: leave out the head of the file, and draw the one that `num_labels` asks for at random.
        pooling: what the head reads. None takes what the checkpoint was made for: what its 1_Pooling/config.json names,
            the first token if the file has a classifier, or with BERT and ALBERT a pooler, and else the mean.
        draw_missing: whether to draw a head that the file lacks; False refuses the file.

    Raises:
        InputError: a file is missing or damaged, the model is of another kind, the weights do not fit, or some are not
            finite; the sentence names those.
    """
    folder, name = Path(folder), str(folder)
    settings = read_config(folder)
    kind, pooling = kind_of(settings, name), pooling or read_pooling(folder)
    state, left_out = without_other_heads(read_checkpoint(folder), kind, architecture_of(settings), pooling)
    pooling = pooling or ("cls" if reads_first_token(state, kind) else "mean")
    if new_head:
        state, own = without_head(state)
        left_out = sorted({*left_out, *own})
    arrays, problems = to_parameters(state, kind, pooling)
    stored_labels = arrays["head/out/bias"].shape[0] if "head/out/bias" in arrays else None
    if None not in (num_labels, stored_labels) and stored_labels != num_labels:
        raise InputError(
            f"{name} has a head of {stored_labels} outputs where {num_labels} are wanted: name a base checkpoint"
        )
    pooler = "pooler/kernel" in arrays
    if num_labels is not None:  # only the heads of some kinds read a pooler, that of the first token
        pooler = kind in POOLER_KINDS and pooling == "cls"
        arrays = {path: array for path, array in arrays.items() if pooler or not path.startswith("pooler/")}
    config = bert_config(settings, kind, name, pooler, stored_labels if num_labels is None else num_labels, precision)
    config = replace(config, pooling=pooling)
    if dropout is not None:
        config = replace(config, hidden_dropout=dropout, attention_dropout=dropout, head_dropout=dropout)
    template = nnx.to_pure_dict(_skeleton(config)[1])
    absent = {"pooler", "head"} & set(template) - {path.split("/")[0] for path in arrays}
    absent = absent if num_labels is not None and draw_missing else set()
    check_finite(arrays, name)
    stored = {part: leaves for part, leaves in template.items() if part not in absent}
    params = fill_encoder(arrays, stored, problems, name)
    if absent:  # drawn after the sizes in config.json are seen to be those of the weights
        drawn = _drawn(config, seed)
        params |= {part: drawn[part] for part in absent}
    notes = [f"the head of the checkpoint ({', '.join(left_out)}) is left out"] if left_out else []
    if (groups := config.layer_groups) < config.num_layers:
        count = "one set of weights, which has" if groups == 1 else f"{groups} sets of weights, each with"
        notes.append(f"the {config.num_layers} layers share {count} one rate")
    return Encoder(config, {**settings, "model_type": model_type_of(settings, name)}, params, tuple(notes))


def reinitialized(encoder: Encoder, top_layers: int, seed: int) -> Any:
    """The parameters with the top layers and the pooler drawn at random: normal weights, biases 0, norms 1.

    Args:
        encoder: a checkpoint.
        top_layers: number of layers, from the top; layers that share weights count as one.
        seed: of the random parameters.

    References:
        Zhang et al., Revisiting Few-sample BERT Fine-tuning, ICLR 2021, section 5.

    Raises:
        ValueError: `top_layers` is negative or above the number of layers.
    """
    layers = encoder.config.layer_groups
    if not 0 <= top_layers <= layers:
        raise ValueError(f"top_layers is {top_layers}: give 0 to {layers}")
    names = [f"layer_{i}" for i in range(layers - top_layers, layers)] + ["pooler"] * bool(top_layers)
    drawn = _drawn(encoder.config, seed)
    return {**encoder.params, **{name: drawn[name] for name in names if name in encoder.params}}


def _drawn(config: BertConfig, seed: int) -> dict[str, Any]:
    """Random parameters of everything above the embeddings."""
    small = replace(config, vocab_size=1, max_positions=1)
    return nnx.to_pure_dict(nnx.state(Bert(small, nnx.Rngs(seed)), nnx.Param))


def encoder_rules(num_layers: int) -> list[tuple[str, str]]:
    """Rules for `jaxft.label_params`: a group of parameters for the embeddings, one for each layer, and the head.

    Examples:
        >>> [group for _, group in encoder_rules(2)]
        ['embeddings', 'layer_0', 'layer_1', 'head']
    """
    layers = [f"layer_{i}" for i in range(num_layers)]
    return [(f"{part}/.*", part) for part in ("embeddings", *layers)] + [("(pooler|head)/.*", "head")]
