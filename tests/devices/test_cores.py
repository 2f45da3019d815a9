"""The classifier of ULMFiT shares its batches among the cores of a CPU, and everything else sees one device."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxft.base.cores import usable_cores
from tests.devices.small_jobs import differences
from tests.devices.virtual import ROOT, environment

needs_two = pytest.mark.skipif(usable_cores() < 2, reason="there is one core")


def on_cores(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of Python where nothing says how many devices the CPU is."""
    env = {name: value for name, value in environment(1).items() if name != "JAX_NUM_CPU_DEVICES"}
    return subprocess.run([sys.executable, *arguments], env=env, cwd=ROOT, capture_output=True, text=True)


def result_of(code: str):
    ended = on_cores("-c", code)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout)


SIZES = """
import json
from jaxft.base.cores import on_cores
from jaxft.base.sharding import current_mesh, mesh_size
from jaxft.training.devices import sharing_devices
from jaxft.training.process import set_up
{before}
set_up()
found = {{}}
for wanted in ("all", 1):
    with sharing_devices(wanted) as count:
        found[f"devices {{wanted}}"] = count, mesh_size(current_mesh())
        for rows in (1, 31, 32, 33):
            with on_cores(rows):
                found[f"{{rows}} rows, devices {{wanted}}"] = mesh_size(current_mesh())
print(json.dumps(found))
"""


@needs_two
def test_cores_share_batches_that_they_divide_evenly_and_count_as_one_device():
    found = result_of(SIZES.format(before=""))
    for wanted in ("all", 1):
        assert found[f"devices {wanted}"] == [1, 1]
        assert [found[f"{rows} rows, devices {wanted}"] for rows in (1, 31, 32, 33)] == [1, 1, 2, 1]


def test_a_cpu_that_has_begun_as_one_device_stays_one():
    found = result_of(SIZES.format(before="import jax.numpy as jnp; jnp.ones(3)"))
    assert {json.dumps(value) for value in found.values()} == {"1", "[1, 1]"}


@needs_two
@pytest.mark.slow
def test_a_classifier_on_two_cores_is_the_one_of_a_single_device(tmp_path):
    flags = ["-m", "jaxft.ulmfit", "--data", "demo", "--precision", "f32", "--lm.epochs", "0", "--no-baseline"]
    flags += ["--classifier.batch-size", "32", "--classifier.epochs", "1", "--limit-unlabelled", "0"]
    one = subprocess.run(
        [sys.executable, *flags, "--out", str(tmp_path / "one")], env=environment(1), cwd=ROOT, capture_output=True
    )
    many = on_cores(*flags, "--out", str(tmp_path / "many"))
    assert one.returncode == many.returncode == 0, many.stderr
    stages = {name: json.loads((tmp_path / name / "summary.json").read_text())["stages"] for name in ("one", "many")}
    devices = {name: [stage["devices"] for stage in rows if "devices" in stage] for name, rows in stages.items()}
    assert devices == {"one": [1], "many": [2]}
    assert np.quantile(differences(tmp_path / "one", tmp_path / "many"), 0.999) < 1e-5
