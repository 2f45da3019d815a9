"""A job gives the same result on any number of devices, with dropout on, and takes its gradients together once a step.

The devices are threads of one CPU.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxft.training.metrics_log import read_metrics
from tests.devices.small_jobs import LARGE, SMALL, assert_close, differences, flags_of
from tests.devices.virtual import command, result_of

MANY_DEV = "--classifier.dev-fraction 0.1 --classifier.eval-batch-size 256".split()  # noqa: SIM905
"""dev texts, as many in a batch of each of four devices as are evaluated with one in each column"""


def assert_equal_on(counts: list[int], job: str, flags: list[str], folder: Path) -> None:
    summaries = result_of("jobs", str(folder), ",".join(map(str, counts)), job, *flags, devices=max(counts))
    for count in counts:
        trained = [stage for stage in summaries[str(count)] if "devices" in stage]
        assert trained
        assert {stage["devices"] for stage in trained} == {count}
        assert_close(folder / "1", folder / str(count))
        one, many = (read_metrics(folder / str(n) / "metrics.jsonl") for n in (1, count))
        assert {line["devices"] for line in many if "split" not in line} == {count}
        np.testing.assert_allclose([line["loss"] for line in one], [line["loss"] for line in many], rtol=1e-4)


@pytest.mark.parametrize(
    ("job", "more"),
    [
        pytest.param(
            "ulmfit", ["--class-weights", '{"pos": 3}', "--classifier.plan", "full", *MANY_DEV], marks=pytest.mark.slow
        ),
        pytest.param(
            "finetune", ["--train.accumulation", "2", "--train.peak-rate", "0.001"], marks=pytest.mark.exhaustive
        ),
    ],
)
def test_a_job_gives_the_same_model_on_four_devices(job, more, inputs, tmp_path):
    assert_equal_on([1, 4], job, [*flags_of(job, inputs, tmp_path, SMALL), *more], tmp_path / "runs")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("job", "more"),
    [
        ("ulmfit", ["--direction", "both", "--lm.bptt", "10"]),  # so that the few texts fill a row for each device
        ("pretrain", ["--direction", "both"]),
        ("pretrain", ["--lm.average", "ema"]),
        ("finetune", ["--folds", "3", "--train.ema-decay", "0.9"]),
        ("finetune", ["--train.unfreeze", "gradual"]),
        ("ner", ["--train.fgm", "0.5", "--model.bigrams", "50"]),
        ("ner", ["--train.ema-decay", "0.9", "--schedule", "plateau"]),
    ],
)
def test_a_job_gives_the_same_model_on_any_number_of_devices(job, more, inputs, tmp_path):
    assert_equal_on([1, 2, 4, 8], job, [*flags_of(job, inputs, tmp_path, SMALL), *more], tmp_path / "runs")


@pytest.mark.slow
def test_a_checkpoint_of_four_devices_resumes_on_any_number(inputs, tmp_path):
    def run(names: str) -> None:
        result_of("jobs", str(tmp_path), names, "pretrain", *flags, devices=4)

    flags = flags_of("pretrain", inputs, tmp_path, SMALL)
    run("4:whole,4:stopped=5")
    assert not list((tmp_path / "4:stopped").rglob("model.safetensors"))
    for name in ("1:resumed", "2:resumed", "4:resumed"):
        shutil.copytree(tmp_path / "4:stopped", tmp_path / name)
    run("1:resumed,2:resumed,4:resumed")
    assert not differences(tmp_path / "4:whole", tmp_path / "4:resumed").any()
    for name in ("1:resumed", "2:resumed"):
        assert_close(tmp_path / "4:whole", tmp_path / name)


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(["encoders", "taggers"], marks=pytest.mark.slow),
        pytest.param(["language_models", "classifiers"], marks=pytest.mark.exhaustive),
    ],
)
def test_loss_and_gradients_do_not_depend_on_the_number_of_devices(cases):
    differences = result_of("gradients", *cases, devices=4)
    assert len(differences) == 2 * len(cases)
    assert max(differences.values()) < 1e-6


def test_a_stage_does_not_depend_on_the_number_of_devices():
    results = result_of("stage", devices=4)
    assert results["devices"] == {"1": 1, "2": 2, "4": 4, "4 again": 4, "4 with 6 rows": 3}
    assert results["difference"]["4 again"] == 0
    assert max(results["difference"].values()) < 1e-6
    assert results["doubled"][:5] == [0, 2, 4, 6, 8]  # of five rows on four devices, and copies of the last one


def test_a_batch_that_the_devices_cannot_share_is_refused(tmp_path):
    ended = command("ner", "--data", "small", "--out", str(tmp_path / "run"), "--train.batch-size", "18", devices=4)
    assert ended.stderr == (
        "jaxft: --train.batch-size 18 cannot be shared evenly by 4 devices: give 20, or fewer --devices\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_dry_run_says_how_many_rows_a_device_computes(inputs, tmp_path):
    flags = ["--out", str(tmp_path / "run"), "--dry-run"]
    ended = command("ner", *inputs["ner"], *flags, "--devices", "2", devices=4)
    assert "train: 8 of 16 rows of each batch on each of 2 of 2 devices" in ended.stdout


@pytest.mark.exhaustive
def test_few_texts_are_shared_by_fewer_devices(inputs, tmp_path):
    run = tmp_path / "run"
    few = "--limit-labels 22 --train.batch-size 32 --dev-fraction 0.2 --long-texts cut".split()  # noqa: SIM905
    flags = ["--out", str(run), *few]
    ended = command("finetune", *flags_of("finetune", inputs, tmp_path, SMALL), *flags, devices=4)
    assert (
        "train: 6 of 18 rows of each batch on each of 3 of 4 devices, because more cannot share it evenly"
        in ended.stderr
    )
    stages = json.loads((run / "summary.json").read_text())["stages"]
    assert [(stage["devices"], stage["rows_per_device"]) for stage in stages if "devices" in stage] == [(3, 6)]


@pytest.mark.parametrize(
    ("job", "more"),
    [
        pytest.param("ulmfit", [], marks=pytest.mark.slow),
        pytest.param("pretrain", ["--direction", "both"], marks=pytest.mark.exhaustive),
        pytest.param("finetune", [], marks=pytest.mark.exhaustive),
        pytest.param("finetune", ["--train.accumulation", "2"], marks=pytest.mark.exhaustive),
        pytest.param("ner", [], marks=pytest.mark.exhaustive),
        # whose perturbation sums the gradient of the embedding first, which is small here
        pytest.param("ner", ["--train.fgm", "0.5", "--model.bigrams", "0"], marks=pytest.mark.exhaustive),
    ],
)
def test_a_step_sums_the_gradients_once_and_in_no_loop(job, more, inputs, tmp_path):
    flags = [*flags_of(job, inputs, tmp_path, LARGE), *more]
    for found in result_of("collectives", job, *flags, devices=2, optimized=True).values():
        assert {one["kind"] for one in found} == {"all-reduce"}
        assert [one["bytes"] > 1e6 for one in found].count(True) == 1
        assert not any(one["in_loop"] for one in found)
