"""Training from Python: every job gives what its command line gives, from files and from data in memory."""

import csv
import importlib
import json
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxft
from jaxft.base.files import read_json
from jaxft.errors import InputError

WORDS = {"pos": ["fine", "good", "great"], "neg": ["bad", "dull", "poor"]}
PLAIN = ["the", "a", "film", "was", "i", "saw", "it", "and"]
MODEL = {"embedding_size": 8, "hidden_size": 8, "num_layers": 1}
LM = {"epochs": 1, "batch_size": 2, "bptt": 8}


def rows(count=60):
    rng, labels = np.random.default_rng(0), ["pos", "neg"]
    texts = [" ".join(rng.choice([*PLAIN, *WORDS[labels[i % 2]]], 9)) for i in range(count)]
    splits = ["test" if i % 5 == 4 else "train" for i in range(count)]
    return {"text": texts, "label": [labels[i % 2] for i in range(count)], "split": splits}


def sentences():
    tokens = [["ada", "byron", "left", "paris"], ["in", "rome", "today"]] * 10
    tags = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC", "O"]] * 10
    splits = ["train"] * 14 + ["dev"] * 2 + ["test"] * 4
    return {"tokens": tokens, "tags": tags, "split": splits}


def ulmfit_case(folder, checkpoint):
    settings = {
        "model": MODEL,
        "lm": LM,
        "text": {"min_count": 1},
        "classifier": {"epochs": 1, "phase_steps": 4, "max_length": 16, "dev_fraction": 0.2},
    }
    return write_csv(folder / "reviews.csv", rows()), rows(), settings


def finetune_case(folder, checkpoint):
    settings = {"model": str(checkpoint), "max_length": 16, "train": {"epochs": 1, "min_steps": 4}}
    return write_csv(folder / "reviews.csv", rows()), rows(), settings


def ner_case(folder, checkpoint):
    table = sentences()
    for split in ("train", "dev", "test"):
        chosen = [i for i, name in enumerate(table["split"]) if name == split]
        blocks = ["\n".join(map(" ".join, zip(table["tokens"][i], table["tags"][i], strict=True))) for i in chosen]
        (folder / f"conll.{split}").write_text("\n\n".join(blocks) + "\n")
    return folder / "conll", table, {"train": {"epochs": 2, "min_steps": 0}, "model": {"lstm_size": 8, "bigrams": 0}}


def pretrain_case(folder, checkpoint):
    (folder / "book.txt").write_text("\n".join(rows(600)["text"]))
    return folder / "book.txt", folder / "book.txt", {"model": MODEL, "lm": LM, "text": {"min_count": 1}}


CASES = {"ulmfit": ulmfit_case, "finetune": finetune_case, "ner": ner_case, "pretrain": pretrain_case}


def write_csv(path, table):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def flags(settings, prefix=""):
    """The command line of settings."""
    given = []
    for name, value in settings.items():
        if isinstance(value, dict):
            given += flags(value, f"{prefix}{name}.")
        else:
            given += [f"--{prefix}{name}".replace("_", "-"), str(value)]
    return given


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def case(request, tmp_path, tiny_checkpoint):
    path, data, settings = CASES[request.param](tmp_path, tiny_checkpoint)
    return importlib.import_module(f"jaxft.{request.param}"), path, data, settings


