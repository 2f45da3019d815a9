"""The comparison of techniques: its rows, and its table, which a resumed run completes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from jaxft.finetune.job import train
from jaxft.finetune.ladder import ladder_rows
from jaxft.finetune.plan import group_rates
from jaxft.finetune.settings import parse
from tests.finetune.toy import run_job, settings


def test_the_ladder_adds_one_technique_after_another():
    commonlit = parse(["--model", "m", "--data", "d.csv", "--preset", "commonlit", "--ladder"])
    rows = ladder_rows(commonlit.train, commonlit.ladder_rate)
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
    assert rows["+ frequent evaluation"] == replace(commonlit.train, ema_decay=0.0)


@pytest.mark.slow
def test_the_ladder_writes_its_table_and_trains_no_row_twice(tiny_checkpoint, reviews, tmp_path, monkeypatch, capsys):
    flags = ["--ladder", "--folds", "4", "--run-folds", "2", "--limit-labels", "160", "--train.epochs", "1"]
    flags += ["--train.layer-rates", "divisor", "--ladder-rate", "1e-4"]
    out = tmp_path / "run"
    summary = run_job(tiny_checkpoint, reviews, out, *flags)
    table = (out / "comparison.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["basic", "+ layer-wise rates"]
    assert table in capsys.readouterr().out
    for row in summary["comparison"]:
        assert len(row["scores"]) == 2
        assert row["mean"] == pytest.approx(np.mean(row["scores"]))
        assert row["sd"] == pytest.approx(np.std(row["scores"], ddof=1))
    assert (out / "plots/comparison.png").stat().st_size > 5000
    monkeypatch.setattr("jaxft.finetune.job.train_encoder", None)
    again = train(settings(tiny_checkpoint, reviews, "--out", str(out), *flags, "--resume"))
    assert json.loads(json.dumps(again["comparison"])) == summary["comparison"]
    assert (out / "comparison.md").read_text() == table
