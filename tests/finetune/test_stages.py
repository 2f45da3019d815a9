"""The training of one encoder: each technique by what it does to weights, evaluations, cost and compilations."""

import os
import signal
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxft
from jaxft.errors import Stopped
from jaxft.finetune.inputs import read_inputs, split_examples
from jaxft.finetune.plan import finetune_plan
from jaxft.finetune.settings import Training, parse
from jaxft.finetune.stages import (
    _optimizer,
    as_model,
    encoder_loss,
    encoder_stage,
    frozen_layers,
    losses,
    predict_examples,
    train_encoder,
)
from jaxft.models.encoders import encoder_rules, open_checkpoint, reinitialized
from jaxft.optim.groups import path_names
from jaxft.training.run import Run
from tests.finetune.toy import review, sentence, settings, table


@pytest.fixture(scope="module")
def few(tiny_checkpoint, reviews):
    """What two epochs of 6 steps read, their split, and their settings."""
    few_settings = settings(tiny_checkpoint, reviews, "--limit-labels", "120", "--train.epochs", "2")
    inputs = read_inputs(few_settings)
    return inputs, split_examples(inputs.examples, few_settings)["train"], few_settings


@pytest.fixture(scope="module")
def trained(few):
    return train_encoder(*few)


def test_balanced_classes_weigh_alike_in_the_rows_that_are_read(tiny_checkpoint, tmp_path, monkeypatch):
    def row(rng: np.random.Generator) -> dict[str, Any]:
        long = rng.random() < 0.5
        return {"text": sentence(rng) + " film" * 40 * long, "label": "long" if long else "short"}

    seen = {}
    monkeypatch.setattr("jaxft.finetune.stages.encoder_loss", lambda *arguments: seen.update(weights=arguments[-1]))
    flags = ["--long-texts", "windows", "--max-length", "12", "--class-weights", "balanced"]
    run_settings = settings(tiny_checkpoint, table(tmp_path / "long.csv", 60, row), *flags)
    inputs = read_inputs(run_settings)
    split = split_examples(inputs.examples, run_settings)["train"]
    stage = encoder_stage(inputs, split, run_settings, inputs.encoder.params)
    stage.make_loss_fn(stage.plan[0])
    rows = np.bincount(inputs.examples.targets[inputs.pieces.texts[inputs.pieces.rows(split.train)]])
    assert rows.max() > 3 * rows.min()
    np.testing.assert_allclose(rows * seen["weights"], rows.sum() / 2, rtol=1e-5)


TECHNIQUES = {
    "bert_adamw, grouped rates": {"optimizer": "bert_adamw", "schedule": "bert", "warmup": 2, "layer_rates": "grouped"},
    "adam_warmup": {"optimizer": "adam_warmup", "schedule": "keras_bert", "warmup": 0.2},
    "stlr, new layers, ema": {
        "schedule": "slanted_triangular",
        "reinit_layers": 1,
        "ema_decay": 0.9,
        "label_smoothing": 0.1,
    },
    "gradual unfreezing": {"unfreeze": "gradual", "layer_rates": "divisor"},
    "frequent evaluation, swa": {"evaluate_every": 2, "patience": 3, "swa_start": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TECHNIQUES)
def test_techniques_combine_and_train(few, name):
    inputs, split, few_settings = few
    settings = replace(few_settings, train=replace(few_settings.train, **TECHNIQUES[name]))
    result = train_encoder(inputs, split, settings)
    evaluations = result.report["evaluations"]
    assert all(np.isfinite(evaluation["loss"]) for evaluation in evaluations)
    assert result.report["kept"]["accuracy"] == max(evaluation["accuracy"] for evaluation in evaluations)
    start = inputs.encoder.params["head"]["out"]["kernel"]
    assert not jnp.array_equal(result.params["head"]["out"]["kernel"], start)
    # what is returned is what was evaluated
    scores = predict_examples(as_model(inputs, settings, result.params), inputs, split.dev)
    loss = -np.log(scores[np.arange(len(split.dev)), inputs.examples.targets[split.dev]]).mean()
    assert loss == pytest.approx(result.report["kept"]["loss"], rel=1e-4)


@pytest.mark.slow
def test_evaluations_come_every_x_steps_and_at_the_end_of_a_phase(few):
    inputs, split, few_settings = few
    frequent = replace(few_settings, train=replace(few_settings.train, evaluate_every=4, swa_start=1))
    steps = [evaluation["step"] for evaluation in train_encoder(inputs, split, frequent).report["evaluations"]]
    assert len(split.train) // 16 == 6
    assert steps == [4, 6, 10, 12]


@pytest.mark.slow
def test_patience_ends_training_and_the_best_weights_are_kept(few):
    inputs, split, few_settings = few
    train = replace(few_settings.train, peak_rate=1e-12, epochs=4, evaluate_every=1, patience=3)
    report = train_encoder(inputs, split, replace(few_settings, train=train)).report
    assert [evaluation["step"] for evaluation in report["evaluations"]] == [1, 2, 3, 4]
    assert report["kept"]["step"] == 1
    assert report["steps"] == 4


@pytest.mark.slow
def test_accumulated_slices_equal_the_whole_batch(few, trained):
    inputs, split, few_settings = few
    sliced = replace(few_settings, train=replace(few_settings.train, accumulation=4))
    slices = train_encoder(inputs, split, sliced).params
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), trained.params, slices)


