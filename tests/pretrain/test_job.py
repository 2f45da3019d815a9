"""A language model from plain text, alone and as what ULMFiT starts from."""

import json
import signal
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxft
from jaxft.base.files import read_json
from jaxft.base.tensor_files import load_params, save_params
from jaxft.errors import InputError, Stopped
from jaxft.inference.language_model import TextLanguageModel
from jaxft.language_model.stage import LANGUAGE_MODEL, stage_name
from jaxft.pretrain.__main__ import main
from jaxft.training import run as run_module
from jaxft.training.metrics_log import read_metrics
from jaxft.training.run import Run

SMALL = """
    --model.embedding-size 8 --model.hidden-size 12 --model.num-layers 2 --text.min-count 1 --log-every 1
    --lm.epochs 2 --lm.batch-size 2 --lm.bptt 7 --lm.valid-fraction 0.2
""".split()  # noqa: SIM905 (reads like a command line)
WORDS = "the film was and a story with some scenes that lovely fine great warm awful dull".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("books")
    for i in range(6):
        (folder / f"{i}.txt").write_text(" ".join(rng.choice(WORDS, 100)) + ".\n")
    return folder


@pytest.fixture(scope="module")
def finished(book, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    main(["--text", str(book), "--out", str(out), "--direction", "both", *SMALL])
    return out


def stored_models(run: Path) -> list[bytes]:
    return [(run / name / "model.safetensors").read_bytes() for name in ("language_model", "language_model_backward")]


def test_a_run_leaves_everything_behind(finished):
    summary = read_json(finished / "summary.json")
    assert summary["data"]["sizes"]["held-out tokens"] == 102
    for name in ("language_model", "language_model_backward"):
        assert summary[name]["perplexity"] == pytest.approx(np.exp(summary[name]["valid_loss"]))
        assert isinstance(jaxft.load(finished / name), TextLanguageModel)
        assert (finished / f"plots/learning_rates_{name}.png").exists()
    held_out = [line for line in read_metrics(finished / "metrics.jsonl") if line.get("split") == "held-out"]
    assert [line["epoch"] for line in held_out] == [1, 2]
    for name, kind in (("language_model", "forward"), ("language_model_backward", "backward")):
        assert held_out[-1][f"loss_{kind}"] == pytest.approx(summary[name]["valid_loss"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_trackers_get_a_text_of_each_language_model_once(book, tmp_path):
    pytest.importorskip("tensorboardX")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    flags = ["--text", str(book), "--out", str(tmp_path / "run"), "--direction", "both", "--track", "tensorboard"]
    for resume in ([], ["--resume"]):
        main([*flags, *resume, *SMALL])
    events = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    steps = {line["step"] for line in read_metrics(tmp_path / "run/metrics.jsonl")}
    for name in ("language_model", "language_model_backward"):
        (sample,) = events.Tensors(f"{name}/sample/text_summary")
        assert sample.step == max(steps)
        assert sample.tensor_proto.string_val[0].decode() == jaxft.load(tmp_path / "run" / name).generate("")


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_each_of_two_in_one_program_ends_as_it_does_alone(finished, book, tmp_path, direction):
    main(["--text", str(book), "--out", str(tmp_path / "run"), "--direction", direction, *SMALL])
    name = stage_name(LANGUAGE_MODEL, direction)
    alone, both = (load_params(folder / name / "model.safetensors") for folder in (tmp_path / "run", finished))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5), alone, both)
    alone, both = (read_json(folder / "summary.json") for folder in (tmp_path / "run", finished))
    assert alone[name]["valid_loss"] == pytest.approx(both[name]["valid_loss"], rel=1e-5)
    assert alone["stages"][1]["tokens"] == both["stages"][1]["tokens"]


@pytest.mark.slow
def test_a_crash_while_two_results_are_stored_loses_neither(finished, book, tmp_path, monkeypatch):
    flags = ["--text", str(book), "--out", str(tmp_path / "run"), "--direction", "both", *SMALL]
    calls = iter(range(10))

    def fail(path, tree, meta):
        if path.name.startswith("stage-") and next(calls) == 1:
            raise KeyboardInterrupt
        save_params(path, tree, meta)

    monkeypatch.setattr(run_module, "save_params", fail)
    with pytest.raises(KeyboardInterrupt):
        main(flags)
    monkeypatch.undo()
    main([*flags, "--resume"])
    assert stored_models(tmp_path / "run") == stored_models(finished)
    logs = [read_metrics(folder / "metrics.jsonl") for folder in (finished, tmp_path / "run")]
    assert len(logs[0]) == len(logs[1])


@pytest.mark.slow
def test_averages_that_choose_when_to_begin_are_trained_in_turn(book, tmp_path):
    flags = ["--preset", "awd-lstm-lm", "--direction", "both", *SMALL, "--lm.no-vary-bptt"]
    main(["--text", str(book), "--out", str(tmp_path / "run"), *flags])
    stages = [line["stage"] for line in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert sorted(set(stages)) == ["language_model", "language_model_backward"]


@pytest.mark.slow
def test_stopped_and_resumed_ends_with_the_same_bits(finished, book, tmp_path, monkeypatch):
    pausing = Run.pausing
    calls = iter(range(1000))

    def stop(self):
        if next(calls) == 30:  # within the first epoch
            signal.raise_signal(signal.SIGTERM)
        return pausing(self)

    flags = ["--text", str(book), "--out", str(tmp_path / "run"), "--direction", "both", *SMALL]
    monkeypatch.setattr(Run, "pausing", stop)
    with pytest.raises(Stopped):
        main(flags)
    monkeypatch.undo()
    main([*flags, "--resume"])
    assert stored_models(tmp_path / "run") == stored_models(finished)


@pytest.mark.slow
def test_wikitext_with_the_published_recipe_made_small(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("train", "valid", "test"):
        lines = (" ".join(rng.choice(WORDS, 12)) for _ in range(24 if name == "train" else 8))
        (tmp_path / f"{name}.txt").write_text("".join(f" {line} \n" for line in lines))
    flags = ["--data", str(tmp_path), "--preset", "awd-lstm-lm", "--out", str(tmp_path / "run"), *SMALL]
    main([*flags, "--lm.peak-rate", "1", "--lm.patience", "1", "--lm.epochs", "3"])
    summary = read_json(tmp_path / "run/summary.json")
    assert summary["language_model"]["valid_tokens"] == 8 * 13
    assert summary["language_model"]["test_perplexity"] < 2 * len(WORDS)
    steps = [line for line in read_metrics(tmp_path / "run/metrics.jsonl") if "split" not in line]
    rates = {round(line["lr/embedding"] * 7) for line in steps}  # the window's length
    assert len(rates) > 1
    model = jaxft.load(tmp_path / "run")
    assert isinstance(model, TextLanguageModel)
    assert model.generate("the film", words=3).startswith("the film ")


def test_dry_run_trains_nothing(book, tmp_path, capsys):
    main(["--text", str(book), "--out", str(tmp_path / "run"), "--dry-run", *SMALL])
    printed = capsys.readouterr().out
    assert json.loads(printed[: printed.index("\n}") + 2])["lm"]["bptt"] == 7
    assert "language_model: about" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--text and --data are both missing: give one"),
        (["--text", "a.txt", "--data", "wikitext-2"], "--text and --data are both given: leave one"),
        (["--text", "missing.txt"], "missing.txt does not exist"),
        (["--data", "."], "has no train.txt"),
        (["--text", "a.txt", "--lm.epochs", "0"], "leaves nothing to train"),
        (["--text", "a.txt", "--lm.bptt", "0"], "--lm.bptt 0 is out of its range"),
    ],
)
def test_bad_flags_are_refused_in_one_sentence(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        main([*arguments, "--out", "run"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("files", "message"), [("a", "too little text to hold some out"), ("ab", "tokens, too few for")]
)
def test_too_little_text_is_refused(tmp_path, files, message):
    for name in files:
        (tmp_path / f"{name}.txt").write_text("few words")
    with pytest.raises(InputError, match=message):
        main(["--text", *(str(tmp_path / f"{name}.txt") for name in files), "--out", str(tmp_path / "run"), *SMALL])
    assert not (tmp_path / "run").exists()
