"""What every job does around its training: a folder with everything in it, a preview, and nothing after a refusal."""

import os
from dataclasses import dataclass, replace

import pytest

from jaxft.base.files import read_json, write_text
from jaxft.errors import InputError
from jaxft.optim.unfreezing import gradual_unfreezing
from jaxft.training.comparison import comparison_row
from jaxft.training.job import Job, Prepared
from jaxft.training.scores import classification_scores
from jaxft.training.settings import RunSettings
from jaxft.training.summary import stage_row
from tests.training.test_stage import toy_stage

PLAN = gradual_unfreezing(["body", "head"], 0.1)


@dataclass(frozen=True, kw_only=True)
class Settings(RunSettings):
    """Settings of the toy job."""

    data: str = "toy"


def prepare(settings, data=None):
    if settings.data != "toy":
        raise InputError(f"there is no file {settings.data}: check --data")
    return Prepared(
        settings=settings,
        inputs=None,
        plans={"classifier": (PLAN, 4)},
        fingerprints={"corpus": "c1"},
        data={"name": "toy", "classes": ["neg", "pos"]},
        tokens=100,
        lines=["4 texts of 2 classes"],
        files={"vocabulary.txt": lambda path: write_text(path, "the\n")},
        estimate=lambda: {"classifier": 30.0, "text": 100.0},
    )


def train(prepared, run):
    run.write("classifier", 0, loss=1.0)
    return {
        "test": classification_scores([0, 1], [0, 1], prepared.data["classes"]),
        "stages": [stage_row("classifier", 2.0, 50)],
    }


@pytest.fixture(autouse=True)
def process_as_it_is(monkeypatch):
    """Leaves the allocator and the caches of the tests' process alone."""
    monkeypatch.setattr("jaxft.training.job.set_up", lambda: None)


def test_a_run_leaves_its_summary_its_log_its_settings_and_its_pictures(tmp_path, capsys):
    Job("ulmfit", prepare, train).run_command(Settings(out=tmp_path / "run", seed=3))
    files = {str(path.relative_to(tmp_path / "run")) for path in (tmp_path / "run").rglob("*") if path.is_file()}
    pictures = {f"plots/{name}.png" for name in ("training", "learning_rates_classifier", "confusion")}
    assert files == {"summary.json", "config.json", "metrics.jsonl", "vocabulary.txt", *pictures}
    summary = read_json(tmp_path / "run/summary.json")
    assert [row["name"] for row in summary["stages"]] == ["text", "classifier"]
    assert summary["stages"][0]["tokens"] == 100
    assert summary["config"] == read_json(tmp_path / "run/config.json")
    assert summary["config"] == {"precision": "f32", "seed": 3, "log_every": 20, "data": "toy", "corpus": "c1"}
    assert {"data", "test", "peak_memory_mb", "environment"} <= summary.keys()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 texts of 2 classes"
    assert lines[-1] == f"python -m jaxft.predict {tmp_path / 'run'} --text '...'"


def test_a_comparison_is_printed_and_not_drawn_as_one_training(tmp_path, capsys):
    def compare(prepared, run):
        rows = [comparison_row("slow", "rmse", [0.5, 0.7], [60, 60])]
        return {"comparison": rows, "stages": []}

    Job("ulmfit", prepare, compare, repeat="fold").run_command(Settings(out=tmp_path / "run"))
    assert "| rmse | fold 1 | fold 2 | mean | sd | time of a fold |" in capsys.readouterr().out
    assert os.listdir(tmp_path / "run/plots") == ["learning_rates_classifier.png"]


def test_a_resumed_run_writes_its_files_anew_and_refuses_other_settings(tmp_path):
    job = Job("ulmfit", prepare, train)
    job.run(Settings(out=tmp_path / "run"))
    written = (tmp_path / "run/vocabulary.txt").read_text()
    (tmp_path / "run/vocabulary.txt").write_text("damaged")
    job.run(Settings(out=tmp_path / "run", resume=True))
    assert (tmp_path / "run/vocabulary.txt").read_text() == written
    with pytest.raises(InputError, match="--seed was 0 and is now 1"):
        job.run(Settings(out=tmp_path / "run", resume=True, seed=1))


def test_what_cannot_be_trained_with_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError, match="there is no file nowhere"):
        Job("ulmfit", prepare, train).run(Settings(out=tmp_path / "run", data="nowhere"))
    assert os.listdir(tmp_path) == []


def test_a_dry_run_prints_settings_data_phases_and_times_and_trains_nothing(tmp_path, capsys):
    Job("ulmfit", prepare, train).run_command(Settings(out=tmp_path / "run", seed=3, dry_run=True))
    text = capsys.readouterr().out
    for part in ('"seed": 3', "4 texts of 2 classes", "classifier: about 30 s", "last 1", "in total about 2 min"):
        assert part in text
    assert text.endswith("nothing was trained\n")
    assert os.listdir(tmp_path) == []


def test_a_dry_run_fails_where_the_first_step_would(tmp_path, capsys):
    def faulty(settings, data=None):
        stage = replace(toy_stage(), plan=gradual_unfreezing(["body", "head", "pooler"], 0.1))
        return replace(prepare(settings, data), stages=lambda: [toy_stage(), stage])

    with pytest.raises(ValueError, match="label no parameter: pooler"):
        Job("ulmfit", faulty, train).run_command(Settings(out=tmp_path / "run", dry_run=True))
    assert not capsys.readouterr().out
