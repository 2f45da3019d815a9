"""Sequence labelling end to end on small made-up sentences: training, comparing, resuming, predicting, refusing."""

import io
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jaxft
from jaxft import predict
from jaxft.data.tagged import Sentence
from jaxft.errors import InputError, Stopped
from jaxft.inference.tagger import EntityTagger
from jaxft.models.tagger import TaggerFns
from jaxft.ner import job as ner
from jaxft.ner.inputs import find_files, read_inputs
from jaxft.ner.settings import parse
from jaxft.ner.stages import as_model, ner_plan, train_tagger
from jaxft.training.report import read_json
from jaxft.training.stage import Run

NAMES, CITIES = ["ada", "grace", "alan"], ["london", "paris", "rome"]
QUICK = ["--train.epochs", "6", "--train.batch-size", "8", "--model.lstm-size", "8", "--model.embedding-size", "16"]
QUICK += ["--train.peak-rate", "0.03", "--model.dropout", "0.1", "--model.min-count", "1"]


def write(path: Path, count: int, seed: int, joined: str = " ") -> None:
    rng = np.random.default_rng(seed)
    with open(path, "w") as file:
        for _ in range(count):
            for _ in range(rng.integers(1, 4)):
                file.write(f"{rng.choice(['so', 'then', 'and', 'today'])}{joined}O\n")
                if rng.random() < 0.6:
                    file.write(f"{rng.choice(NAMES)}{joined}B-PER\nbyron{joined}I-PER\n")
                if rng.random() < 0.4:
                    file.write(f"in{joined}O\n{rng.choice(CITIES)}{joined}B-LOC\n")
            file.write("\n")


@pytest.fixture
def data(tmp_path: Path) -> str:
    for part, count, seed in (("train", 80, 0), ("dev", 16, 1), ("test", 24, 2)):
        write(tmp_path / f"small.{part}", count, seed)
    return str(tmp_path / "small")


def settings(data: str, out: Path, *more: str):
    return parse(["--data", data, "--out", str(out), *QUICK, *more])


def test_a_run_learns_and_its_model_finds_entities_in_raw_text(data, tmp_path, capsys):
    ner.main(["--data", data, "--out", str(tmp_path / "run"), *QUICK])
    printed = capsys.readouterr().out
    assert "micro-F1" in printed
    assert "PER" in printed
    summary = read_json(tmp_path / "run/summary.json")
    assert summary["test"]["micro_f1"] > 0.95
    assert summary["data"]["sizes"] == {"train": 80, "dev": 16, "test": 24}
    assert (tmp_path / "run/plots/training.png").exists()
    model = jaxft.load(tmp_path / "run")
    assert isinstance(model, EntityTagger)
    text = "so  ada byron in rome"
    assert model.predict([text]) == [
        [
            {"type": "PER", "start": 4, "end": 13, "text": "ada byron"},
            {"type": "LOC", "start": 17, "end": 21, "text": "rome"},
        ]
    ]
    assert model.tag([[], ["in", "rome"]]) == [[], ["O", "B-LOC"]]


@pytest.fixture
def finished(data, tmp_path) -> Path:
    ner.train(settings(data, tmp_path / "run"))
    return tmp_path / "run"


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
    assert capfd.readouterr().out.splitlines() == [
        "row,type,start,end,text",
        "1,PER,0,9,ada byron",
        "3,LOC,3,7,rome",
        "4,LOC,903,908,paris",
    ]
    predict.main([str(finished), "--text", "so then today"])
    assert json.loads(capfd.readouterr().out) == {"entities": []}