class StoppedAt7(Run):
    """A run that gets a signal to stop at its seventh step."""

    steps_left = 7

    def pausing(self):
        self.steps_left -= 1
        if self.steps_left == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().pausing()


@pytest.mark.slow
def test_stopped_and_resumed_equals_uninterrupted(few, tmp_path):
    inputs, split, few_settings = few
    settings = replace(few_settings, train=replace(few_settings.train, evaluate_every=2, swa_start=1, dropout=0.1))
    uninterrupted = train_encoder(inputs, split, settings)
    with pytest.raises(Stopped), StoppedAt7(tmp_path) as run:
        train_encoder(inputs, split, settings, run)
    with Run(tmp_path) as run:
        resumed = train_encoder(inputs, split, settings, run)
    jax.tree.map(np.testing.assert_array_equal, uninterrupted.params, resumed.params)
    assert uninterrupted.report["evaluations"] == resumed.report["evaluations"]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--long-texts", "cut"]])
def test_few_texts_with_default_settings_stopped_and_resumed_equal_uninterrupted(tiny_checkpoint, tmp_path, flags):
    data = table(tmp_path / "few.csv", 60, review)
    place = ["--model", str(tiny_checkpoint), "--data", data]
    few_settings = parse([*place, "--max-length", "10", "--train.min-steps", "12", *flags])
    inputs = read_inputs(few_settings)
    split = split_examples(inputs.examples, few_settings)["train"]
    assert not len(split.dev)
    uninterrupted = train_encoder(inputs, split, few_settings)
    (tmp_path / "run").mkdir()
    with pytest.raises(Stopped), StoppedAt7(tmp_path / "run") as run:
        train_encoder(inputs, split, few_settings, run)
    with Run(tmp_path / "run") as run:
        resumed = train_encoder(inputs, split, few_settings, run)
    jax.tree.map(np.testing.assert_array_equal, uninterrupted.params, resumed.params)
    assert resumed.report["steps"] >= 12


def test_new_layers_are_drawn_as_the_config_says_and_the_others_stay(tiny_checkpoint):
    encoder = open_checkpoint(tiny_checkpoint, 2)
    params = reinitialized(encoder, 1, seed=3)
    jax.tree.map(np.testing.assert_array_equal, params["layer_0"], encoder.params["layer_0"])
    jax.tree.map(np.testing.assert_array_equal, params["head"], encoder.params["head"])
    new = params["layer_1"]
    assert (new["output_norm"]["scale"] == 1).all()
    assert not new["output_norm"]["bias"].any()
    assert not new["intermediate"]["bias"].any()
    assert 0.015 < float(new["intermediate"]["kernel"].std()) < 0.025
    assert not jnp.array_equal(params["pooler"]["dense"]["kernel"], encoder.params["pooler"]["dense"]["kernel"])
    with pytest.raises(ValueError, match="top_layers is 3: give 0 to 2"):
        reinitialized(encoder, 3, seed=0)


