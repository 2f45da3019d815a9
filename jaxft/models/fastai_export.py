"""Converts AWD-LSTM weights to the names of fastai 2, for `jaxft.export`.

The keys have the order of fastai's files, because fastai loads some of them by order.
"""

from typing import Any

import numpy as np

from jaxft.errors import InputError

State = dict[str, np.ndarray]


def language_model_state(params: Any) -> State:
    """The state dict of fastai's language model, float32."""
    state = _encoder_state(params["encoder"], "0.")
    return {**state, "1.decoder.weight": state["0.encoder.weight"], "1.decoder.bias": _array(params["decoder_bias"])}


def classifier_state(params: Any, statistics: Any) -> State:
    """The state dict of fastai 2's text classifier, float32.

    fastai's linear layers have no bias, so ours moves into the bias of the batch norm before: an addend d there adds
    `kernel.T @ d` to the linear layer's output, and d is the one for which this equals the bias.

    Raises:
        InputError: the kernel of a linear layer is not of full rank, so that there is no such d.
    """
    state = _encoder_state(params["encoder"], "0.module.")
    for i in range(2):
        norm, moments = params["head"][f"norm_{i}"], statistics["head"][f"norm_{i}"]
        kernel, bias = (_array(params["head"][f"linear_{i}"][name]) for name in ("kernel", "bias"))
        addend = np.linalg.lstsq(kernel.T.astype(np.float64), bias.astype(np.float64), rcond=None)[0]
        if not np.allclose(kernel.T @ addend, bias, atol=1e-5 * (1 + np.abs(bias).max())):
            raise InputError(
                f"linear layer {i} of the classifier's head has a bias, which fastai's layout lacks, and its weights "
                "do not have the rank to replace it: export the language model instead"
            )
        state |= {
            f"1.layers.{i}.0.weight": _array(norm["scale"]),
            f"1.layers.{i}.0.bias": (_array(norm["bias"]) + addend).astype(np.float32),
            f"1.layers.{i}.0.running_mean": _array(moments["mean"]),
            f"1.layers.{i}.0.running_var": _array(moments["var"]),
            f"1.layers.{i}.0.num_batches_tracked": np.array(0, np.int64),
            f"1.layers.{i}.2.weight": np.ascontiguousarray(kernel.T),
        }
    return state


def _encoder_state(encoder: Any, prefix: str) -> State:
    embedding = _array(encoder["embedding"])
    state = {f"{prefix}encoder.weight": embedding, f"{prefix}encoder_dp.emb.weight": embedding}
    for i in range(len(encoder) - 1):
        layer, name = encoder[f"lstm_{i}"], f"{prefix}rnns.{i}."
        bias = _array(layer["bias"])
        state |= {
            f"{name}weight_hh_l0_raw": np.ascontiguousarray(_array(layer["recurrent"]).T),
            f"{name}module.weight_ih_l0": np.ascontiguousarray(_array(layer["kernel"]).T),
            f"{name}module.bias_ih_l0": bias,
            f"{name}module.bias_hh_l0": np.zeros_like(bias),
        }
    return state


def _array(leaf: Any) -> np.ndarray:
    return np.asarray(leaf, np.float32)
