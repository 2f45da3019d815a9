"""Reads AWD-LSTM models that fastai has saved.

`load_language_model` and `load_classifier` return a model to call; `jaxft.language_model.pretrained` starts a training
job from `language_model_params`. `jaxft.models.torch_file` parses the files; it needs no torch and runs no pickle.

References:
    `fastai/text/models/awdlstm.py` and `fastai/text/models/core.py`, for the names of fastai 2; fastai 1 has the same
    names in the encoder and other numbers in the classifier's head.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxft.base.files import require_file
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel, initial_carry
from jaxft.models.heads import Classifier
from jaxft.models.options import Dropouts
from jaxft.models.pickle_machine import read_pickle
from jaxft.models.torch_file import is_state, read_tensors
from jaxft.models.weight_table import Arrays, Row, assemble, check_finite, fill

ENCODER = (
    Row(r"0\.(?:module\.)?encoder\.weight", "encoder/embedding"),
    Row(r"0\.(?:module\.)?encoder_dp\.emb\.weight", "encoder/embedding", "tie"),
    Row(r"0\.(?:module\.)?rnns\.(\d+)\.(?:module\.)?weight_ih_l0", r"encoder/lstm_\1/kernel", "transpose"),
    Row(r"0\.(?:module\.)?rnns\.(\d+)\.weight_hh_l0_raw", r"encoder/lstm_\1/recurrent", "transpose"),
    Row(r"0\.(?:module\.)?rnns\.(\d+)\.(?:module\.)?bias_(?:ih|hh)_l0", r"encoder/lstm_\1/bias", "sum"),
)
LANGUAGE_MODEL = (
    *ENCODER,
    Row(r"1\.decoder\.weight", "encoder/embedding", "tie"),
    Row(r"1\.decoder\.bias", "decoder_bias"),
)


def _head(norm: str, linear: str, i: int) -> tuple[Row, ...]:
    return (
        Row(rf"1\.layers\.{norm}\.weight", f"head/norm_{i}/scale"),
        Row(rf"1\.layers\.{norm}\.bias", f"head/norm_{i}/bias"),
        Row(rf"1\.layers\.{norm}\.running_mean", f"head/norm_{i}/mean"),
        Row(rf"1\.layers\.{norm}\.running_var", f"head/norm_{i}/var"),
        Row(rf"1\.layers\.{norm}\.num_batches_tracked", "", "ignore"),
        Row(rf"1\.layers\.{linear}\.weight", f"head/linear_{i}/kernel", "transpose"),
        Row(rf"1\.layers\.{linear}\.bias", f"head/linear_{i}/bias"),
    )


CLASSIFIER_1 = (*ENCODER, *_head("0", "2", 0), *_head("4", "6", 1))
"""fastai 1 numbers the head's layers in one list"""
CLASSIFIER_2 = (*ENCODER, *_head(r"0\.0", r"0\.2", 0), *_head(r"1\.0", r"1\.2", 1))
"""fastai 2 numbers them in two blocks, whose linear layers have no bias"""


def load_language_model(
    weights: str | os.PathLike[str], itos: str | os.PathLike[str] | Sequence[str]
) -> tuple[Callable[..., Any], Any, Vocabulary]:
    """Loads a language model that fastai has saved.

    Args:
        weights: a `.pth` file of fastai 1 or 2.
        itos: the tokens in the order of their ids, or the path of a pickle that holds them.

    Returns:
        `apply(params, tokens, carry=None, key=None) -> (logits, carry)` with tokens (B, T) int and logits (B, T, V)
        float32; its parameters; and the vocabulary. A `key` turns on fastai's dropouts for language models.

    Raises:
        InputError: a file is damaged, holds anything but tensors, or does not fit the model; the sentence lists every
            weight that does not.
    """
    config, params = language_model_params(read_state(Path(weights)), str(weights))
    vocabulary = read_vocabulary(itos)
    refuse_other_size(vocabulary, config, str(weights))
    graphdef = nnx.graphdef(nnx.eval_shape(lambda: LanguageModel(config, Dropouts(), nnx.Rngs(0))))

    def apply(params: Any, tokens: jax.Array, carry: Any = None, key: jax.Array | None = None) -> tuple[jax.Array, Any]:
        model: LanguageModel = nnx.merge(graphdef, params)
        return model(tokens, initial_carry(config, len(tokens)) if carry is None else carry, key)

    return apply, params, vocabulary