def product_flops(jaxpr: Any) -> int:
    """Floating-point operations of all matrix products; the body of a loop counts as often as it runs."""
    flops = 0
    for equation in jaxpr.eqns:
        parts = [
            product_flops(getattr(part, "jaxpr", part))
            for value in equation.params.values()
            for part in (value if isinstance(value, tuple | list) else (value,))
            if hasattr(getattr(part, "jaxpr", part), "eqns")
        ]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            lengths = [equation.invars[0].aval.shape[axis] for axis in contracted]
            flops += 2 * equation.outvars[0].aval.size * int(np.prod(lengths))
        elif equation.primitive.name == "cond":
            flops += max(parts)
        else:
            flops += equation.params.get("length", 1) * sum(parts)
    return flops


def test_frozen_layers_cost_no_backward_pass(tiny_checkpoint):
    encoder = open_checkpoint(tiny_checkpoint, 2)
    labels = jaxft.label_params(encoder.params, encoder_rules(2))
    batch = {
        "tokens": jnp.ones((4, 16), jnp.int32),
        "lengths": jnp.full(4, 16, jnp.int32),
        "labels": jnp.zeros(4, jnp.int32),
    }
    plan = finetune_plan(Training(unfreeze="gradual", epochs=1), 2, 10)
    steps, states = {}, {}
    for phase in plan:
        tx = jaxft.discriminative(optax.sgd(1.0), labels, phase.rates, clip_norm=1.0)
        loss_fn = encoder_loss(encoder, "classification", frozen_layers=frozen_layers(phase))
        steps[phase.name] = jaxft.make_train_step(loss_fn, tx)
        states[phase.name] = jaxft.TrainState.create(encoder.params, tx, key=jax.random.key(0))
    flops = {name: product_flops(jax.make_jaxpr(step)(states[name], batch).jaxpr) for name, step in steps.items()}
    assert flops["last 1"] < 0.35 * flops["all"]
    # one of two layers trains
    assert flops["last 2"] - flops["last 1"] == pytest.approx((flops["all"] - flops["last 1"]) / 2, rel=0.05)


@pytest.mark.slow
def test_each_width_is_compiled_once_a_phase(tiny_checkpoint, tmp_path, caplog):
    data = table(tmp_path / "many.csv", 1000, review)
    many_settings = settings(tiny_checkpoint, data, "--train.epochs", "3", "--train.swa-start", "1")
    inputs = read_inputs(many_settings)
    split = split_examples(inputs.examples, many_settings)["train"]
    with jax.log_compiles(), caplog.at_level("WARNING"):
        train_encoder(inputs, split, many_settings)
    compiled = [
        record.message for record in caplog.records if "Finished XLA compilation of jit(step)" in record.message
    ]
    assert len(inputs.pieces.widths()) == 2
    assert len(compiled) == 2 * 2


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "bert_adamw", "adam_warmup"])
def test_weights_decay_and_biases_and_norms_do_not(tiny_checkpoint, optimizer):
    params = jax.tree.map(jnp.ones_like, open_checkpoint(tiny_checkpoint, 2).params)
    tx = _optimizer(Training(optimizer=optimizer, weight_decay=0.5))
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    decayed = {path for path, update in zip(path_names(updates), jax.tree.leaves(updates), strict=True) if update.any()}
    assert decayed == {path for path in path_names(params) if path.endswith(("kernel", "embedding"))}


def test_smoothed_labels_give_all_classes_a_share():
    outputs, labels = jnp.array([[2.0, 0.0, 0.0]]), jnp.array([0])
    plain = losses("classification", outputs, labels)
    smooth = losses("classification", outputs, labels, 0.3)
    others = -jax.nn.log_softmax(outputs)[0, 1:].sum()
    np.testing.assert_allclose(smooth, 0.8 * plain + 0.1 * others, rtol=1e-6)