def weights(folder):
    """The files of the finished models; those of stages hold times."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("model.safetensors")}


def test_fit_gives_from_memory_what_the_command_line_gives_from_files(case, tmp_path, monkeypatch, capsys):
    job, path, data, settings = case
    monkeypatch.chdir(tmp_path)
    job_name = job.__name__.rpartition(".")[2]
    main = importlib.import_module(f"{job.__name__}.__main__").main
    main(["--text" if job_name == "pretrain" else "--data", str(path), "--out", "command", *flags(settings)])
    printed = capsys.readouterr().out
    before = set(tmp_path.rglob("*"))
    fitted = job.fit(data, **settings)
    assert set(tmp_path.rglob("*")) == before, "without out nothing is written"
    loaded = jaxft.load(tmp_path / "command")
    jax.tree.map(np.testing.assert_array_equal, parameters(fitted), parameters(loaded))
    assert repr(fitted) == f"{loaded!r}, trained on {path.name if job_name == 'pretrain' else 'data'}, not saved"
    if job_name == "pretrain":
        assert fitted.generate("the film", words=3) == loaded.generate("the film", words=3)
        return
    told = capsys.readouterr().out.replace("data: ", "").splitlines()
    assert [line for line in told if line not in printed] == [], "what was read is told in the same words"
    assert fitted.summary["test"] == read_json(tmp_path / "command/summary.json")["test"]
    check_predictions(fitted, loaded)


def test_skipped_steps_are_told_by_every_job(case, monkeypatch):
    job, _, data, settings = case
    monkeypatch.setattr("jaxft.training.stage.applied_metrics", lambda state: {"skipped": 2})
    rows = {row["name"]: row.get("skipped_steps") for row in job.fit(data, **settings).summary["stages"]}
    assert rows.pop("text") is None
    assert rows.pop("test", None) is None
    assert rows
    assert set(rows.values()) == {2}


def parameters(model):
    return model.encoder.params if hasattr(model, "encoder") else model.params


def check_predictions(fitted, loaded):
    text = "the film was fine and ada byron"
    assert fitted.predict(text) == loaded.predict([text])[0]
    assert fitted.classes == loaded.classes
    for model in (fitted, loaded):
        with pytest.warns(UserWarning, match="1 of 1 texts are empty") as told:
            model.predict(" ")
        assert told[0].filename == __file__, "the warning names the line of the caller"
    worst = fitted.top_losses(2)
    assert len(worst) == 2
    assert worst[0]["loss"] >= worst[1]["loss"] >= 0
    assert {"text", "label", "prediction"} <= worst[0].keys()
    assert fitted.plot_training().axes
    assert fitted.plot_learning_rates().axes
    assert pickle.loads(pickle.dumps(fitted.summary)) == fitted.summary


@pytest.mark.slow
def test_a_classifier_draws_its_confusions_and_a_mapping_serves_for_json(tmp_path, tiny_checkpoint):
    from jaxft import finetune

    path, _, settings = finetune_case(tmp_path, tiny_checkpoint)
    fitted = finetune.fit(path, **settings, class_weights={"pos": 2.0})
    assert json.loads(fitted.summary["config"]["class_weights"]) == {"pos": 2.0}
    assert fitted.plot_confusion().axes[0].get_xlabel() == "predicted class"
    assert fitted.predict_proba("fine").shape == (2,)
    with pytest.raises(InputError, match="there is no stage 'lm': give 'train'"):
        fitted.plot_learning_rates("lm")


@pytest.mark.slow
def test_a_run_is_that_of_the_command_line_and_goes_on_in_its_folder(tmp_path, tiny_checkpoint):
    from jaxft import finetune
    from jaxft.finetune.__main__ import main

    path, data, settings = finetune_case(tmp_path, tiny_checkpoint)
    main(["--data", str(path), "--out", str(tmp_path / "command"), *flags(settings)])
    saved = finetune.fit(path, out=tmp_path / "saved", **settings)
    assert weights(tmp_path / "saved") == weights(tmp_path / "command")
    assert read_json(tmp_path / "saved/config.json") == read_json(tmp_path / "command/config.json")
    assert read_json(tmp_path / "saved/summary.json") == json.loads(json.dumps(saved.summary))
    assert saved.run == tmp_path / "saved"
    out = tmp_path / "run"
    finetune.fit(data, out=out, **settings)
    with pytest.raises(InputError, match=r"holds a run: continue it with resume=True, or name another folder with out"):
        finetune.fit(data, out=out, **settings)
    again = finetune.fit(data, out=out, resume=True, **settings)
    assert again.summary["stages"][1]["name"] == "train"
    with pytest.raises(InputError, match="the texts have changed since the run"):
        finetune.fit({**data, "label": data["label"][::-1]}, out=out, resume=True, **settings)
    with pytest.raises(InputError, match=r"resume=True needs the folder of the run: give out"):
        finetune.fit(data, resume=True, **settings)


BAD = [
    ("ulmfit", {"clasifier": {"epochs": 1}}, TypeError, "'clasifier' is not a setting: do you mean 'classifier'"),
    ("ulmfit", {"lm": {"peak_rates": 1}}, TypeError, "'lm.peak_rates' is not a setting: do you mean 'lm.peak_rate'"),
    ("ulmfit", {"epochs": 1}, TypeError, "'epochs' is not a setting: give lm={'epochs': ...} or classifier={'epochs'"),
    ("ulmfit", {"learning_rate": 1}, TypeError, "give lm={'peak_rate': ...} or classifier={'peak_rate': ...}"),
    ("ulmfit", {"lm.epochs": 1}, TypeError, "'lm.epochs' is not a setting: give lm={'epochs': ...}"),
    ("ulmfit", {"dry_run": True}, InputError, "dry_run trains no model to return: leave it out"),
    ("ulmfit", {"text": {"tokens": "subwords", "max_vocab": 99}}, InputError, "text.max_vocab 99 has no room for sub"),
    ("ulmfit", {"seed": "1"}, InputError, "seed '1' has the wrong type: give a whole number"),
    ("ulmfit", {"seed": True}, InputError, "seed True has the wrong type"),
    ("ulmfit", {"lm": 3}, InputError, "lm 3 has the wrong type: give a mapping of settings"),
    ("ulmfit", {"precision": "f16"}, InputError, "precision 'f16' is none of its choices: give 'auto', 'f32', 'bf16'"),
    ("ulmfit", {"preset": "tiny"}, InputError, "preset 'tiny' is none of its choices"),
    ("ulmfit", {"lm": {"peak_rate": 0}}, InputError, r"^lm\.peak_rate 0.0 is out of its range: give a number above 0"),
    ("ulmfit", {"baseline": 1}, InputError, "baseline 1 has the wrong type: give True or False"),
    (
        "ulmfit",
        {"text_column": "review"},
        InputError,
        r"data\[0\] has no column 'review'.* with text",
    ),
    ("ner", {"train": {"epoch": 1}}, TypeError, "do you mean 'train.epochs'"),
    ("pretrain", {"lm": {"epochs": 0}}, InputError, r"^lm\.epochs 0 leaves nothing to train"),
]


@pytest.mark.parametrize(("job", "settings", "error", "message"), BAD)
def test_settings_that_will_not_do_are_refused_as_arguments(job, settings, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as raised:
        importlib.import_module(f"jaxft.{job}").fit(rows(), **settings)
    assert "--" not in str(raised.value)
    assert not list(Path(tmp_path).iterdir())


def test_a_language_model_has_no_labels():
    from jaxft import pretrain

    with pytest.raises(InputError, match="labels are given, and a language model has none"):
        pretrain.fit(["a text"], ["a label"])  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_pairs_numbers_and_sets_of_labels_are_given_as_they_are(tmp_path, tiny_checkpoint):
    from jaxft import finetune

    _, data, settings = finetune_case(tmp_path, tiny_checkpoint)
    texts = data["text"]
    pairs = finetune.fit(list(zip(texts, texts[::-1], strict=True)), data["label"], **settings)
    assert pairs.predict(("the film", "was fine")) in pairs.classes
    numbers = finetune.fit(texts, [float(len(set(text.split()))) for text in texts], task="regression", **settings)
    assert isinstance(numbers.predict("the film"), float)
    assert numbers.top_losses(1)[0]["loss"] >= 0
    with pytest.raises(InputError, match="a model of numbers has no probabilities"):
        numbers.predict_proba("the film")
    sets = [[label, "even"] if i % 4 < 2 else [label] for i, label in enumerate(data["label"])]
    labels = finetune.fit(texts, sets, task="multilabel", **settings)
    assert isinstance(labels.predict("the film"), list)
    assert labels.classes == ("even", "neg", "pos")