def load_classifier(
    weights: str | os.PathLike[str],
    itos: str | os.PathLike[str] | Sequence[str],
    max_length: int = 1440,
    bptt: int = 72,
) -> tuple[Callable[..., jax.Array], Any, Vocabulary]:
    """Loads a text classifier that fastai has saved.

    Args:
        weights, itos: as for `load_language_model`.
        max_length, bptt: `max_len` and `seq_len` of fastai's `text_classifier_learner`, which the file does not hold.

    Returns:
        `apply(params, tokens, lengths, key=None) -> logits` with tokens (B, T) int, padded with the vocabulary's
        `xxpad` on either side, lengths (B,) int and logits (B, C) float32; its parameters and the statistics of its
        batch norms; and the vocabulary.

    Raises:
        InputError: as `load_language_model`.
    """
    config, params, classifier = _classifier(read_state(Path(weights)), str(weights), max_length, bptt)
    vocabulary = read_vocabulary(itos)
    refuse_other_size(vocabulary, config, str(weights))
    graphdef, pad = nnx.graphdef(classifier), vocabulary.pad

    def apply(params: Any, tokens: jax.Array, lengths: jax.Array, key: jax.Array | None = None) -> jax.Array:
        tokens, lengths = jnp.asarray(tokens), jnp.asarray(lengths)
        width = tokens.shape[1]
        padded_right = tokens[:, -1] == pad
        shift = jnp.where(padded_right, lengths, jnp.zeros_like(lengths))
        columns = (jnp.arange(width, dtype=lengths.dtype)[None, :] + shift[:, None]) % width
        tokens = jnp.take_along_axis(tokens, columns, axis=1)
        return nnx.merge(graphdef, params["params"], params["statistics"])(tokens, lengths, key)

    return apply, params, vocabulary


def language_model_params(state: Arrays, name: str) -> tuple[AWDLSTMConfig, dict[str, Any]]:
    """The sizes and parameters of the language model in a state dict.

    Raises:
        InputError: as `load_language_model`.
    """
    arrays, problems = assemble(state, LANGUAGE_MODEL)
    config = _config(arrays, name, problems)
    model = nnx.eval_shape(lambda: LanguageModel(config, Dropouts(), nnx.Rngs(0)))
    return config, _filled(arrays, nnx.to_pure_dict(nnx.state(model)), name, problems)


def _classifier(
    state: Arrays, name: str, max_length: int, bptt: int
) -> tuple[AWDLSTMConfig, dict[str, Any], Classifier]:
    in_blocks = "1.layers.0.0.weight" in state
    arrays, problems = assemble(state, CLASSIFIER_2 if in_blocks else CLASSIFIER_1)
    config = _config(arrays, name, problems)
    kernels = [arrays.get(f"head/linear_{i}/kernel", np.zeros((1, 1), np.float32)) for i in range(2)]
    if any(0 in kernel.shape for kernel in kernels):
        raise InputError(f"{name} has a head without outputs: name another file")
    if in_blocks:
        biases = {f"head/linear_{i}/bias": np.zeros(kernel.shape[1], np.float32) for i, kernel in enumerate(kernels)}
        arrays = {**biases, **arrays}
    hidden, classes = (kernel.shape[-1] for kernel in kernels)
    model = nnx.eval_shape(
        lambda: Classifier(
            config, classes, Dropouts(0.4, 0.3, 0.4, 0.5, 0.05), nnx.Rngs(0),
            head_hidden=hidden, max_length=max_length, bptt=bptt,
        )
    )  # fmt: skip
    _, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, statistics = nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)
    filled = _filled(arrays, {"params": params, "statistics": statistics}, name, problems)
    return config, filled, model


