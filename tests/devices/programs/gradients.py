"""Prints how far loss, metrics, gradients and carry on all virtual devices are from those on one.

Its arguments are names of functions of this module that make cases.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxft.base.sharding import current_mesh, mesh_for, on_devices, place
from jaxft.finetune.stages import encoder_loss
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel, initial_carry, language_model_loss
from jaxft.models.encoders import open_checkpoint
from jaxft.models.heads import Classifier, classification_loss
from jaxft.models.options import Dropouts
from jaxft.models.tagger import TaggerConfig, TaggerFns
from jaxft.optim.accumulation import accumulate_gradients
from jaxft.optim.adversarial import fast_gradient_method
from jaxft.optim.stacked_models import stack, stacked_value_and_grad
from jaxft.optim.whole_batch import value_and_grad
from jaxft.training.devices import place_batch, sharded

ROWS, WORDS = 16, 50
CONFIG = AWDLSTMConfig(WORDS, 8, 12, 2)
DROPOUTS = Dropouts(0.25, 0.15, 0.1, 0.2, 0.02)
Case = tuple[str, Any, tuple[Any, Any, Any], dict[str, Any]]
"""a name, the function, its parameters, carry and batch, and the axes and the microbatches of its rows"""


def language_models(rng: np.random.Generator) -> Iterator[Case]:
    model = LanguageModel(CONFIG, DROPOUTS, nnx.Rngs(0))
    params, loss_fn = nnx.to_pure_dict(nnx.state(model)), language_model_loss(nnx.graphdef(model))
    carry = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), initial_carry(CONFIG, ROWS))
    ids = rng.integers(0, WORDS, (ROWS, 9)).astype(np.int32)
    batch = {"inputs": ids[:, :-1], "targets": ids[:, 1:], "reset": np.asarray(False)}
    yield "language model", value_and_grad(loss_fn), (params, carry, batch), {"carry_axis": 0}
    both = tuple(stack([tree, tree]) for tree in (params, carry, batch))
    yield "both directions", stacked_value_and_grad(loss_fn, "ab", 0.1), both, {"carry_axis": 1, "axis": 1}


def classifiers(rng: np.random.Generator) -> Iterator[Case]:
    model = Classifier(CONFIG, 2, DROPOUTS, nnx.Rngs(0), max_length=16, bptt=8)
    graphdef, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    lengths = np.sort(rng.integers(3, 32, ROWS)).astype(np.int32)
    batch = {"tokens": rng.integers(0, WORDS, (ROWS, 32)).astype(np.int32), "lengths": lengths}
    batch["labels"] = (np.arange(ROWS) < 5).astype(np.int32)  # the devices have other shares of the classes
    arguments = (nnx.to_pure_dict(params), nnx.to_pure_dict(statistics), batch)
    for name, weights in (("classifier", None), ("classifier with class weights", np.array([1, 3], np.float32))):
        yield name, value_and_grad(classification_loss(graphdef, weights)), arguments, {}


def encoders(rng: np.random.Generator) -> Iterator[Case]:
    folder = Path(__file__).parents[2] / "golden/bert/bert"
    encoder = open_checkpoint(folder, 2, new_head=True, dropout=0.1)
    batch = {"tokens": rng.integers(5, 40, (ROWS, 10)), "lengths": rng.integers(2, 10, ROWS)}
    batch = {name: x.astype(np.int32) for name, x in batch.items()} | {"labels": (np.arange(ROWS) < 5).astype(np.int32)}
    loss_fn = encoder_loss(encoder, "classification", class_weights=np.array([1, 3], np.float32))
    for name, number in (("encoder", 1), ("encoder in microbatches", 2)):
        function = accumulate_gradients(loss_fn, number, weight="examples")
        yield name, function, (encoder.params, (), batch), {"microbatches": number}


def taggers(rng: np.random.Generator) -> Iterator[Case]:
    fns = TaggerFns(TaggerConfig(("O", "B-A", "I-A"), 8, WORDS, bigrams=20, lstm_size=4))
    lengths = np.sort(rng.integers(1, 8, ROWS)).astype(np.int32)  # the devices have other numbers of tokens
    batch = {"tokens": rng.integers(0, WORDS, (ROWS, 8)).astype(np.int32), "lengths": lengths}
    batch["tags"] = np.where(np.arange(8) < lengths[:, None], rng.integers(0, 3, (ROWS, 8)), -1).astype(np.int32)
    batch["tags"][:4] = -1  # the first of four devices has none at all
    arguments = (fns.init(0), (), batch)
    yield "tagger", value_and_grad(fns.loss, "tokens"), arguments, {}
    adversarial = fast_gradient_method(fns.loss, pattern="^tagger/embedding", weight="tokens")
    yield "adversarial training", adversarial, arguments, {}


def results_of(case: Case) -> Any:
    _, function, (params, carry, batch), axes = case
    axis, carry_axis, microbatches = axes.get("axis", 0), axes.get("carry_axis"), axes.get("microbatches", 1)
    mesh = mesh_for(ROWS, microbatches)
    placed = (
        place(params, mesh),
        place(carry, mesh, carry_axis),
        place_batch(batch, mesh, axis, microbatches),
        place(jax.random.key(3), mesh),
    )
    return jax.device_get(jax.jit(sharded(function, mesh, axis, carry_axis))(*placed))


def difference(one: Any, many: Any) -> float:
    """The largest difference over the norm of all arrays."""
    pairs = list(zip(map(np.ravel, jax.tree.leaves(one)), map(np.ravel, jax.tree.leaves(many)), strict=True))
    norm = float(jnp.sqrt(sum(float(np.vdot(x, x)) for x, _ in pairs)))
    return max((float(np.abs(x - y).max()) for x, y in pairs if x.size), default=0.0) / max(norm, 1e-12)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    differences = {}
    for cases in sys.argv[1:]:
        for case in globals()[cases](rng):
            one = results_of(case)
            with on_devices(jax.devices()):
                assert current_mesh() is not None
                many = results_of(case)
            differences[case[0]] = difference(one, many)
    print(json.dumps(differences))
