"""The training of one tagger: resumption, rates on a plateau, and how few programs are compiled."""

import json
from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxft.errors import Stopped
from jaxft.models.encoders import open_checkpoint
from jaxft.models.tagger import TaggerFns
from jaxft.ner.inputs import read_inputs
from jaxft.ner.stages import as_model, ner_plan, train_tagger
from jaxft.training.run import Run
from tests.ner.toy import settings, write

PLATEAU = ("--schedule", "plateau", "--train.plateau-patience", "1", "--train.plateau-min-delta", "1")


class StoppedAfter37(Run):
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


@pytest.mark.slow
def test_few_sentences_are_read_until_there_are_enough_steps(data, tmp_path):
    flags = ("--train.epochs", "3", "--train.batch-size", "32", "--train.min-steps", "59")
    chosen = settings(data, tmp_path / "run", *flags)
    report = train_tagger(read_inputs(chosen), chosen).report
    assert [evaluation["step"] for evaluation in report["evaluations"]] == [25, 50, 60]  # of 30 epochs


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(data, tmp_path):
    plateau = settings(data, tmp_path, *PLATEAU, "--train.fgm", "0.1", "--train.ema-decay", "0.9")
    inputs = read_inputs(plateau)
    uninterrupted = train_tagger(inputs, plateau)
    assert uninterrupted.report["steps"] == 60
    with StoppedAfter37(tmp_path, log_every=1) as run, pytest.raises(Stopped):
        train_tagger(inputs, plateau, run)
    with Run(tmp_path) as run:
        assert [evaluation["step"] for evaluation in run.position("train")["evaluations"]] == [10, 20, 30]
        resumed = train_tagger(inputs, plateau, run)
    jax.tree.map(np.testing.assert_array_equal, uninterrupted.params, resumed.params)
    assert resumed.report["evaluations"] == uninterrupted.report["evaluations"]


@pytest.mark.slow
def test_the_plateau_lowers_the_rates_that_are_applied(data, tmp_path):
    plateau = settings(data, tmp_path, *PLATEAU, "--train.plateau-min-rate", "0.0005")
    with Run(tmp_path, log_every=10) as run:
        train_tagger(read_inputs(plateau), plateau, run)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["lr/head"] for line in lines if "lr/head" in line]
    # no evaluation but the first is an improvement of 1
    assert rates == pytest.approx([0.03, 0.03, 0.003, 0.0005, 0.0005, 0.0005], rel=1e-5)


def test_an_encoder_trains_at_a_rate_below_that_of_the_head_and_its_pooler_is_frozen(data, tiny_checkpoint, tmp_path):
    rates = settings(data, tmp_path, "--encoder", str(tiny_checkpoint), "--train.head-rate", "0.01")
    plan = ner_plan(rates, open_checkpoint(tiny_checkpoint), 10)
    assert plan[0].rates == {"pooler": None, "encoder": 0.03, "head": 0.01}


class Counting(TaggerFns):
    """Counts how often each function is traced, which is how often it is compiled."""

    def loss(self, params, carry, batch, key):
        TRACED["loss", key is None, batch["tokens"].shape] += 1
        return super().loss(params, carry, batch, key)

    def decode(self, params, batch):
        TRACED["decode", True, batch["tokens"].shape] += 1
        return super().decode(params, batch)

    def decode_scored(self, params, batch):
        TRACED["decode_scored", True, batch["tokens"].shape] += 1
        return super().decode_scored(params, batch)


TRACED: Counter[tuple[str, bool, tuple[int, ...]]] = Counter()


@pytest.mark.slow
def test_each_of_few_shapes_is_compiled_once(tmp_path):
    write(tmp_path / "many.train", 1200, 0)
    many = settings(str(tmp_path / "many"), tmp_path / "run", "--train.epochs", "2")
    inputs = read_inputs(many)
    counting = replace(inputs, fns=Counting(inputs.fns.config))
    TRACED.clear()
    result = train_tagger(counting, many)
    assert {kind for kind, _, _ in TRACED} == {"loss", "decode"}
    assert 1 < len([kind for kind, evaluating, _ in TRACED if not evaluating]) <= 4
    assert set(TRACED.values()) == {1}
    TRACED.clear()
    model = as_model(counting, many, result.params)
    for _ in range(3):
        model.entities([" ".join(["ada"] * words) for words in (1, 3, 17, 20, 33)])
    assert TRACED == {("decode_scored", True, (8, 64)): 1}
    model.entities(["ada"])
    assert set(TRACED.values()) == {1}