def read_state(path: Path) -> dict[str, np.ndarray]:
    """The weights, by name, in a file of fastai's `save` or of `torch.save`.

    Raises:
        InputError: as `load_language_model`.
    """
    require_file(path)
    try:
        return state_dict(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name a .pth file") from error


def state_dict(content: bytes, name: str) -> dict[str, np.ndarray]:
    """The weights, by name, in the bytes of such a file.

    Raises:
        InputError: as `load_language_model`.
    """
    tree = read_tensors(content, name)
    if isinstance(tree, dict) and isinstance(tree.get("model"), dict):  # the other key is the optimizer
        tree = tree["model"]
    if not is_state(tree) or not tree:
        raise InputError(f"{name} holds no state_dict of tensors: save the model with fastai's learn.save")
    if any(key.startswith("encoder.") for key in tree):
        raise InputError(f"{name} holds an encoder without its decoder: save the whole model with fastai's learn.save")
    # Some versions save the weights after DropConnect beside the raw ones, others only the former.
    dropped = re.compile(r"(.*rnns\.\d+\.)module\.(weight_hh_l0)")
    raw_names = {key: match and f"{match[1]}{match[2]}_raw" for key in tree for match in [dropped.fullmatch(key)]}
    return {raw_names[key] or key: value for key, value in tree.items() if raw_names[key] not in tree}


def read_vocabulary(itos: str | os.PathLike[str] | Sequence[str]) -> Vocabulary:
    """The vocabulary of a list of tokens, or of a pickle that holds one.

    Raises:
        InputError: the pickle holds no list of strings, or the list lacks fastai's special tokens.
    """
    if not isinstance(itos, str | os.PathLike):
        return Vocabulary(tuple(itos))
    path = Path(itos)
    require_file(path)
    try:
        return vocabulary_from_pickle(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name the itos pickle of the weights") from error


def vocabulary_from_pickle(content: bytes, name: str) -> Vocabulary:
    """The vocabulary in the bytes of such a pickle; raises as `read_vocabulary`."""
    tokens = read_pickle(content, name)
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise InputError(f"{name} holds no list of tokens: name the itos pickle that belongs to the weights")
    try:
        return Vocabulary(tuple(tokens))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _config(arrays: Arrays, name: str, problems: Sequence[str]) -> AWDLSTMConfig:
    """The sizes of the model, from the shapes of its weights."""
    embedding = arrays.get("encoder/embedding")
    layers = sum(path.startswith("encoder/lstm_") and path.endswith("/recurrent") for path in arrays)
    first = arrays.get("encoder/lstm_0/recurrent")
    if embedding is None or embedding.ndim != 2 or first is None or 0 in (*embedding.shape, *first.shape):
        listed = "; ".join(problems[:5])
        raise InputError(f"{name} holds no AWD-LSTM of fastai ({listed or 'no embedding'}): name another file")
    return AWDLSTMConfig(embedding.shape[0], embedding.shape[1], first.shape[0], layers)


def _filled(arrays: Arrays, template: Any, name: str, problems: Sequence[str]) -> dict[str, Any]:
    check_finite(arrays, name)
    return fill(arrays, template, problems, f"{name} does not fit an AWD-LSTM", "name a file that fastai has saved")


def refuse_other_size(vocabulary: Vocabulary, config: AWDLSTMConfig, name: str) -> None:
    """Checks that a vocabulary has the size of the embedding in the file `name`.

    Raises:
        InputError: the sizes differ.
    """
    if len(vocabulary) != config.vocabulary_size:
        raise InputError(
            f"the vocabulary has {len(vocabulary)} tokens and {name} has embeddings for {config.vocabulary_size}: "
            "name the itos that was saved with it"
        )
