"""Fine-tuning end to end on a tiny checkpoint: every task, folds, what a run leaves behind, and what it refuses."""

import csv
import json
import os
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxft
from jaxft import predict
from jaxft.base.files import read_json
from jaxft.data.columns import Columns
from jaxft.data.examples import read_examples
from jaxft.errors import InputError
from jaxft.finetune.__main__ import main
from jaxft.finetune.inputs import read_inputs, split_examples
from tests.finetune.toy import FAST, graded, review, run_job, sentence, settings, table, tagged


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


def test_the_model_of_a_run_predicts_from_python_and_from_the_command_line(classified, tmp_path, capsys):
    out, _ = classified
    texts = ["it was good", "bad film", "the film was so very very very very great", "dull"]
    assert jaxft.load(out).predict(texts) == ["pos", "neg", "pos", "neg"]
    predict.main([str(out), "--text", "it was good"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["label"] == "pos"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1.1e-6)  # two numbers of six digits
    unseen = table(tmp_path / "in.csv", 30, review, seed=5)
    predict.main([str(out), "--input", unseen, "--output", str(tmp_path / "out.csv")])
    with open(tmp_path / "out.csv") as answers, open(unseen) as rows:
        predicted, true = ([row["label"] for row in csv.DictReader(file)] for file in (answers, rows))
    assert np.mean([label == other for label, other in zip(predicted, true, strict=True)]) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("deberta", ["--train.layer-rates", "decay"]),
        ("modernbert", ["--train.reinit-layers", "2", "--pooling", "cls"]),
        ("modernbert", ["--train.layer-rates", "decay", "--precision", "bf16", "--remat"]),
    ],
)
def test_encoders_with_other_layers_learn_and_predict(name, flags, tiny_others, tmp_path):
    data = table(tmp_path / "reviews.csv", 400, review)
    summary = run_job(tiny_others[name], data, tmp_path / "run", "--train.epochs", "8", *flags)
    assert summary["test"]["accuracy"] > 0.75
    labels, texts = zip(*((label, f"it was {word}") for label, word in (("pos", "good"), ("neg", "dull"))), strict=True)
    assert jaxft.load(tmp_path / "run").predict(list(texts)) == list(labels)


@pytest.mark.slow
def test_numbers_are_learnt_and_predicted_on_their_scale(tiny_checkpoint, tmp_path, capsys):
    data = table(tmp_path / "graded.csv", 400, graded)
    summary = run_job(tiny_checkpoint, data, tmp_path / "run", "--task", "regression", "--train.epochs", "16")
    assert summary["test"]["rmse"] < 15  # their standard deviation is 22
    assert summary["test"]["pearson"] > 0.7
    model = jaxft.load(tmp_path / "run")
    low, high = model.predict(["bad dull poor", "good great fine"])
    assert 960 < low < 1020 < 1040 < high < 1100
    capsys.readouterr()
    predict.main([str(tmp_path / "run"), "--text", "bad dull poor"])
    assert json.loads(capsys.readouterr().out)["value"] == pytest.approx(low, abs=0.01)


@pytest.mark.slow
def test_sets_of_labels_are_learnt(tiny_checkpoint, tmp_path):
    data = table(tmp_path / "tagged.csv", 300, tagged)
    summary = run_job(tiny_checkpoint, data, tmp_path / "run", "--task", "multilabel", "--train.epochs", "30")
    assert summary["test"]["micro_f1"] > 0.8
    (labels,) = jaxft.load(tmp_path / "run").predict(["the one film was it"])
    assert "one" in labels
    assert "two" not in labels


@pytest.mark.slow
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
    with pytest.raises(InputError, match=r"texts\[0\] is not a pair"):
        model.scores(["film one"])


