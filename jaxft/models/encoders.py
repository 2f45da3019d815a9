"""Checkpoints of every encoder that jaxft knows, as pure functions and their parameters: the door for all jobs.

They are BERT, RoBERTa and XLM-R, DistilBERT, ELECTRA, ALBERT, MPNet, DeBERTa-v3 and ModernBERT.

References:
    Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019; Liu et al., RoBERTa, 2019; Sanh et
    al., DistilBERT, 2019; Clark et al., ELECTRA, ICLR 2020; Lan et al., ALBERT, ICLR 2020; Song et al., MPNet,
    NeurIPS 2020; He et al., DeBERTaV3, ICLR 2023; Warner et al., ModernBERT, 2024.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from jaxft.errors import InputError
from jaxft.models.bert_config import BertConfig
from jaxft.models.checkpoint_files import read_checkpoint, read_config
from jaxft.models.encoder_config import EncoderConfig, encoder_config, named_pooling
from jaxft.models.encoder_kinds import POOLERS, kind_of, model_type_of
from jaxft.models.hugging_face import (
    fill_encoder,
    read_pooling,
    reads_first_token,
    to_parameters,
    without_head,
    without_other_heads,
)
from jaxft.models.options import Pooling, Precision
from jaxft.models.transformer import Transformer
from jaxft.models.weight_table import check_finite


@dataclass(frozen=True)
class Encoder:
    """A checkpoint in memory.

    Attributes:
        config: sizes and dropout probabilities.
        settings: content of its config.json.
        params: nested dict of float32 arrays.
        notes: what the user should know of how it was read.
        remat: whether the backward pass computes whole layers again, to save memory.
    """

    config: EncoderConfig
    settings: Mapping[str, Any]
    params: Any
    notes: tuple[str, ...] = ()
    remat: bool = False

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
        """The results of `Transformer.__call__`, as a pure function of the parameters.

        Raises:
            ValueError: as there.
        """
        model = nnx.merge(_skeleton(self.config)[0], params)
        return model(input_ids, attention_mask, token_type_ids, key, frozen_layers=frozen_layers, remat=self.remat)


@lru_cache(maxsize=8)  # a job opens the same encoder several times
def _skeleton(config: EncoderConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """What an encoder is made of, without its parameters, and their shapes."""
    return nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))


def load(
    folder: str | Path, num_labels: int | None = None, *, precision: Precision = "f32", seed: int = 0
) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """Reads a Hugging Face checkpoint as a pure function and its parameters; see `open_checkpoint`.

    The head reads what 1_Pooling/config.json names, with ModernBERT its classifier_pooling, and else the first token.

    Returns:
        `apply(params, input_ids, attention_mask, token_type_ids=None, key=None, *, frozen_layers=0)`, which returns
        what `Transformer.__call__` does, and the parameters, a nested dict.
    """
    folder = Path(folder)
    pooling = read_pooling(folder) or named_pooling(read_config(folder), str(folder)) or "cls"
    encoder = open_checkpoint(folder, num_labels, precision=precision, seed=seed, pooling=pooling)
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
    remat: bool = False,
) -> Encoder:
    """Reads a Hugging Face checkpoint.

    Args:
        folder: holds config.json and the weights: model.safetensors or pytorch_model.bin, in one file or in shards; a
            pickle is parsed and not run.
        num_labels: outputs of the head; None takes the head of the file, if it has one. A head that the file lacks is
            drawn at random, and so is the pooler below it, where the architecture has one. Heads of other tasks are
            left out; where only `architectures` or `problem_type` in config.json would tell the task, as with
            ModernBERT, so is a head without them.
        precision: of the matrix products; see `jaxft.models.products`.
        seed: of the parameters that are drawn at random.
        dropout: replaces every dropout probability in config.json.
        new_head: leave out the head of the file, and draw the one that `num_labels` asks for at random.
        pooling: what the head reads. None takes what the checkpoint was made for: what its 1_Pooling/config.json names,
            with ModernBERT its classifier_pooling, the first token if the file has a classifier, or with BERT, ALBERT
            and DeBERTa a pooler, and else the mean.
        draw_missing: whether to draw a head that the file lacks; False refuses the file.
        remat: as in `Encoder`.

    Raises:
        InputError: a file is missing or damaged, the model is of another kind, the weights do not fit, or some are not
            finite; the sentence names those.
    """
    folder, name = Path(folder), str(folder)
    settings = read_config(folder)
    kind, pooling = kind_of(settings, name), pooling or read_pooling(folder)
    state, left_out = without_other_heads(read_checkpoint(folder), kind, settings)
    pooling = pooling or named_pooling(settings, name) or ("cls" if reads_first_token(state, kind) else "mean")
    if new_head:
        state, own = without_head(state)
        left_out = sorted({*left_out, *own})
    arrays, problems = to_parameters(state, kind, pooling)
    stored_labels = arrays["head/out/bias"].shape[0] if "head/out/bias" in arrays else None
    if None not in (num_labels, stored_labels) and stored_labels != num_labels:
        raise InputError(
            f"{name} has a head of {stored_labels} outputs where {num_labels} are wanted: name a base checkpoint"
        )
    pooler = any(path.startswith("pooler/") for path in arrays)
    if num_labels is not None:  # only the heads of some kinds read a pooler
        pooler = pooling in POOLERS.get(kind, ())
        arrays = {path: array for path, array in arrays.items() if pooler or not path.startswith("pooler/")}
    labels = stored_labels if num_labels is None else num_labels
    config = encoder_config(settings, name, pooler, labels, precision, pooling)
    if isinstance(config, BertConfig) and not config.embeds_positions:  # some files have them nevertheless
        arrays.pop("embeddings/position/embedding", None)
    if dropout is not None:
        config = config.with_dropout(dropout)
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
    return Encoder(config, {**settings, "model_type": model_type_of(settings, name)}, params, tuple(notes), remat)


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
    names = [f"layer_{i}" for i in range(layers - top_layers, layers)] + ["final_norm", "pooler"] * bool(top_layers)
    drawn = _drawn(encoder.config, seed)
    return {**encoder.params, **{name: drawn[name] for name in names if name in encoder.params}}


def _drawn(config: EncoderConfig, seed: int) -> dict[str, Any]:
    """Random parameters of everything above the embeddings."""
    small = replace(config, vocab_size=1, max_positions=1)
    return nnx.to_pure_dict(nnx.state(Transformer(small, nnx.Rngs(seed)), nnx.Param))


def encoder_rules(num_layers: int) -> list[tuple[str, str]]:
    """Rules for `jaxft.label_params`: a group of parameters for the embeddings, one for each layer, and the head.

    Examples:
        >>> [group for _, group in encoder_rules(2)]
        ['embeddings', 'layer_0', 'layer_1', 'head']
    """
    *below, top = ("embeddings", *(f"layer_{i}" for i in range(num_layers)))
    return [*((f"{part}/.*", part) for part in below), (f"({top}|final_norm)/.*", top), ("(pooler|head)/.*", "head")]
