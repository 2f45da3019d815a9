"""Models of both directions, and of the backward one alone, from the language model to the classifier."""

import csv
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxft
from jaxft.base.files import read_json
from jaxft.base.tensor_files import load_params
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.text_classifier import TextClassifier

Job = Callable[..., Path]


@pytest.mark.slow
def test_both_directions_are_trained_averaged_and_handed_on(job: Job, table: Path):
    sizes = ["--model.embedding-size", "6", "--model.hidden-size", "9", "--model.num-layers", "1"]
    run = job("run", "--direction", "both", *sizes)
    summary = read_json(run / "summary.json")
    model = jaxft.load(run)
    assert isinstance(model, Ensemble)
    with open(table, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    forward, backward = (model.models[name].scores(texts) for name in ("forward", "backward"))
    assert not np.allclose(forward, backward)
    np.testing.assert_allclose(model.scores(texts), (forward + backward) / 2, rtol=1e-6)
    for name, probabilities in (("test_forward", forward), ("test_backward", backward), ("test", forward + backward)):
        right = [model.classes[i] == label for i, label in zip(probabilities.argmax(axis=1), labels, strict=True)]
        assert summary[name]["accuracy"] == pytest.approx(np.mean(right))
    assert [row["name"] for row in summary["stages"]][1:3] == ["language model", "language model backward"]
    again = job("again", "--direction", "backward", "--pretrained", str(run), "--lm.peak-rate", "1e-12")
    summary = read_json(again / "summary.json")
    assert summary["language_model_backward"]["new_words"] == 0
    stored = [load_params(r / "language_model_backward/model.safetensors")["decoder_bias"] for r in (run, again)]
    np.testing.assert_allclose(stored[0], stored[1], atol=1e-6)
    pair = job("pair", "--direction", "both", "--pretrained", str(run), "--lm.peak-rate", "1e-12")
    for name in ("language_model", "language_model_backward"):
        assert read_json(pair / "summary.json")[name]["new_words"] == 0
        stored = [load_params(r / name / "model.safetensors")["decoder_bias"] for r in (run, pair)]
        np.testing.assert_allclose(stored[0], stored[1], atol=1e-6)


@pytest.mark.slow
def test_a_backward_model_reads_from_the_last_word(job: Job):
    run = job("run", "--direction", "backward", "--model.num-layers", "1", "--lm.epochs", "0")
    model = jaxft.load(run)
    assert isinstance(model, TextClassifier)
    tokens = model.vocabulary.encode(["xxbos", "a", "b", "e"])[::-1]
    batch = {"tokens": jnp.array(tokens)[None, :], "lengths": jnp.array([4])}
    logits = model.logits(model.params, model.statistics, None, batch)
    wanted = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(model.scores(["a b e"]), wanted, rtol=1e-5)
