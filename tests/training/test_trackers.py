"""Trackers: TensorBoard's own reader reads what a run wrote, a resumed run repeats nothing, others get their calls."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jaxft.errors import InputError
from jaxft.training.job import Job, Prepared
from jaxft.training.predictions import classified_rows
from jaxft.training.run import Run
from jaxft.training.scores import classification_scores
from jaxft.training.settings import RunSettings
from jaxft.training.summary import stage_row
from jaxft.training.trackers import open_trackers


class Recorder:
    """A tracker that keeps what it is given."""

    def __init__(self):
        self.lines, self.closed = [], False

    def write(self, numbers, step):
        self.lines.append((step, numbers))

    def write_texts(self, texts, step):
        raise AssertionError("no stage writes a text")

    def finish(self, scores, texts, figures):
        raise AssertionError("the job calls it, not the run")

    def close(self, failed):
        self.closed = True


def test_a_resumed_run_gives_a_tracker_no_line_twice(tmp_path):
    tracker = Recorder()
    with Run(tmp_path, trackers=[tracker]) as run:
        for step in range(5):
            run.write("stage", step, loss=1.0 / (1 + step))
            if step == 2:
                run.save({"x": np.zeros(1)}, {"stage": "stage", "step": step})
    assert tracker.closed
    with Run(tmp_path, trackers=[tracker]) as run:  # killed after step 4, it goes on from step 2
        for step in range(3, 8):
            run.write("stage", step, loss=1.0 / (1 + step))
    assert tracker.lines == [(step, {"stage/loss": 1.0 / (1 + step)}) for step in range(8)]


def prepare(settings, data=None):
    return Prepared(
        settings=settings,
        inputs=None,
        plans={},
        fingerprints={"corpus": "c1"},
        data={"name": "toy", "classes": ["neg", "pos"]},
        tokens=9,
        lines=["4 texts of 2 classes"],
    )


def train(prepared, run):
    for step in range(3):
        run.write("classifier", step, loss=0.5 - 0.1 * step, **{"lr/head": 0.01})
    run.write("classifier", 2, split="dev", accuracy=0.75)
    run.write_text("language_model", 2, "sample", "a <fine> film")
    return {
        "test": classification_scores([0, 1], [0, 1], ["neg", "pos"]),
        "predictions": classified_rows(["dull", "fine"], np.array([0, 1]), np.eye(2), ["neg", "pos"]),
        "stages": [stage_row("classifier", 2.0, 50)],
    }


@pytest.mark.filterwarnings("default")
def test_tensorboard_reads_rates_losses_scores_texts_the_picture_and_the_settings(tmp_path):
    pytest.importorskip("tensorboardX")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Job("ulmfit", prepare, train).run(RunSettings(out=tmp_path / "run", track=("tensorboard",), seed=3))
    events = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [round(event.value, 6) for event in events.Scalars("classifier/loss")] == [0.5, 0.4, 0.3]
    assert [event.step for event in events.Scalars("classifier/lr/head")] == [0, 1, 2]
    assert [event.value for event in events.Scalars("classifier/dev/accuracy")] == [0.75]
    assert events.Tags()["images"] == ["confusion"]
    assert {"data/text_summary", "errors/text_summary"} <= set(events.Tags()["tensors"])
    (sample,) = events.Tensors("language_model/sample/text_summary")
    assert (sample.step, sample.tensor_proto.string_val[0]) == (2, b"a <fine> film")
    (inner,) = (path for path in (tmp_path / "run/tensorboard").iterdir() if path.is_dir())
    settings = accumulator.EventAccumulator(str(inner)).Reload()
    assert settings.Scalars("accuracy")[0].value == 1.0
    assert "_hparams_/experiment" in settings.summary_metadata


class Library:
    """What is used of wandb and of trackio, whose texts are Markdown."""

    def __init__(self, name):
        self.logged, self.options = [], None
        self.Image = lambda pixels: pixels.shape
        setattr(self, "Html" if name == "wandb" else "Markdown", str)

    def init(self, **options):
        self.options = options
        return SimpleNamespace(log=self.logged.append, define_metric=lambda *_, **__: None, finish=lambda: None)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_go_on_in_the_same_run(name, tmp_path, monkeypatch):
    library = Library(name)
    monkeypatch.setitem(sys.modules, name, library)
    monkeypatch.setattr("jaxft.training.trackers.find_spec", lambda package: package)
    Job("ulmfit", prepare, train).run(RunSettings(out=tmp_path / "run", track=(name,)))
    assert library.logged[0] == {"classifier/loss": 0.5, "classifier/lr/head": 0.01, "classifier/step": 0}
    assert library.logged[3] == {"classifier/dev/accuracy": 0.75, "classifier/step": 2}
    sample = "<pre>a &lt;fine&gt; film</pre>" if name == "wandb" else "a <fine> film"
    assert library.logged[4] == {"language_model/sample": sample, "language_model/step": 2}
    assert library.logged[-1]["test/accuracy"] == 1.0
    assert library.logged[-1]["confusion"][2] == 3
    first = library.options
    open_trackers([name], tmp_path / "run", {"seed": 0})
    assert first is not None
    assert library.options is not None
    assert first["resume"] == "allow"
    assert {key: first.get(key) for key in ("id", "name")} == {key: library.options.get(key) for key in ("id", "name")}


class Client:
    """What is used of the client of MLflow."""

    def __init__(self):
        self.texts = {}
        self.create_run = lambda number, run_name, tags: SimpleNamespace(info=SimpleNamespace(run_id="r"))
        self.get_experiment_by_name = self.search_runs = self.log_param = self.log_metric = lambda *_, **__: None
        self.create_experiment = self.log_figure = self.set_terminated = lambda *_: None

    def log_text(self, run, text, name):
        self.texts[name] = text


def test_mlflow_keeps_texts_as_files(tmp_path, monkeypatch):
    client = Client()
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: client))
    monkeypatch.setattr("jaxft.training.trackers.find_spec", lambda package: package)
    Job("ulmfit", prepare, train).run(RunSettings(out=tmp_path / "run", track=("mlflow",)))
    assert client.texts["language_model/sample.md"] == "a <fine> film"
    assert {"data.md", "errors.md"} <= client.texts.keys()


def test_a_tracker_that_is_not_installed_is_refused_before_there_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxft.training.trackers.find_spec", lambda package: None)
    with pytest.raises(InputError, match=r"--track wandb needs the package wandb: .* 'jaxft\[wandb\]'"):
        Job("ulmfit", prepare, train).run(RunSettings(out=tmp_path / "run", track=("wandb",)))
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_cannot_be_reached_is_refused_in_one_sentence(tmp_path, monkeypatch):
    def refuse(**options):
        raise RuntimeError("no\nkey")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=refuse))
    with pytest.raises(InputError, match=r"--track wandb cannot be opened \(no key\): log in to it, or leave it out"):
        open_trackers(["wandb"], tmp_path, {})


def test_a_tracker_that_fails_ends_no_training(tmp_path, monkeypatch, capsys):
    def fail(numbers):
        raise RuntimeError("no route")

    run = SimpleNamespace(log=fail, define_metric=lambda *_, **__: None, finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: run, Image=lambda pixels: None))
    monkeypatch.setattr("jaxft.training.trackers.find_spec", lambda package: package)
    result = Job("ulmfit", prepare, train).run(RunSettings(out=tmp_path / "run", track=("wandb",)))
    assert result["test"]["accuracy"] == 1.0
    told = capsys.readouterr().err
    assert told == "jaxft: --track wandb takes no more metrics (no route); metrics.jsonl has them all\n"


def test_a_disk_without_room_for_tensorboard_ends_no_training(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboardX")
    from tensorboardX.record_writer import RecordWriter

    def train_on(prepared, run):
        monkeypatch.setattr(RecordWriter, "flush", fail)
        for step in range(100):  # more than a queue holds
            run.write("classifier", step, loss=0.5)
        return train(prepared, run)

    def fail(writer):
        raise OSError(28, "No space left on device")

    result = Job("ulmfit", prepare, train_on).run(RunSettings(out=tmp_path / "run", track=("tensorboard",)))
    assert result["test"]["accuracy"] == 1.0
    told = "jaxft: --track tensorboard takes no more metrics (No space left on device); metrics.jsonl has them all\n"
    assert capsys.readouterr().err == told


def test_no_folder_of_this_machine_is_told(tmp_path, monkeypatch):
    library = Library("wandb")
    monkeypatch.setitem(sys.modules, "wandb", library)
    open_trackers(["wandb"], tmp_path, {"data": "/home/ada/reviews.csv", "train": {"model": "~/bert"}})
    assert library.options is not None
    assert library.options["config"] == {"data": "reviews.csv", "train.model": "bert"}