def test_every_run_and_the_mean_stand_in_one_table(data, tmp_path):
    options = ("--compare", "--repeats", "2", "--train.epochs", "2")
    result = ner.train(settings(data, tmp_path / "run", *options))
    assert [row["name"] for row in result["comparison"]] == ["plateau", "keras_bert", "keras_bert + FGM"]
    table = (tmp_path / "run/comparison.md").read_text()
    for row in result["comparison"]:
        runs = [run for run in result["runs"] if run["name"] == row["name"]]
        assert row["scores"] == [run["test"]["micro_f1"] for run in runs]
        assert row["mean"] == pytest.approx(np.mean(row["scores"]))
        assert len({run["seed"] for run in runs}) == 2
        assert f"| {row['name']} | {' | '.join(f'{score:.4f}' for score in row['scores'])} |" in table
    best = max(result["runs"], key=lambda run: run["dev"]["micro_f1"])
    assert result["test"] == best["test"]
    assert (tmp_path / "run/plots/comparison.png").exists()
    again = ner.train(
        settings(data, tmp_path / "run", "--compare", "--repeats", "2", "--train.epochs", "2", "--resume")
    )
    assert again["runs"] == result["runs"]


class StopsAt37(Run):
    """A run that is asked to stop after step 37, in the middle of an epoch."""

    asked = 0

    def pausing(self):
        return self.asked >= 37

    def stop_if_asked(self):
        if self.pausing():
            raise Stopped("for a test")

    def write(self, stage, step, **values):
        self.asked = step
        super().write(stage, step, **values)


def test_a_resumed_run_ends_with_the_same_bits(data, tmp_path):
    options = ("--schedule", "plateau", "--train.plateau-patience", "1", "--train.plateau-min-delta", "1")
    own = settings(data, tmp_path / "run", *options, "--train.fgm", "0.1", "--train.ema-decay", "0.9")
    inputs = read_inputs(own)
    whole = train_tagger(inputs, own)
    assert whole.report["steps"] == 60
    (tmp_path / "run").mkdir()
    with StopsAt37(tmp_path / "run", log_every=1) as run, pytest.raises(Stopped):
        train_tagger(inputs, own, run)
    with Run(tmp_path / "run") as run:
        assert [evaluation["step"] for evaluation in run.position("train")["evaluations"]] == [10, 20, 30]
        resumed = train_tagger(inputs, own, run)
    for before, after in zip(np_leaves(whole.params), np_leaves(resumed.params), strict=True):
        np.testing.assert_array_equal(before, after)
    assert resumed.report["evaluations"] == whole.report["evaluations"]


def np_leaves(tree):
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_the_plateau_lowers_the_rates_that_are_applied(data, tmp_path):
    options = ("--schedule", "plateau", "--train.plateau-patience", "1", "--train.plateau-min-delta", "1")
    own = settings(data, tmp_path / "run", *options, "--train.plateau-min-rate", "0.0005", "--log-every", "10")
    (tmp_path / "run").mkdir()
    with Run(tmp_path / "run", log_every=10) as run:
        train_tagger(read_inputs(own), own, run)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    rates = [line["lr/head"] for line in lines if "lr/head" in line]
    # no evaluation but the first is an improvement of 1
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.0005, 0.0005, 0.0005], rel=1e-5)


def test_an_encoder_s_model_saves_all_that_it_needs(data, tiny_checkpoint, tmp_path):
    options = ("--train.epochs", "1", "--train.head-rate", "0.01", "--train.fgm", "0.1", "--max-length", "20")
    own = settings(data, tmp_path / "run", "--encoder", str(tiny_checkpoint), *options)
    ner.train(own)
    model = jaxft.load(tmp_path / "run/model")
    sentences = [["the", "film", "was", "good-bad"], ["one"]]
    before = model.tag(sentences)
    (tmp_path / "run/model").rename(tmp_path / "elsewhere")
    assert jaxft.load(tmp_path / "elsewhere").tag(sentences) == before
    assert [len(tags) for tags in before] == [4, 1]
    rates = ner_plan(own, True, 10)[0].rates
    assert rates == {"pooler": None, "encoder": 0.03, "head": 0.01}


OPTIONS = [["--model.head", "softmax"], ["--model.lstm-size", "0"], ["--scheme", "BIOES"], ["--train.ema-decay", "0.8"]]