@pytest.mark.slow
def test_folds_are_scored_on_what_they_have_not_seen(tiny_checkpoint, reviews, tmp_path):
    flags = ["--folds", "3", "--run-folds", "2", "--train.epochs", "1"]
    summary = run_job(tiny_checkpoint, reviews, tmp_path / "run", *flags)
    assert list(summary["folds"]) == ["fold_1", "fold_2"]
    fold_settings = settings(tiny_checkpoint, reviews, *flags)
    splits = split_examples(read_inputs(fold_settings).examples, fold_settings)
    assert summary["test_of_folds"]["n"] == sum(len(splits[name].test) for name in summary["folds"])
    accuracies = [fold["accuracy"] for fold in summary["folds"].values()]
    assert summary["test_mean_of_folds"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert summary["weights"].startswith("those with the best accuracy on ")
    assert summary["weights"].endswith(" dev texts of the fold")
    assert summary["baseline"]["accuracy"] > 0.9
    ensemble = jaxft.load(tmp_path / "run")
    texts = ["good film", "dull"]
    expected = np.mean([model.scores(texts) for model in ensemble.models.values()], axis=0)
    np.testing.assert_allclose(ensemble.scores(texts), expected)


@pytest.mark.slow
def test_few_texts_are_all_trained_on_and_the_summary_says_so(tiny_checkpoint, tmp_path):
    data, short = table(tmp_path / "few.csv", 60, review), ["--max-length", "20", "--train.min-steps", "12"]
    main(["--model", str(tiny_checkpoint), "--data", data, "--out", str(tmp_path / "run"), *short])
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["data"]["sizes"] == {"train": 48, "test": 12}
    assert summary["weights"] == "the average of the last steps, because there are no dev texts to choose by"
    assert "dev" not in summary
    assert 0 <= summary["baseline"]["accuracy"] <= 1


@pytest.mark.slow
def test_rare_classes_and_long_texts(tiny_checkpoint, tmp_path, capsys):
    def unbalanced(rng) -> dict:
        label = "rare" if rng.random() < 0.15 else "usual"
        return {"text": sentence(rng, "bad" if label == "rare" else "good") + " film" * 20, "label": label}

    data = table(tmp_path / "rare.csv", 120, unbalanced)
    flags = ["--class-weights", "balanced", "--metric", "mcc", "--long-texts", "windows", "--max-length", "12"]
    summary = run_job(tiny_checkpoint, data, tmp_path / "run", *flags, "--train.epochs", "2")
    assert "texts of more than 12 are read in windows" in capsys.readouterr().out
    assert {"loss", "accuracy", "macro_f1", "mcc"} == set(summary["dev"])
    assert summary["weights"].startswith("those with the best mcc on 1")
    model = jaxft.load(tmp_path / "run")
    assert (model.max_length, model.long_texts) == (12, "windows")
    assert len(model.predict(["good film " * 30, "bad"])) == 2


@pytest.mark.slow
def test_labels_get_thresholds_from_enough_dev_texts(tiny_checkpoint, tmp_path):
    data = table(tmp_path / "tagged.csv", 300, tagged)
    flags = ["--task", "multilabel", "--train.epochs", "2", "--dev-fraction", "0.3"]
    told = run_job(tiny_checkpoint, data, tmp_path / "run", *flags)["thresholds"]
    thresholds = json.loads((tmp_path / "run/model/model.json").read_text())["thresholds"]
    assert len(thresholds) == 3
    assert thresholds != [0.5, 0.5, 0.5]
    assert told == dict(zip(("one", "three", "two"), thresholds, strict=True))


@pytest.mark.slow
def test_without_a_test_split_the_dev_texts_are_all_that_is_scored(tiny_checkpoint, reviews, tmp_path):
    flags = ["--test-fraction", "0", "--limit-labels", "80", "--train.epochs", "1", "--train.keep", "last"]
    summary = run_job(tiny_checkpoint, reviews, tmp_path / "run", *flags)
    assert "test" not in summary
    assert set(summary["dev"]) == {"loss", "accuracy", "macro_f1"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", ""], "--model is empty: give a folder"),
        (["--model", "no/such/folder"], "--model no/such/folder is not a folder"),
        (["--data", ""], "--data is empty"),
        (["--data", "missing.csv"], "missing.csv does not exist"),
        (["--label-column", "grade"], "no column 'grade'"),
        (["--train.epochs", "0"], "--train.epochs 0 is out of its range"),
        (["--train.swa-start", "3"], "so no epoch is averaged"),
        (["--train.swa-start", "1", "--train.ema-decay", "0.9"], "two averages"),
        (["--task", "regression", "--metric", "mcc"], "--metric is for --task classification"),
        (["--task", "regression", "--class-weights", "balanced"], "--class-weights is for --task classification"),
        (["--long-texts", "windows", "--pair-column", "label"], "is for single texts"),
        (["--class-weights", "heavy", "--train.epochs", "1"], "--class-weights heavy is not a known setting"),
        (["--train.accumulation", "3"], "does not divide"),
        (["--train.reinit-layers", "3"], "more than the model has: give at most 2 for its 2 layers"),
        (["--max-length", "64"], "give at most 20"),
        (["--run-folds", "2"], "more than --folds 0"),
        (["--task", "regression"], "which is not a number"),
        (["--train.label-smoothing", "0.1", "--task", "multilabel"], "--task classification"),
        (["--ladder"], "no technique"),
        (["--ladder", "--train.warmup", "5", "--test-fraction", "0"], "--ladder compares test scores"),
        (["--ladder", "--train.warmup", "5", "--ladder-rate", "1e-6"], "--ladder-rate needs --train.layer-rates"),
        (["--ladder", "--train.unfreeze", "head"], "--ladder compares runs that train all layers"),
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
        main(arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("given", "missing"), [("data", "model"), ("model", "data")])
def test_a_missing_flag_is_asked_for_by_its_name(given, missing, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([f"--{given}", "x", "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert f"--{missing}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_prints_the_plan_and_trains_nothing(tiny_checkpoint, reviews, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--model", str(tiny_checkpoint), "--data", reviews, "--out", str(out), *FAST, "--dry-run"]
    main([*arguments, "--train.layer-rates", "decay"])
    printed = capsys.readouterr().out
    assert "train: 288 train, 32 dev, 80 test" in printed
    assert "weights to keep: those with the best accuracy on 32 dev texts" in printed
    assert "0.0027" in printed
    assert not out.exists()


def test_the_recipe_for_readability_fits_few_texts(tiny_checkpoint, tmp_path, capsys):
    data = table(tmp_path / "graded.csv", 60, graded)
    flags = ["--preset", "commonlit", "--label-column", "label", "--text-column", "text", "--train.reinit-layers", "1"]
    main(["--model", str(tiny_checkpoint), "--data", data, "--max-length", "20", *flags, "--dry-run"])
    assert "weights to keep: those with the best rmse on 5 dev texts of the fold" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif("JAXFT_MINILM" not in os.environ, reason="JAXFT_MINILM names the folder of the MiniLM checkpoint")
@pytest.mark.realdata
@pytest.mark.usefixtures("all_optimizations")
def test_the_lower_layers_of_minilm_learn_from_real_texts(real_data, tmp_path):
    folder = shutil.copytree(os.environ["JAXFT_MINILM"], tmp_path / "minilm")
    (folder / "config.json").write_text(json.dumps(read_json(folder / "config.json") | {"num_hidden_layers": 2}))
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if not re.search(r"layer\.[2-5]\.", k)}, folder / "model.safetensors")
    columns = Columns(text=("excerpt",), label="target")
    rows = read_examples(str(real_data / "commonlit/train.csv"), "regression", columns)
    with open(tmp_path / "short.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for (text,), target in list(zip(rows.texts, rows.targets, strict=True))[:200]:
            writer.writerow([" ".join(text.split()[:30]), float(target)])
    flags = ["--task", "regression", "--train.peak-rate", "3e-4", "--train.epochs", "2", "--max-length", "32"]
    flags += ["--precision", "bf16", "--train.min-steps", "0", "--out", str(tmp_path / "run")]
    main(["--model", str(folder), "--data", str(tmp_path / "short.csv"), *flags])
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["test"]["pearson"] > 0.3
