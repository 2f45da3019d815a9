"""The classifiers of ULMFiT share their batches among the cores of a CPU, which everything else sees as one device."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxft.base.machine import usable_cores
from tests.devices.small_jobs import SMALL, assert_close, differences, flags_of
from tests.devices.virtual import ROOT, command, environment

pytestmark = pytest.mark.skipif(
    usable_cores() < 2 or bool(find_spec("jax_plugins")), reason="JAX would not have two cores"
)


def python_on_cores(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of Python where nothing says how many devices the CPU has."""
    env = {name: value for name, value in environment(1).items() if name != "JAX_NUM_CPU_DEVICES"}
    return subprocess.run([sys.executable, *arguments], env=env, cwd=ROOT, capture_output=True, text=True)


COUNTS = """
import json
import jax
from jaxft.base.cores import make_devices_of_cores, on_cores
from jaxft.base.sharding import current_mesh, mesh_size
from jaxft.errors import InputError
from jaxft.training.devices import sharing_devices
{before}
make_devices_of_cores()
found = {{}}
for wanted in ("all", 1, 2):
    try:
        with sharing_devices(wanted) as count:
            found[str(wanted)] = [count, mesh_size(current_mesh())]
            for rows in (1, 31, 32, 33):
                with on_cores(rows, {{}}):
                    found[str(wanted)].append(mesh_size(current_mesh()))
    except InputError as error:
        found[str(wanted)] = str(error)
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("before", "one", "two"),
    [
        ("", [1, 1, 1, 1, 2, 1], "--devices 2 is more than there are: give at most 1, or all"),
        ("jax.numpy.ones(3)", [1] * 6, "--devices 2 is more than there are: give at most 1, or all"),
        ("jax.config.update('jax_num_cpu_devices', 3)", [1] * 6, [2] * 6),
    ],
    ids=["cores", "JAX has begun", "the program has chosen"],
)
def test_cores_share_what_they_divide_evenly_and_are_one_device(before, one, two):
    ended = python_on_cores("-c", COUNTS.format(before=before))
    assert ended.returncode == 0, ended.stderr[-4000:]
    found = json.loads(ended.stdout)
    assert found["1"] == one
    assert found["2"] == two
    assert found["all"] == ([3] * 6 if "3" in before and "ones" not in before else one)


def stage_devices(folder: Path) -> list[int]:
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["environment"]["device_count"] == 1
    return [stage["devices"] for stage in summary["stages"] if "devices" in stage]


@pytest.mark.slow
def test_a_model_trained_on_cores_is_that_of_one_device_and_resumes_to_the_bit(inputs, tmp_path):
    one, many, resumed = (tmp_path / name for name in ("one", "many", "resumed"))
    flags = [*flags_of("ulmfit", inputs, tmp_path, SMALL), "--log-every", "1", "--seed", "1"]
    ended = command("ulmfit", *flags, "--out", str(one), devices=1)
    assert ended.returncode == 0, ended.stderr
    ended = python_on_cores("-m", "jaxft.ulmfit", *flags, "--out", str(many))
    assert ended.returncode == 0, ended.stderr
    assert stage_devices(one) == [1, 1]
    assert stage_devices(many) == [1, 2]
    assert_close(one, many)

    stopped = python_on_cores("-c", STOPPED, *flags, "--out", str(resumed))
    assert "stopped by SIGTERM" in stopped.stderr
    ended = python_on_cores("-m", "jaxft.ulmfit", *flags, "--out", str(resumed), "--resume")
    assert ended.returncode == 0, ended.stderr
    assert differences(many, resumed).max() == 0


STOPPED = """
import os, signal
import jaxft.training.stage as stage
from jaxft.errors import run_job
from jaxft.ulmfit.__main__ import main
report, seen = stage._StageRun._report_step, []
def stop_in_the_classifier(self, *args, **kwargs):
    report(self, *args, **kwargs)
    seen.append(self.stage.name == "classifier")
    if sum(seen) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
stage._StageRun._report_step = stop_in_the_classifier
run_job(main)
"""