@pytest.mark.parametrize("option", OPTIONS)
def test_other_models_train_too(data, tmp_path, option):
    result = ner.train(settings(data, tmp_path / "run", *option))
    assert result["test"]["micro_f1"] > 0.9
    assert len(jaxft.load(tmp_path / "run").tag([["ada", "byron"]])[0]) == 2


def test_without_a_dev_file_some_of_train_is_held_out(data, tmp_path):
    Path(f"{data}.dev").unlink()
    inputs = read_inputs(settings(data, tmp_path / "run", "--dev-fraction", "0.25"))
    assert [len(inputs.sentences[part]) for part in ("train", "dev", "test")] == [60, 20, 24]
    same = read_inputs(settings(data, tmp_path / "run", "--dev-fraction", "0.25"))
    assert same.sentences == inputs.sentences


def test_files_by_prefix_by_folder_and_by_name(data, tmp_path):
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder/train.txt", 5, 0, "\t")
    write(tmp_path / "folder/test.conll", 5, 0)
    found = find_files(replace(parse(["--data", "x"]), data=str(tmp_path / "folder")))
    assert {part: file.name for part, file in found.items()} == {"train": "train.txt", "test": "test.conll"}
    found = find_files(replace(parse(["--data", "x"]), data=f"{data}.train", dev=Path(f"{data}.dev")))
    assert {part: file.name for part, file in found.items()} == {"train": "small.train", "dev": "small.dev"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a O\nb B-PER\nc\n", r"line 3: 1 columns where the line before has 2"),
        ("a O\nb Q-PER\n", r"line 2: the tag 'Q-PER' is neither O nor"),
        ("\n\n", r"holds no sentences"),
        ("", r"is empty"),
        ("a O\n\nb O\n", r"marks no entity: name the column"),
        ("a\n\nb\n", r"line 1: no column -1 of tags"),
        ("a O\n\tO\n", r"line 2: no token before the tag"),
    ],
)
def test_bad_files_are_refused_and_nothing_is_left(tmp_path, content, message):
    (tmp_path / "bad.train").write_text(content)
    with pytest.raises(InputError, match=message):
        ner.train(settings(str(tmp_path / "bad"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "nowhere"], "nowhere is no file, and there is no nowhere.train"),
        (["--train.peak-rate", "1e-9"], "--train.min-rate 3e-06 is above --train.peak-rate"),
        (["--compare", "--train.fgm", "0.5"], "leave out --train.fgm"),
        (["--compare", "--schedule", "cosine"], "leave out --schedule"),
        (["--model.dropout", "1"], "--model.dropout 1.0 is out of its range"),
        (["--encoder", "no/such/model"], "--encoder no/such/model is no folder"),
    ],
)
def test_bad_flags_are_refused(data, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        ner.train(parse(["--data", data, "--out", str(tmp_path / "run"), *flags]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ('{"": {"ab": [[0, 1]]}}', "the tag 'B-'"),
        ('{"\\ud800": {"ab": [[0, 1]]}}', "half a surrogate pair"),
        ('{"X": {"ab": [[0, 1]]}, "Y": {"b": [[1, 1]]}}', "overlaps another entity"),
        ('{"X": {"ab": [[1, 2]]}}', "from 1 to 2 stands 'bc' and not 'ab'"),
    ],
)
def test_bad_labels_in_json_are_refused_by_line(tmp_path, label, message):
    good = '{"text": "abc", "label": {"X": {"ab": [[0, 1]]}}}'
    (tmp_path / "bad.train.json").write_text(f'{good}\n{{"text": "abc", "label": {label}}}\n')
    with pytest.raises(InputError, match=rf"bad\.train\.json, line 2.*{message}"):
        read_inputs(settings(str(tmp_path / "bad"), tmp_path / "run"))
    (tmp_path / "bad.train.json").write_text(f'{good}\n{{"text": "abc"}}\n')
    with pytest.raises(InputError, match=r"line 2: no object with a text and its labels .there is no 'label'"):
        read_inputs(settings(str(tmp_path / "bad"), tmp_path / "run"))


def test_white_space_can_be_a_token(tmp_path):
    (tmp_path / "wide.train").write_text("\u3000 O\na B-X\n\nb\u00a0c O\na B-X\n")
    inputs = read_inputs(settings(str(tmp_path / "wide"), tmp_path / "run", "--dev-fraction", "0.5"))
    tokens = {sentence.tokens for part in inputs.sentences.values() for sentence in part}
    assert tokens == {("\u3000", "a"), ("b\u00a0c", "a")}


def test_white_space_in_json_is_no_token(tmp_path):
    line = '{"text": " Ada L", "label": {"X": {"Ada L": [[1, 5]]}}}\n'
    (tmp_path / "names.train.json").write_text(3 * line)
    inputs = read_inputs(settings(str(tmp_path / "names"), tmp_path / "run"))
    assert inputs.sentences["train"][0] == Sentence(tuple("AdaL"), ("B-X", "I-X", "I-X", "I-X"))


def test_orphans_are_told(data, tmp_path, capsys):
    Path(f"{data}.dev").write_text("so O\nada I-PER\n\nin O\nrome B-LOC\n")
    ner.main(["--data", data, "--out", str(tmp_path / "run"), *QUICK, "--train.epochs", "1"])
    assert "begin with I or E, which were taken as they are: 1 of 2 in dev" in capsys.readouterr().out


class Counting(TaggerFns):
    """Counts how often each function is traced, which is how often it is compiled."""

    def loss(self, params, carry, batch, key):
        TRACED["loss", key is None, batch["tokens"].shape] += 1
        return super().loss(params, carry, batch, key)

    def decode(self, params, batch):
        TRACED["decode", True, batch["tokens"].shape] += 1
        return super().decode(params, batch)


TRACED: Counter[tuple[str, bool, tuple[int, ...]]] = Counter()


def test_each_of_few_shapes_is_compiled_once(tmp_path):
    write(tmp_path / "many.train", 1200, 0)
    own = settings(str(tmp_path / "many"), tmp_path / "run", "--train.epochs", "2")
    inputs = read_inputs(own)
    counting = replace(inputs, fns=Counting(inputs.fns.config))
    TRACED.clear()
    result = train_tagger(counting, own)
    assert {kind for kind, _, _ in TRACED} == {"loss", "decode"}
    assert 1 < len([kind for kind, evaluating, _ in TRACED if not evaluating]) <= 4
    assert set(TRACED.values()) == {1}
    TRACED.clear()
    model = as_model(counting, own, result.params)
    for _ in range(3):
        model.entities([" ".join(["ada"] * words) for words in (1, 3, 17, 20, 33)])
    assert TRACED == {("decode", True, (8, 64)): 1}
    model.entities(["ada"])
    assert set(TRACED.values()) == {1}


def test_a_model_of_before_there_were_bigrams_is_read(data, tmp_path):
    ner.train(settings(data, tmp_path / "run", "--model.bigrams", "0", "--train.epochs", "1"))
    path = tmp_path / "run/model/model.json"
    description = read_json(path)
    assert description.pop("bigrams") == 0
    path.write_text(json.dumps(description))
    assert jaxft.load(tmp_path / "run").tag([["ada"]])


def test_a_damaged_model_is_refused(finished):
    (finished / "model/vocabulary.json").write_text('{"tokens": ["xxunk", "xxpad", "xxbos"]}')
    with pytest.raises(InputError, match="does not fit the model"):
        jaxft.load(finished)


@pytest.mark.realdata
def test_real_sentences_are_read_and_learnt(real_data, tmp_path):
    own = parse(["--data", str(real_data / "ner/time"), "--out", str(tmp_path / "run"), "--train.epochs", "2"])
    result = ner.train(own)
    assert result["data"]["sizes"] == {"train": 1530, "dev": 170, "test": 300}
    assert result["test"]["n"] == 441
    assert result["test"]["micro_f1"] > 0.5
