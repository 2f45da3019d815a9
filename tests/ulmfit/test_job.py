"""The whole job on small texts: what it leaves behind, resumption, prediction, and what it refuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxft
from jaxft import export, predict
from jaxft.base.files import read_json, write_json
from jaxft.base.tensor_files import load_params
from jaxft.errors import InputError, Stopped
from jaxft.training.metrics_log import read_metrics
from jaxft.training.run import Run
from jaxft.ulmfit.__main__ import main
from tests.faults.jobs import without_times

SMALL = """
    --model.embedding-size 8 --model.hidden-size 12 --model.num-layers 2 --text.min-count 1 --log-every 1
    --lm.epochs 1 --lm.batch-size 4 --lm.bptt 8 --lm.valid-fraction 0.2
    --classifier.epochs 1 --classifier.batch-size 8 --classifier.eval-batch-size 8 --classifier.max-length 16
    --classifier.dev-fraction 0.2 --classifier.plan fastai
""".split()  # noqa: SIM905 (reads like a command line)


def review(rng, label):
    good = {"pos": "lovely fine great warm", "neg": "awful dull weak cold"}[label].split()
    plain = ["the", "film", "was", "and", "a", "story", "with", "some", "scenes", "that"]
    return " ".join(rng.choice(good if rng.random() < 0.3 else plain) for _ in range(rng.integers(3, 30)))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", {"train": 40, "test": 12, "unlabelled": 20})


def write_reviews(path, counts):
    rng = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        for split, count in counts.items():
            for i in range(count):
                label = ("pos", "neg")[i % 2]
                writer.writerow([review(rng, label), "" if split == "unlabelled" else label, split])
    return path


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    main(["--data", str(table), "--out", str(out), *SMALL])
    return out


def same_arrays(first, second):
    jax.tree.map(np.testing.assert_array_equal, load_params(first), load_params(second))


def test_a_run_leaves_everything_behind(finished):
    summary = read_json(finished / "summary.json")
    sizes = dict(summary["data"]["sizes"])
    assert 0 < sizes.pop("pseudo-labelled texts") <= 10
    assert sizes == {"train": 32, "dev": 8, "test": 12, "language-model texts": 42}
    assert summary["data"]["classes"] == ["neg", "pos"]
    assert summary["test"]["n"] == 12
    low, high = summary["test"]["accuracy_interval"]
    assert low <= summary["test"]["accuracy"] <= high
    assert summary["language_model"]["perplexity"] == pytest.approx(np.exp(summary["language_model"]["valid_loss"]))
    assert [row["name"] for row in summary["stages"]] == ["text", "language model", "classifier", "test"]
    assert all(row["tokens_per_s"] > 0 for row in summary["stages"])
    assert summary["config"]["lm"]["batch_size"] == 4
    names = {path.name for path in finished.rglob("*.png")}
    assert names == {
        "training.png",
        "learning_rates_language_model.png",
        "learning_rates_classifier.png",
        "confusion.png",
    }
    assert {line["stage"] for line in read_metrics(finished / "metrics.jsonl")} == {"language_model", "classifier"}
    assert not (finished / "checkpoint.safetensors").exists()


def test_prediction_matches_the_test_accuracy_and_keeps_the_order(finished, table, tmp_path):
    with open(table, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    model = jaxft.load(finished)
    predicted = model.predict([row["text"] for row in rows])
    accuracy = np.mean([label == row["label"] for label, row in zip(predicted, rows, strict=True)])
    assert accuracy == pytest.approx(read_json(finished / "summary.json")["test"]["accuracy"])
    backwards = model.predict([row["text"] for row in rows[::-1]])
    assert backwards == predicted[::-1]
    alone = [model.predict([row["text"]])[0] for row in rows[:3]]
    assert alone == predicted[:3]
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with open(source, "w", newline="") as file:
        csv.writer(file).writerows([["text"], *([row["text"]] for row in rows)])
    predict.main([str(finished), "--input", str(source), "--output", str(target)])
    with open(target, newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == predicted


def test_predict_prints_label_and_probabilities(finished, capsys):
    predict.main([str(finished), "--text", "a lovely film"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["label"] in ("neg", "pos")
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [3, 30])  # in language model and classifier
def test_stopped_and_resumed_ends_with_the_same_bits(finished, table, tmp_path, monkeypatch, stop_at):
    taken = iter(range(1, 10**6))

    def pausing(self):
        if next(taken) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return self._stop is not None

    arguments = ["--data", str(table), "--out", str(tmp_path / "run"), *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(Run, "pausing", pausing)
        with pytest.raises(Stopped, match="SIGINT"):
            main(arguments)
    main([*arguments, "--resume"])
    for file in ("stage-language_model.safetensors", "stage-classifier.safetensors", "model/model.safetensors"):
        same_arrays(tmp_path / "run" / file, finished / file)
    logs = [without_times(read_metrics(folder / "metrics.jsonl")) for folder in (tmp_path / "run", finished)]
    assert logs[0] == logs[1]


@pytest.mark.slow
@pytest.mark.parametrize("under_way", ["language_model", "classifier"])
def test_killed_without_warning_and_resumed_ends_with_the_same_bits(finished, table, tmp_path, under_way):
    arguments = [
        "--data",
        str(table),
        "--out",
        str(tmp_path / "run"),
        *SMALL,
        "--precision",
        "f32",
        "--checkpoint-minutes",
        "0",
    ]
    command = [sys.executable, "-m", "jaxft.ulmfit", *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        log = tmp_path / "run" / "metrics.jsonl"
        while process.poll() is None and (not log.exists() or log.read_text().count(f'"{under_way}"') < 4):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "summary.json").exists()
    main([*arguments, "--resume"])
    same_arrays(tmp_path / "run" / "model/model.safetensors", finished / "model/model.safetensors")


def test_resume_refuses_other_settings(finished, table):
    arguments = ["--data", str(table), "--out", str(finished), *SMALL, "--resume"]
    with pytest.raises(
        InputError, match=r"--lm\.peak-rate was 0\.01 and is now 0\.5.*resume it with the earlier values"
    ):
        main([*arguments, "--lm.peak-rate", "0.5"])


@pytest.mark.slow
def test_another_run_reuses_a_language_model(finished, table, tmp_path):
    out = tmp_path / "second"
    few = ["--limit-labels", "10", "--classifier.plan", "last"]
    main(["--data", str(table), "--out", str(out), *SMALL, "--language-model", str(finished), *few])
    summary = read_json(out / "summary.json")
    assert summary["data"]["sizes"]["train"] + summary["data"]["sizes"]["dev"] == 10
    assert summary["language_model"] == read_json(finished / "summary.json")["language_model"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "1"], "another seed"),
        (["--classifier.dev-fraction", "0.3"], r"another classifier\.dev_fraction \(0\.2, here 0\.3\)"),
        (["--model.hidden-size", "16"], r"another model\.hidden_size \(12, here 16\)"),
        (["--transductive"], "another transductive"),
    ],
)
def test_a_language_model_that_does_not_fit_is_refused(finished, table, tmp_path, arguments, message):
    out = tmp_path / "run"
    with pytest.raises(InputError, match=message):
        main(["--data", str(table), "--out", str(out), *SMALL, "--language-model", str(finished), *arguments])
    assert not out.exists()


def test_a_language_model_of_fewer_labels_may_have_read_what_is_held_out(finished, table, tmp_path):
    lender = Path(shutil.copytree(finished, tmp_path / "lender"))
    write_json(lender / "config.json", {**read_json(lender / "config.json"), "limit_labels": 20})
    arguments = ["--data", str(table), "--out", str(tmp_path / "run"), *SMALL]
    for flag in ("--language-model", "--pretrained"):
        for limit in ([], ["--limit-labels", "30"]):
            with pytest.raises(InputError, match="give --limit-labels 20 or fewer"):
                main([*arguments, flag, str(lender), *limit])


@pytest.mark.parametrize(("name", "value"), [("seed", "1"), ("classifier.dev-fraction", "0.3")])
def test_a_pretrained_model_of_the_same_texts_has_to_hold_out_the_same(finished, table, tmp_path, name, value):
    arguments = ["--data", str(table), "--out", str(tmp_path / "run"), *SMALL, "--pretrained", str(finished)]
    with pytest.raises(InputError, match=f"same texts with another --{name}"):
        main([*arguments, f"--{name}", value])
    assert not (tmp_path / "run").exists()


def test_resume_refuses_texts_that_have_changed(finished, table, tmp_path):
    changed = tmp_path / "reviews.csv"
    changed.write_bytes(table.read_bytes() + b"one more,pos,train\r\n")
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    with pytest.raises(InputError, match="the texts have changed"):
        main(["--data", str(changed), "--out", str(run), *SMALL, "--resume"])


@pytest.mark.slow
def test_three_classes_of_odd_names_with_an_average_and_test_texts_for_the_language_model(tmp_path):
    rng = np.random.default_rng(1)
    labels = ("$a_$", "höflich", "3")
    rows = [{"text": review(rng, "pos"), "label": labels[i % 3]} for i in range(60)]
    rows += [{"text": review(rng, "neg"), "label": ""} for _ in range(10)]
    data, out = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    flags = ["--classifier.plan", "full", "--lm.average", "ema", "--transductive", "--limit-unlabelled", "5"]
    main(["--data", str(data), "--out", str(out), *SMALL, *flags])
    summary = read_json(out / "summary.json")
    assert sorted(summary["data"]["classes"]) == sorted(labels)
    assert summary["data"]["transductive"]
    sizes = summary["data"]["sizes"]
    assert sizes["train"] + sizes["dev"] + sizes["test"] == 60
    assert 0.75 * (sizes["train"] + 5 + sizes["test"]) < sizes["language-model texts"]
    assert np.shape(summary["test"]["confusion_matrix"]) == (3, 3)
    assert (out / "plots/confusion.png").exists()


@pytest.mark.slow
def test_texts_of_any_length_and_number_share_a_few_compilations(finished):
    model = jaxft.load(finished)
    for words in (1, 5, 9, 14, 30, 70, 100):
        model.predict(["film " * words])
    for texts in range(2, 9):
        model.predict(["a fine film"] * texts)
    assert model.logits._cache_size() <= 8


@pytest.mark.slow
@pytest.mark.parametrize("pretrained", [False, True])
def test_a_corpus_that_is_too_small_for_a_language_model_gets_a_classifier(finished, tmp_path, capsys, pretrained):
    data = write_reviews(tmp_path / "few.csv", {"train": 12, "test": 6})
    start = ["--pretrained", str(finished)] if pretrained else []
    plain = ["--classifier.plan", "last", "--classifier.phase-steps", "4", "--text.min-count", "1"]
    sizes = [] if pretrained else ["--model.embedding-size", "8", "--model.hidden-size", "12"]
    main(["--data", str(data), "--out", str(tmp_path / "run"), *plain, *sizes, *start])
    begins = "with that of --pretrained as it is" if pretrained else "from random weights"
    assert (
        f"too little text to learn a language model from, so the classifier begins {begins}" in capsys.readouterr().out
    )
    summary = read_json(tmp_path / "run/summary.json")
    assert [row["name"] for row in summary["stages"] if "language" in row["name"] and row["seconds"]] == []
    assert summary["weights"] == "the last ones, because there are no dev texts to choose by"
    assert summary["test"]["n"] == 6
    assert jaxft.load(tmp_path / "run").predict(["a lovely film"])[0] in ("pos", "neg")


@pytest.mark.slow
def test_a_language_without_spaces_is_learnt_by_subwords(tmp_path, capsys):
    rng, path = np.random.default_rng(0), tmp_path / "reviews.csv"
    words = {"好": ["好看", "精彩", "喜欢"], "坏": ["难看", "无聊", "讨厌"]}
    plain = ["电影", "故事", "演员", "真的", "觉得", "今天"]
    rows = [
        ("".join(rng.choice([*plain, *words[label]], 12)), label, split)
        for split in ("train", "test")
        for label in words
        for _ in range(90)
    ]
    path.write_text("text,label,split\n" + "".join(f"{','.join(row)}\n" for row in rows))
    main(["--data", str(path), "--dry-run", *SMALL, "--text.min-count", "3"])
    assert "% of tokens unknown, so try --text.tokens subwords" in capsys.readouterr().out
    out = str(tmp_path / "run")
    flags = ["--text.tokens", "subwords", "--text.max-vocab", "400", "--classifier.phase-steps", "60"]
    flags += ["--lm.epochs", "5", "--classifier.drop-mult", "0", "--model.embedding-size", "16"]
    main(["--data", str(path), "--out", out, *SMALL, *flags])
    assert "subwords in the vocabulary, 0.0 % of tokens unknown" in capsys.readouterr().out
    assert read_json(tmp_path / "run/summary.json")["test"]["accuracy"] > 0.85
    texts, labels, splits = zip(*rows, strict=True)
    predicted = jaxft.load(out).predict(texts)
    right = [p == label for p, label, split in zip(predicted, labels, splits, strict=True) if split == "test"]
    assert np.mean(right) == pytest.approx(read_json(tmp_path / "run/summary.json")["test"]["accuracy"])
    assert jaxft.load(f"{out}/language_model").generate("电影", words=5).startswith("电影")
    with pytest.raises(InputError, match=r"reads subwords: give --text\.tokens subwords"):
        main(["--data", out, "--pretrained", out])
    with pytest.raises(InputError, match="fastai does not make the subwords"):
        export.main([out, "--output", str(tmp_path / "fastai")])


def test_rows_shrink_with_the_corpus(table, tmp_path, capsys):
    plain = ["--classifier.epochs", "1", "--text.min-count", "1", "--lm.epochs", "1", "--dry-run"]
    main(["--data", str(table), "--out", str(tmp_path / "run"), *plain])
    text = capsys.readouterr().out
    assert "in one row, because 32 would leave it fewer than 10 steps an epoch" in text
    assert '"bptt": 64' in text


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["weighted-f1", "mcc"])
def test_another_metric_chooses_and_rare_classes_weigh_more(table, tmp_path, metric):
    flags = ["--lm.epochs", "0", "--metric", metric, "--class-weights", "balanced"]
    main(["--data", str(table), "--out", str(tmp_path / "run"), *SMALL, *flags])
    summary = read_json(tmp_path / "run/summary.json")
    name = metric.replace("-", "_")
    assert {"accuracy", "loss", name} == set(summary["dev"])
    assert -1 <= summary["test"][name] <= 1
    evaluations = [line for line in read_metrics(tmp_path / "run/metrics.jsonl") if line.get("split") == "held-out"]
    best = max(line[name] for line in evaluations)
    assert summary["dev"][name] == best if metric == "mcc" else summary["dev"][name] >= best - 0.3
    chosen = {
        "mcc": "those with the best mcc",
        "weighted-f1": "the last within one standard error of the best weighted-F1",
    }
    assert summary["weights"] == f"{chosen[metric]} on 8 dev texts"


def test_a_solved_head_needs_hidden_units_for_its_classes(table, tmp_path):
    flags = ["--classifier.head", "probe", "--classifier.head-hidden", "3"]
    with pytest.raises(
        InputError, match=r"--classifier\.head-hidden 3 cannot hold a solved head of 2 classes: give at least 4"
    ):
        main(["--data", str(table), "--out", str(tmp_path / "run"), *SMALL, *flags])


def test_dry_run_trains_nothing(table, tmp_path, capsys):
    out = tmp_path / "never"
    main(["--data", str(table), "--out", str(out), *SMALL, "--dry-run"])
    text = capsys.readouterr().out
    assert not out.exists()
    assert "frozen" in text
    assert "weights to keep: the last within one standard error of the best accuracy on 8 dev texts" in text
    assert "last 1" in text
    assert '"peak_rate"' in text
    assert "nothing was trained" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "OCCUPIED"], r"OCCUPIED.*--out"),
        (["--resume", "--out", "NOWHERE"], r"NOWHERE.*--resume"),
        (["--limit-labels", "3"], r"--limit-labels 3 is too few for 2 classes"),
        (["--language-model", "NOWHERE", "--dry-run"], r"NOWHERE holds no trained forward language model"),
        (["--language-model", "NOWHERE"], r"NOWHERE holds no trained forward language model"),
        (["--lm.peak-rate", "-1"], r"--lm\.peak-rate -1\.0 is out of its range"),
        (
            ["--classifier.batch-size", "0"],
            r"--classifier\.batch-size 0 is out of its range: give a number from 1 to 1,048,576",
        ),
        (["--lm.drop-mult", "10"], r"--lm\.dropout\.input 0\.25 times --lm\.drop-mult 10\.0"),
        (["--class-weights", "{}x"], r"--class-weights \{\}x is not a known setting"),
        (["--limit-unlabelled", "-5"], r"--limit-unlabelled -5"),
    ],
)
def test_bad_flags_are_refused_in_one_sentence(table, tmp_path, arguments, message):
    (tmp_path / "OCCUPIED").mkdir()
    (tmp_path / "OCCUPIED" / "notes.txt").write_text("mine")
    paths = [str(tmp_path / a) if a.isupper() else a for a in arguments]
    out = [] if "--out" in paths else ["--out", str(tmp_path / "run")]
    with pytest.raises(InputError, match=message) as error:
        main(["--data", str(table), *SMALL, *out, *paths])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_bad_input_ends_with_status_2_and_no_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "jaxft.ulmfit",
        "--data",
        str(tmp_path / "missing.csv"),
        "--out",
        str(tmp_path / "o"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("jaxft: ")
    assert "missing.csv" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_copies_of_a_text_are_in_one_split_and_their_number_is_said(tmp_path, capsys):
    rng = np.random.default_rng(3)
    rows = [(review(rng, label), label) for label in ("pos", "neg") for _ in range(20)]
    path = tmp_path / "copies.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows, *rows, *((f" {text}  ", label) for text, label in rows)])
    main(["--data", str(path), "--out", str(tmp_path / "run"), *SMALL])
    data = read_json(tmp_path / "run/summary.json")["data"]
    counts = data["duplicates"]
    assert counts["repeated"] == 40
    assert counts["dev_in_train"] == counts["test_in_train"] == counts["with_several_labels"] == 0
    sizes = data["sizes"]
    assert (sizes["train"] + sizes["dev"], sizes["test"]) == (96, 24)
    line = f"40 texts occur more than once; also in train: 0 of {sizes['dev']} dev, 0 of 24 test texts"
    assert line in capsys.readouterr().out
    main(["--data", str(path), "--dry-run", *SMALL])
    assert line in capsys.readouterr().out


@pytest.mark.slow
def test_labels_beyond_the_limit_serve_nowhere(tmp_path, monkeypatch):
    rows = [f"lovely film {i},pos,train" for i in range(60)] + [f"dull film {i},neg,train" for i in range(20)]
    rows += [f"warm film {i},{('pos', 'neg')[i % 2]},test" for i in range(6)]
    (tmp_path / "many.csv").write_text("\n".join(["text,label,split", *rows]) + "\n")
    seen = {}

    def baseline(texts, labels, *_):
        seen["baseline"] = (len(texts), np.bincount(labels).tolist())
        return {"method": "none"}

    def weights(setting, labels, classes):
        seen["weights"] = np.bincount(labels).tolist()

    monkeypatch.setattr("jaxft.ulmfit.job.linear_baseline", baseline)
    monkeypatch.setattr("jaxft.ulmfit.stages.class_weights", weights)
    flags = ["--limit-labels", "20", "--classifier.pseudo-share", "0"]
    main(["--data", str(tmp_path / "many.csv"), "--out", str(tmp_path / "run"), *SMALL, *flags])
    assert seen["baseline"] == (20, [10, 10])
    assert seen["weights"] == [8, 8]
    sizes = read_json(tmp_path / "run/summary.json")["data"]["sizes"]
    assert (sizes["train"], sizes["dev"], sizes["language-model texts"]) == (16, 4, 61)
