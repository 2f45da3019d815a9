"""Fine-tuning an encoder end to end on a tiny checkpoint, and each technique by what it does to rates and weights."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

import jaxft
from jaxft import predict
from jaxft.data.examples import read_examples
from jaxft.data.pieces import encode, load_tokenizer
from jaxft.errors import InputError, Stopped
from jaxft.finetune import job as finetune
from jaxft.finetune.job import stages as finetune_stages
from jaxft.finetune.ladder import climb, rungs
from jaxft.finetune.settings import Training, parse
from jaxft.finetune.stages import encoder_loss, finetune_plan, group_rates, read_inputs, splits, train_encoder
from jaxft.inference.encoder import EncoderModel
from jaxft.models.bert import open_checkpoint, reinitialized
from jaxft.optim.groups import path_names
from jaxft.optim.phases import learning_rates
from jaxft.training.stage import Run

GOOD, BAD = ["good", "fine", "great"], ["bad", "dull", "poor"]
FAST = ["--train.peak-rate", "0.003", "--train.dropout", "0", "--max-length", "20", "--train.warmup", "0"]


def table(path: Path, count: int, row, seed: int = 0) -> str:
    """A CSV file with rows that `row(rng)` makes."""
    rng = np.random.default_rng(seed)
    rows = [row(rng) for _ in range(count)]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def sentence(rng, *words: str) -> str:
    filler = rng.choice(["the", "film", "was", "it", "and", "very", "so", "this"], rng.integers(2, 14)).tolist()
    for word in words:
        filler.insert(int(rng.integers(len(filler) + 1)), word)
    return " ".join(filler)


def review(rng) -> dict:
    label = ["neg", "pos"][rng.integers(2)]
    return {"text": sentence(rng, str(rng.choice(GOOD if label == "pos" else BAD))), "label": label}


def graded(rng) -> dict:
    good = int(rng.integers(4))
    words = [str(rng.choice(GOOD)) for _ in range(good)] + [str(rng.choice(BAD)) for _ in range(3 - good)]
    return {"text": sentence(rng, *words), "label": 1000 + 20 * good}


def tagged(rng) -> dict:
    own = [word for word in ("one", "two", "three") if rng.random() < 0.5]
    return {"text": sentence(rng, *own), "label": "|".join(own)}


def settings(checkpoint: Path, data: str, *flags: str):
    return parse(["--model", str(checkpoint), "--data", data, *FAST, *flags])


def run_job(checkpoint: Path, data: str, out: Path, *flags: str) -> dict:
    finetune.main(["--model", str(checkpoint), "--data", data, "--out", str(out), *FAST, *flags])
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> str:
    return table(tmp_path_factory.mktemp("data") / "reviews.csv", 400, review)


@pytest.fixture(scope="module")
def classified(tiny_checkpoint, reviews, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "reviews"
    return out, run_job(tiny_checkpoint, reviews, out, "--train.epochs", "25")


def test_classes_are_learnt_and_a_run_is_a_folder(classified):
    out, summary = classified
    assert summary["test"]["n"] == 80
    assert summary["test"]["accuracy"] > 0.9
    assert summary["dev"]["accuracy"] > 0.9
    assert {path.name for path in out.iterdir()} >= {"config.json", "metrics.jsonl", "summary.json", "plots", "model"}
    assert {path.name for path in (out / "plots").iterdir()} == {
        "confusion.png",
        "learning_rates_train.png",
        "training.png",
    }


def test_predictions_keep_their_order_and_do_not_depend_on_batch_mates(classified, tmp_path, capsys):
    out, _ = classified
    model = jaxft.load(out)
    texts = ["it was good", "bad film", "the film was so very very very very great", "dull"]
    together = model.scores(texts)
    np.testing.assert_allclose(together, np.concatenate([model.scores([text]) for text in texts]), atol=1e-5)
    assert model.predict(texts) == ["pos", "neg", "pos", "neg"]
    predict.main([str(out), "--text", "it was good"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["label"] == "pos"
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    source = table(tmp_path / "in.csv", 30, review, seed=5)
    predict.main([str(out), "--input", source, "--output", str(tmp_path / "out.csv")])
    with open(tmp_path / "out.csv") as file:
        found = [row["label"] for row in csv.DictReader(file)]
    with open(source) as file:
        assert np.mean([row["label"] == label for row, label in zip(csv.DictReader(file), found, strict=True)]) > 0.8


def test_the_model_is_a_checkpoint_of_transformers(classified):
    from transformers import AutoConfig, AutoTokenizer

    folder = classified[0] / "model"
    config = AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.id2label, config.problem_type) == (
        "bert",
        {0: "neg", 1: "pos"},
        "single_label_classification",
    )
    assert config.architectures == ["BertForSequenceClassification"]
    assert AutoTokenizer.from_pretrained(folder)("good film")["input_ids"] == [2, 10, 7, 3]
    assert "classifier.weight" in load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_saving_gives_back_the_names_and_numbers_of_transformers(kind, tiny_checkpoint, tmp_path):
    golden = Path(__file__).parents[1] / "golden/bert" / kind
    encoder = open_checkpoint(golden)
    EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("a", "b", "c"), 20).save(tmp_path)
    theirs, ours = load_file(golden / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert theirs.keys() == ours.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


def test_numbers_are_learnt_and_told_in_their_own_unit(tiny_checkpoint, tmp_path, capsys):
    data = table(tmp_path / "graded.csv", 400, graded)
    summary = run_job(tiny_checkpoint, data, tmp_path / "run", "--task", "regression", "--train.epochs", "30")
    assert summary["test"]["rmse"] < 15  # their standard deviation is 22
    assert summary["test"]["pearson"] > 0.7
    model = jaxft.load(tmp_path / "run")
    low, high = model.predict(["bad dull poor", "good great fine"])
    assert 960 < low < 1020 < 1040 < high < 1100
    capsys.readouterr()
    predict.main([str(tmp_path / "run"), "--text", "bad dull poor"])
    assert json.loads(capsys.readouterr().out)["value"] == pytest.approx(low, abs=0.01)


def test_sets_of_labels_are_learnt(tiny_checkpoint, tmp_path):
    data = table(tmp_path / "tagged.csv", 300, tagged)
    summary = run_job(tiny_checkpoint, data, tmp_path / "run", "--task", "multilabel", "--train.epochs", "30")
    assert summary["test"]["micro_f1"] > 0.8
    (labels,) = jaxft.load(tmp_path / "run").predict(["the one film was it"])
    assert labels == ["one"]


def test_pairs_tell_the_first_text_from_the_second(tiny_checkpoint, tmp_path):
    def pair(rng) -> dict:
        swap = bool(rng.integers(2))
        first, second = sentence(rng, "one"), sentence(rng, "two")
        return {"text": second if swap else first, "pair": first if swap else second, "label": str(swap)}

    data = table(tmp_path / "pairs.csv", 300, pair)
    summary = run_job(tiny_checkpoint, data, tmp_path / "run", "--pair-column", "pair", "--train.epochs", "30")
    assert summary["test"]["accuracy"] > 0.9
    model = jaxft.load(tmp_path / "run")
    assert model.predict([("film one", "two it"), ("two it", "film one")]) == ["False", "True"]
    with pytest.raises(InputError, match="text 1 is no pair"):
        model.scores(["film one"])


def test_folds_are_scored_on_what_they_have_not_seen(tiny_checkpoint, reviews, tmp_path):
    own = settings(tiny_checkpoint, reviews, "--folds", "3")
    parts = splits(read_inputs(own).examples, own)
    assert sorted(np.concatenate([part.test for part in parts.values()]).tolist()) == list(range(400))
    for part in parts.values():
        whole = np.concatenate([part.train, part.dev, part.test])
        assert sorted(whole.tolist()) == list(range(400))
        assert 20 <= len(part.dev) <= 35
    flags = ["--folds", "3", "--run-folds", "2", "--train.epochs", "1"]
    summary = run_job(tiny_checkpoint, reviews, tmp_path / "run", *flags)
    assert list(summary["folds"]) == ["fold_1", "fold_2"]
    assert summary["test_of_folds"]["n"] == sum(len(parts[name].test) for name in summary["folds"])
    accuracies = [fold["accuracy"] for fold in summary["folds"].values()]
    assert summary["test_mean_of_folds"]["accuracy"] == pytest.approx(np.mean(accuracies))
    ensemble = jaxft.load(tmp_path / "run")
    texts = ["good film", "dull"]
    expected = np.mean([member.scores(texts) for member in ensemble.models.values()], axis=0)
    np.testing.assert_allclose(ensemble.scores(texts), expected)


@pytest.fixture(scope="module")
def few(tiny_checkpoint, reviews):
    own = settings(tiny_checkpoint, reviews, "--limit-labels", "120", "--train.epochs", "2")
    inputs = read_inputs(own)
    return inputs, splits(inputs.examples, own)["train"], own


TECHNIQUES = {
    "bert_adamw": {"optimizer": "bert_adamw", "schedule": "bert", "warmup": 2},
    "adam_warmup": {"optimizer": "adam_warmup", "schedule": "keras_bert", "warmup": 0.2},
    "grouped rates, stlr": {"layer_rates": "grouped", "schedule": "slanted_triangular"},
    "gradual unfreezing": {"unfreeze": "gradual", "layer_rates": "divisor"},
    "new layers, ema": {"reinit_layers": 1, "ema_decay": 0.9, "label_smoothing": 0.1},
    "frequent evaluation": {"evaluate_every": 2, "patience": 3, "swa_start": 1},
}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_techniques_combine_and_train(few, name):
    inputs, split, own = few
    result = train_encoder(inputs, split, replace(own, train=replace(own.train, **TECHNIQUES[name])))
    evaluations = result.report["evaluations"]
    assert all(np.isfinite(evaluation["loss"]) for evaluation in evaluations)
    assert result.report["kept"]["accuracy"] == max(evaluation["accuracy"] for evaluation in evaluations)
    start = inputs.encoder.params["head"]["out"]["kernel"]
    assert not jnp.array_equal(result.params["head"]["out"]["kernel"], start)
    # what is returned is what was evaluated
    scores = finetune_stages.scores_on(finetune_stages.as_model(inputs, own, result.params), inputs, split.dev)
    loss = -np.log(scores[np.arange(len(split.dev)), inputs.examples.targets[split.dev]]).mean()
    assert loss == pytest.approx(result.report["kept"]["loss"], rel=1e-4)


def test_evaluations_come_every_x_steps_and_at_the_end_of_a_phase(few):
    inputs, split, own = few
    own = replace(own, train=replace(own.train, evaluate_every=4, swa_start=1))
    steps = [evaluation["step"] for evaluation in train_encoder(inputs, split, own).report["evaluations"]]
    assert len(split.train) // 16 == 6
    assert steps == [4, 6, 10, 12]


def test_patience_ends_training_and_the_best_weights_are_kept(few):
    inputs, split, own = few
    train = replace(own.train, peak_rate=1e-12, epochs=4, evaluate_every=1, patience=3)
    report = train_encoder(inputs, split, replace(own, train=train)).report
    assert [evaluation["step"] for evaluation in report["evaluations"]] == [1, 2, 3, 4]
    assert report["kept"]["step"] == 1
    assert report["steps"] == 4


def test_accumulated_slices_equal_the_whole_batch(few):
    inputs, split, own = few
    whole = train_encoder(inputs, split, own).params
    slices = train_encoder(inputs, split, replace(own, train=replace(own.train, accumulation=4))).params
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4), whole, slices)


def test_stopped_and_resumed_equals_uninterrupted(few, tmp_path):
    inputs, split, own = few
    own = replace(own, train=replace(own.train, evaluate_every=2, swa_start=1, dropout=0.1))

    class StoppedAt(Run):
        steps_left = 7

        def pausing(self):
            self.steps_left -= 1
            if self.steps_left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().pausing()

    whole = train_encoder(inputs, split, own)
    with pytest.raises(Stopped), StoppedAt(tmp_path) as run:
        train_encoder(inputs, split, own, run)
    with Run(tmp_path) as run:
        resumed = train_encoder(inputs, split, own, run)
    jax.tree.map(np.testing.assert_array_equal, whole.params, resumed.params)
    assert whole.report["evaluations"] == resumed.report["evaluations"]


def test_rates_of_layers():
    rates = group_rates(Training(layer_rates="decay", peak_rate=3.5e-6, head_rate=3.6e-6), 12)
    assert list(rates)[:2] == ["embeddings", "layer_0"]
    assert rates["layer_11"] == pytest.approx(3.5e-6)
    assert rates["layer_0"] == pytest.approx(3.5e-6 * 0.9**11)
    assert rates["embeddings"] == pytest.approx(3.5e-6 * 0.9**12)
    assert rates["head"] == 3.6e-6
    grouped = group_rates(Training(layer_rates="grouped", peak_rate=3.5e-6), 12)
    expected = [1e-6] * 5 + [1.75e-6] * 4 + [3.5e-6] * 5
    assert list(grouped.values()) == pytest.approx(expected)
    divided = group_rates(Training(layer_rates="divisor", peak_rate=1.0), 2)
    assert list(divided.values()) == pytest.approx([1 / 2.6**2, 1 / 2.6, 1.0, 1.0])
    assert set(group_rates(Training(peak_rate=2e-5), 2).values()) == {2e-5}


def test_averaging_goes_on_from_the_schedule_at_rates_in_the_same_ratios():
    train = Training(epochs=4, swa_start=3, warmup=10, layer_rates="decay", peak_rate=1e-3, swa_rate=1e-4)
    curves = learning_rates(finetune_plan(train, 2, 100), 100)
    assert curves["layer_1"][10] == pytest.approx(1e-3)
    assert curves["layer_1"][299] == pytest.approx(1e-3 * (400 - 299) / 390)  # the schedule spans all four epochs
    assert curves["layer_1"][300:] == pytest.approx(1e-4)
    assert curves["layer_0"][300:] == pytest.approx(0.9e-4)
    same = learning_rates(finetune_plan(replace(train, swa_one_rate=True), 2, 100), 100)
    assert all(curve[300:] == pytest.approx(1e-4) for curve in same.values())


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
    assert not jnp.array_equal(params["pooler"]["kernel"], encoder.params["pooler"]["kernel"])
    with pytest.raises(ValueError, match="3 layers of 2"):
        reinitialized(encoder, 3, seed=0)


def test_frozen_layers_cost_no_backward_pass(tiny_checkpoint):
    encoder = open_checkpoint(tiny_checkpoint, 2)
    batch = {
        "tokens": jnp.ones((4, 16), jnp.int32),
        "lengths": jnp.full(4, 16, jnp.int32),
        "labels": jnp.zeros(4, jnp.int32),
    }

    def flops(unfreeze: str) -> float:
        phase = finetune_plan(Training(unfreeze=unfreeze, epochs=1), 2, 10)[0]  # pyright: ignore[reportArgumentType]
        labels = jaxft.label_params(encoder.params, finetune_stages.encoder_rules(2))
        tx = jaxft.discriminative(optax.sgd(1.0), labels, phase.rates, clip_norm=1.0)
        state = jaxft.TrainState.create(encoder.params, tx, key=jax.random.key(0))
        step = jaxft.make_train_step(encoder_loss(encoder, "classification"), tx)
        cost: Any = jax.jit(step).lower(state, batch).compile().cost_analysis()
        return cost["flops"]

    assert flops("head") < 0.45 * flops("all")


def test_each_width_is_compiled_once_a_phase(tiny_checkpoint, tmp_path, caplog):
    data = table(tmp_path / "many.csv", 1000, review)
    own = settings(tiny_checkpoint, data, "--train.epochs", "3", "--train.swa-start", "1")
    inputs = read_inputs(own)
    split = splits(inputs.examples, own)["train"]
    with jax.log_compiles(), caplog.at_level("WARNING"):
        train_encoder(inputs, split, own)
    compiled = [
        record.message for record in caplog.records if "Finished XLA compilation of jit(step)" in record.message
    ]
    assert len(inputs.pieces.widths()) == 2
    assert len(compiled) == 2 * 2


def test_the_ladder_adds_one_technique_after_another():
    own = parse(["--model", "m", "--data", "d.csv", "--preset", "commonlit", "--ladder"])
    rows = rungs(own.train, own.ladder_rate)
    assert list(rows) == [
        "basic",
        "+ layer-wise rates",
        "grouped rates",
        "+ warm-up",
        "+ re-initialised layers",
        "+ weight averaging",
        "+ frequent evaluation",
    ]
    assert set(group_rates(rows["basic"], 12).values()) == {1e-6}
    assert rows["basic"].warmup == rows["basic"].reinit_layers == 0
    assert rows["+ warm-up"].layer_rates == "decay"
    assert rows["+ frequent evaluation"] == own.train


def test_the_ladder_writes_its_table_and_is_not_climbed_twice(tiny_checkpoint, reviews, tmp_path, monkeypatch):
    flags = ["--ladder", "--folds", "4", "--run-folds", "2", "--limit-labels", "160", "--train.epochs", "1"]
    flags += ["--train.layer-rates", "divisor", "--ladder-rate", "1e-4"]
    summary = run_job(tiny_checkpoint, reviews, tmp_path / "run", *flags)
    lines = (tmp_path / "run/ladder.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["basic", "+ layer-wise rates"]
    assert summary["ladder"]["rows"][0]["mean"] == pytest.approx(np.mean(summary["ladder"]["rows"][0]["scores"]))
    assert (tmp_path / "run/plots/ladder.png").stat().st_size > 5000
    monkeypatch.setattr("jaxft.finetune.ladder.train_encoder", None)
    own = settings(tiny_checkpoint, reviews, *flags)
    inputs = read_inputs(own)
    with Run(tmp_path / "run") as run:
        again = climb(inputs, splits(inputs.examples, own), own, rungs(own.train, own.ladder_rate), run)
    assert again["table"] + "\n" == (tmp_path / "run/ladder.md").read_text()


def test_pieces_are_cut_and_counted(tiny_checkpoint):
    tokenizer = load_tokenizer(tiny_checkpoint)
    pieces = encode(tokenizer, [("good film " * 20,), ("bad",)], 8)
    assert pieces.lengths.tolist() == [8, 3]
    assert pieces.truncated == 1
    assert pieces.types is None
    pairs = encode(tokenizer, [("good film", "bad")], 8)
    assert pairs.types is not None
    assert pairs.types.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", ""], "give --model PATH_OR_NAME"),
        (["--model", "no/such/folder"], "--model no/such/folder is no folder"),
        (["--data", "missing.csv"], "missing.csv does not exist"),
        (["--label-column", "grade"], "no column 'grade'"),
        (["--train.epochs", "0"], "--train.epochs 0 is out of its range"),
        (["--train.swa-start", "3"], "leaves none of 3 epochs"),
        (["--train.swa-start", "1", "--train.ema-decay", "0.9"], "two averages"),
        (["--train.accumulation", "3"], "does not divide"),
        (["--train.reinit-layers", "3"], "more than the 2 layers"),
        (["--max-length", "64"], "give at most 20"),
        (["--run-folds", "2"], "more than --folds 0"),
        (["--task", "regression"], "is no number"),
        (["--train.label-smoothing", "0.1", "--task", "multilabel"], "--task classification"),
        (["--ladder"], "no technique"),
        (["--ladder", "--train.warmup", "5", "--ladder-rate", "1e-6"], "--ladder-rate belongs to layer-wise rates"),
        (["--train.unfreeze", "head", "--train.swa-start", "1"], "leave out --train.unfreeze head"),
        (["--limit-labels", "12", "--train.accumulation", "4"], "does not divide a batch of"),
        (["--limit-labels", "10", "--test-fraction", "0", "--dev-fraction", "0.99"], "too few"),
        (["--limit-labels", "4", "--folds", "2", "--dev-fraction", "0.9"], "too few"),
        (["--seed", str(2**70)], "--seed .* is out of its range"),
        (["--pair-column", "second"], "no column 'second'.*--pair-column"),
    ],
)
def test_bad_flags_are_refused_and_nothing_is_left(flags, message, tiny_checkpoint, reviews, tmp_path):
    arguments = ["--model", str(tiny_checkpoint), "--data", reviews, "--out", str(tmp_path / "run"), *FAST, *flags]
    with pytest.raises(InputError, match=message) as error:
        finetune.main(arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_prints_the_plan_and_trains_nothing(tiny_checkpoint, reviews, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--model", str(tiny_checkpoint), "--data", reviews, "--out", str(out), *FAST, "--dry-run"]
    finetune.main([*arguments, "--train.layer-rates", "decay"])
    printed = capsys.readouterr().out
    assert "train: 288 train, 32 dev, 80 test" in printed
    assert "0.0027" in printed
    assert not out.exists()


def test_a_checkpoint_without_its_own_tokenizer_is_refused(tiny_checkpoint, reviews, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_checkpoint / name, bare)
    with pytest.raises(InputError, match="holds no tokenizer"):
        read_inputs(settings(bare, reviews))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(60)), "good", "film"]
    (bare / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(InputError, match=r"has the piece 66 and the model only 40"):
        read_inputs(settings(bare, reviews))


def test_training_starts_with_a_new_head_whatever_the_checkpoint_has(classified, tmp_path):
    model = classified[0] / "model"
    data = table(tmp_path / "graded.csv", 60, graded)
    stored = open_checkpoint(model).params["head"]["out"]["kernel"]
    assert stored.shape == (16, 2)
    for flags in ([], ["--task", "regression"]):
        inputs = read_inputs(settings(model, data, *flags))
        assert inputs.encoder.params["head"]["out"]["kernel"].shape == (16, 1 if flags else 4)
        assert float(jnp.abs(inputs.encoder.params["head"]["out"]["kernel"]).max()) < 0.1


def test_half_precision_of_a_checkpoint_is_not_claimed_of_what_is_saved(tiny_checkpoint, tmp_path):
    encoder = open_checkpoint(tiny_checkpoint, 2)
    encoder = replace(encoder, settings={**encoder.settings, "torch_dtype": "float16"})
    EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("a", "b"), 20).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert "torch_dtype" not in config


@pytest.mark.parametrize("optimizer", ["adamw", "bert_adamw", "adam_warmup"])
def test_weights_decay_and_biases_and_norms_do_not(tiny_checkpoint, optimizer):
    params = jax.tree.map(jnp.ones_like, open_checkpoint(tiny_checkpoint, 2).params)
    tx = finetune_stages._optimizer(Training(optimizer=optimizer, weight_decay=0.5))
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    decayed = {path for path, update in zip(path_names(updates), jax.tree.leaves(updates), strict=True) if update.any()}
    assert decayed == {path for path in path_names(params) if path.endswith(("kernel", "embedding"))}


def test_a_score_that_is_no_number_does_not_stand_in_the_way():
    def best(*scores: float) -> bool:
        return finetune_stages._is_best("regression", [{"rmse": score} for score in scores])

    assert best(float("nan"), 0.5)
    assert not best(0.5, float("nan"))
    assert best(0.6, 0.5)
    assert not best(0.5, 0.5)


def test_smoothed_labels_give_all_classes_a_share():
    outputs, labels = jnp.array([[2.0, 0.0, 0.0]]), jnp.array([0])
    plain = finetune_stages.losses("classification", outputs, labels)
    smooth = finetune_stages.losses("classification", outputs, labels, 0.3)
    others = -jax.nn.log_softmax(outputs)[0, 1:].sum()
    np.testing.assert_allclose(smooth, 0.8 * plain + 0.1 * others, rtol=1e-6)


def test_without_a_test_split_the_dev_texts_are_all_that_is_scored(tiny_checkpoint, reviews, tmp_path):
    flags = ["--test-fraction", "0", "--limit-labels", "80", "--train.epochs", "1", "--train.keep", "last"]
    summary = run_job(tiny_checkpoint, reviews, tmp_path / "run", *flags)
    assert "test" not in summary
    assert set(summary["dev"]) == {"loss", "accuracy", "macro_f1"}


def test_predict_refuses_what_the_model_does_not_read(classified, tmp_path):
    run = str(classified[0])
    with pytest.raises(InputError, match="reads single texts"):
        predict.main([run, "--text", "good", "--pair", "film"])
    with pytest.raises(InputError, match="--pair goes with --text"):
        predict.main([run, "--input", "a.csv", "--pair", "film"])
    with pytest.raises(InputError, match="not UTF-8"):
        predict.main([run, "--text", "\udcff"])
    copy = Path(shutil.copytree(classified[0] / "model", tmp_path / "model"))
    for wrong in ({"max_length": 9999}, {"precision": "x"}, {"task": "x"}, {"max_length": 0}):
        description = json.loads((classified[0] / "model/model.json").read_text())
        (copy / "model.json").write_text(json.dumps({**description, **wrong}))
        with pytest.raises(InputError, match="does not describe a model"):
            jaxft.load(copy)


@pytest.mark.skipif("JAXFT_MINILM" not in os.environ, reason="JAXFT_MINILM names the folder of the MiniLM checkpoint")
@pytest.mark.realdata
def test_minilm_learns_from_real_texts(real_data, tmp_path):
    rows = read_examples(
        str(real_data / "commonlit/train.csv"), "regression", text_column="excerpt", label_column="target"
    )
    with open(tmp_path / "short.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for (text,), target in list(zip(rows.texts, rows.targets, strict=True))[:300]:
            writer.writerow([" ".join(text.split()[:40]), float(target)])
    flags = ["--task", "regression", "--train.peak-rate", "3e-4", "--train.epochs", "3", "--max-length", "64"]
    flags += ["--precision", "bf16"]
    model = os.environ["JAXFT_MINILM"]
    out = tmp_path / "run"
    finetune.main(["--model", model, "--data", str(tmp_path / "short.csv"), "--out", str(out), *flags])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["test"]["pearson"] > 0.3


def test_a_model_on_the_hub_is_downloaded_once_without_what_is_not_needed(tiny_checkpoint, tmp_path):
    """Against a server on this machine that answers as the hub does."""
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()} | {"pytorch_model.bin": b"no"}
    asked: list[str] = []
    commit = "0" * 40

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            asked.append(f"{self.command} {self.path}")
            name = self.path.rpartition("/")[2]
            if self.path.startswith("/api/models/someone/tiny/tree/"):
                tree = [{"type": "file", "path": n, "size": len(c), "oid": commit} for n, c in files.items()]
                self.reply(json.dumps(tree).encode(), "application/json")
            elif self.path.startswith("/api/models/someone/tiny"):
                body = {"sha": commit, "id": "someone/tiny", "siblings": [{"rfilename": name} for name in files]}
                self.reply(json.dumps(body).encode(), "application/json")
            elif "/resolve/" in self.path and name in files:
                self.reply(files[name], "application/octet-stream")
            else:
                self.send_error(404)

        def reply(self, content: bytes, kind: str):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
    code = "from jaxft.data.hub import checkpoint_folder; print(checkpoint_folder({!r}))"

    def folder(name: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", code.format(name)], env=variables, capture_output=True, text=True)

    try:
        found = folder("someone/tiny")
        assert found.returncode == 0, found.stderr
        path = Path(found.stdout.strip())
        assert (path / "model.safetensors").read_bytes() == files["model.safetensors"]
        assert not (path / "pytorch_model.bin").exists()
        before = len([line for line in asked if line.startswith("GET") and "/resolve/" in line])
        assert Path(folder("someone/tiny").stdout.strip()) == path
        assert len([line for line in asked if line.startswith("GET") and "/resolve/" in line]) == before
        missing = folder("someone/else")
        assert "--model someone/else is no folder here and could not be downloaded" in missing.stderr
    finally:
        server.shutdown()
        server.server_close()
