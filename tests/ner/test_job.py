"""Sequence labelling end to end on small made-up sentences: training, comparing, predicting, refusing."""

import csv
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxft
from jaxft import predict
from jaxft.base.files import read_json
from jaxft.data.checksums import CHECKSUMS
from jaxft.data.tagged import read_tagged
from jaxft.errors import InputError
from jaxft.inference.tagger import EntityTagger
from jaxft.ner.__main__ import main
from jaxft.ner.inputs import read_inputs
from jaxft.ner.job import train
from jaxft.ner.settings import parse
from jaxft.ner.stages import as_model
from jaxft.training.metrics_log import read_metrics
from tests.ner.toy import QUICK, settings, write_parts


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(settings(data, out))
    return out


def test_a_run_learns_and_its_model_finds_entities_in_raw_text(finished):
    summary = read_json(finished / "summary.json")
    assert summary["test"]["micro_f1"] > 0.95
    assert summary["data"]["sizes"] == {"train": 80, "dev": 16, "test": 24}
    assert (finished / "plots/training.png").exists()
    model = jaxft.load(finished)
    assert isinstance(model, EntityTagger)
    text = "so  ada byron in rome"
    entities = [
        {"type": "PER", "start": 4, "end": 13, "text": "ada byron"},
        {"type": "LOC", "start": 17, "end": 21, "text": "rome"},
    ]
    predicted = model.predict(text)
    assert [{k: v for k, v in entity.items() if k != "score"} for entity in predicted] == entities
    assert all(0.5 < entity["score"] <= 1 for entity in predicted)
    assert model.predict([text]) == [predicted]
    assert model.tag([[], ["in", "rome"]]) == [[], ["O", "B-LOC"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deberta", "modernbert"])
def test_an_encoder_with_other_layers_learns_and_is_saved(name, tiny_others, tmp_path):
    words = ["good", "bad", "fine"]  # of the tokenizer
    for part, count in (("train", 60), ("dev", 16)):
        lines = [f"the O\n{words[i % 3]} B-{'XY'[i % 2]}\n{'film' if i % 2 else 'was'} O\n\n" for i in range(count)]
        (tmp_path / f"small.{part}").write_text("".join(lines))
    data = str(tmp_path / "small")
    flags = ["--encoder", str(tiny_others[name]), "--max-length", "16", "--train.epochs", "12"]
    train(settings(data, tmp_path / "run", *flags, "--train.peak-rate", "0.003", "--train.head-rate", "0.03"))
    assert read_json(tmp_path / "run/summary.json")["dev"]["micro_f1"] > 0.9
    model = jaxft.load(tmp_path / "run")
    assert model.tag([["the", "fine", "film"], ["the", "bad", "was"]]) == [["O", "B-Y", "O"], ["O", "B-X", "O"]]


def test_a_run_that_trains_once_has_one_stage_called_tagger(finished):
    summary = read_json(finished / "summary.json")
    assert [row["name"] for row in summary["stages"]] == ["text", "tagger"]
    assert {line["stage"] for line in read_metrics(finished / "metrics.jsonl")} == {"tagger"}
    assert (finished / "plots/learning_rates_tagger.png").exists()


def test_predictions_tell_scores_of_entities_and_losses_of_sentences(finished):
    model = jaxft.load(finished)
    with open(finished / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    sentences = list(read_tagged(Path(read_json(finished / "config.json")["data"] + ".test")))
    assert [row["text"] for row in rows] == [" ".join(sentence.tokens) for sentence in sentences]
    losses = sentence_losses(model, sentences)
    for row, entities, loss in zip(rows, model.predict([row["text"] for row in rows]), losses, strict=True):
        assert row["prediction"] == "; ".join(f"{entity['type']}: {entity['text']}" for entity in entities)
        assert row["scores"] == "; ".join(f"{entity['score']:.4f}" for entity in entities)
        assert float(row["loss"]) == pytest.approx(loss, rel=1e-3, abs=1e-5)


def sentence_losses(model, sentences) -> list[float]:
    """The loss of each sentence, as training measures it."""
    mean_loss = jax.jit(lambda batch: model.fns.loss(model.params, (), batch, None)[0])
    width, losses = max(len(sentence.tokens) for sentence in sentences), []
    for sentence in sentences:
        length = len(sentence.tokens)
        tags = [model.fns.config.tags.index(tag) for tag in sentence.tags]
        rows = {
            "tokens": np.pad(model.tokenizer.encode(sentence.tokens), (0, width - length))[None],
            "lengths": np.array([length]),
            "tags": np.array([tags + [-1] * (width - length)]),
        }
        losses.append(length * float(mean_loss(rows)))
    return losses


def test_each_token_of_a_sentence_in_windows_counts_once(data, tmp_path):
    alone = ["--model.head", "softmax", "--model.lstm-size", "0", "--model.bigrams", "0"]  # no token sees another
    plain = settings(data, tmp_path, *alone)
    inputs = read_inputs(plain)
    model = as_model(inputs, plain, inputs.fns.init(0))
    sentences = [["so", "ada", "byron", "in", "rome", "today"] * 4, []]
    tags = [["O", "B-PER", "I-PER", "O", "B-LOC", "O"] * 4, []]
    (_, whole), (_, empty) = model.judge(sentences, tags)
    (_, cut), _ = replace(model, max_length=5).judge(sentences, tags)
    assert cut == pytest.approx(whole, rel=1e-5)
    assert whole > 0
    assert empty == 0


def test_files_and_standard_input_are_answered_in_order(finished, tmp_path, monkeypatch, capfd):
    lines = ["ada byron today", "", "in rome", "so " * 300 + "in paris"]
    (tmp_path / "texts.txt").write_text("\n".join(lines) + "\n")
    predict.main([str(finished), "--input", str(tmp_path / "texts.txt"), "--json-lines"])
    answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [answer["text"] for answer in answers] == lines
    assert [[one["text"] for one in answer["entities"]] for answer in answers] == [
        ["ada byron"],
        [],
        ["rome"],
        ["paris"],
    ]
    assert answers[3]["entities"][0]["start"] == 903
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    predict.main([str(finished), "--input", "-"])
    head, *rows = csv.reader(capfd.readouterr().out.splitlines())
    assert head == ["row", "type", "start", "end", "text", "score"]
    assert [row[:5] for row in rows] == [
        ["1", "PER", "0", "9", "ada byron"],
        ["3", "LOC", "3", "7", "rome"],
        ["4", "LOC", "903", "908", "paris"],
    ]
    predict.main([str(finished), "--text", "so then today"])
    assert json.loads(capfd.readouterr().out) == {"entities": []}


@pytest.mark.slow
def test_every_run_and_the_mean_are_in_one_table(data, tmp_path):
    out, options = tmp_path / "run", ("--compare", "--repeats", "2", "--train.epochs", "2")
    result = train(settings(data, out, *options))
    assert [row["name"] for row in result["comparison"]] == ["plateau", "keras_bert", "keras_bert + FGM"]
    table = (out / "comparison.md").read_text()
    for row in result["comparison"]:
        runs = [run for run in result["runs"] if run["name"] == row["name"]]
        assert row["scores"] == [run["test"]["micro_f1"] for run in runs]
        assert row["mean"] == pytest.approx(np.mean(row["scores"]))
        assert len({run["seed"] for run in runs}) == 2
        assert f"| {row['name']} | {' | '.join(f'{score:.4f}' for score in row['scores'])} |" in table
    best = max(result["runs"], key=lambda run: run["dev"]["micro_f1"])
    assert result["test"] == best["test"]
    assert (out / "plots/comparison.png").exists()
    again = train(settings(data, out, *options, "--resume"))
    assert again["runs"] == result["runs"]


@pytest.mark.slow
def test_an_encoder_s_model_saves_all_that_it_needs(data, tiny_checkpoint, tmp_path):
    options = ("--train.epochs", "1", "--train.head-rate", "0.01", "--train.fgm", "0.1", "--max-length", "20")
    train(settings(data, tmp_path / "run", "--encoder", str(tiny_checkpoint), *options))
    model = jaxft.load(tmp_path / "run/model")
    sentences = [["the", "film", "was", "good-bad"], ["one"]]
    before = model.tag(sentences)
    (tmp_path / "run/model").rename(tmp_path / "elsewhere")
    assert jaxft.load(tmp_path / "elsewhere").tag(sentences) == before
    assert [len(tags) for tags in before] == [4, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["--model.head", "softmax", "--train.ema-decay", "0.8"], ["--model.lstm-size", "0", "--scheme", "BIOES"]],
)
def test_other_models_train_too(data, tmp_path, options):
    result = train(settings(data, tmp_path / "run", *options))
    assert result["test"]["micro_f1"] > 0.9
    assert len(jaxft.load(tmp_path / "run").tag([["ada", "byron"]])[0]) == 2


@pytest.mark.slow
def test_the_command_prints_orphans_and_then_the_scores(tmp_path, capsys):
    data = write_parts(tmp_path)
    Path(f"{data}.dev").write_text("so O\nada I-PER\n\nin O\nrome B-LOC\n")
    main(["--data", data, "--out", str(tmp_path / "run"), *QUICK, "--train.epochs", "1"])
    printed = capsys.readouterr().out
    orphans = "entities whose first tag is I or E, as in IOB1 (they count as entities): 1 of 2 in dev"
    assert -1 < printed.index(orphans) < printed.index("micro-F1") < printed.rindex("PER")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", ""], "--data is empty"),
        (["--data", "nowhere"], "nowhere is not a file, and neither nowhere.train nor"),
        (["--train.peak-rate", "1e-9"], "--train.min-rate 3e-06 is above --train.peak-rate"),
        (["--compare", "--train.fgm", "0.5"], "leave out --train.fgm"),
        (["--compare", "--schedule", "cosine"], "leave out --schedule"),
        (["--model.dropout", "1"], "--model.dropout 1.0 is out of its range"),
        (["--encoder", "no/such/model"], "--encoder no/such/model is not a folder"),
        (["--remat"], "--remat is given without an encoder"),
    ],
)
def test_bad_flags_are_refused(data, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        main(["--data", data, "--out", str(tmp_path / "run"), *flags])
    assert not (tmp_path / "run").exists()


def test_a_missing_flag_is_asked_for_by_its_name(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert "--data" in capsys.readouterr().err


def test_a_model_without_the_entry_of_bigrams_has_none(data, tmp_path):
    plain = settings(data, tmp_path, "--model.bigrams", "0")
    inputs = read_inputs(plain)
    as_model(inputs, plain, inputs.fns.init(0)).save(tmp_path / "model")
    path = tmp_path / "model/model.json"
    description = read_json(path)
    assert description.pop("bigrams") == 0
    path.write_text(json.dumps(description))
    (tmp_path / "model" / CHECKSUMS).unlink()
    assert jaxft.load(tmp_path).tag([["ada"]])


def test_a_damaged_model_is_refused(finished, tmp_path):
    copied = Path(shutil.copytree(finished, tmp_path / "copy"))
    (copied / "model/vocabulary.json").write_text('{"tokens": ["xxunk", "xxpad", "xxbos"]}')
    (copied / "model" / CHECKSUMS).unlink()
    with pytest.raises(InputError, match="does not fit the model"):
        jaxft.load(copied)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.usefixtures("all_optimizations")
def test_real_sentences_are_read_and_learnt(real_data, tmp_path):
    small = ["--model.bigrams", "4096", "--model.lstm-size", "64", "--train.peak-rate", "0.01", "--train.epochs", "2"]
    result = train(parse(["--data", str(real_data / "ner/time"), "--out", str(tmp_path / "run"), *small]))
    assert result["data"]["sizes"] == {"train": 1530, "dev": 170, "test": 300}
    assert result["test"]["n"] == 441
    assert result["test"]["micro_f1"] > 0.65
