"""What is said of settings with which processes cannot find each other; `tests/devices` starts several."""

import pytest

from jaxft.errors import InputError
from jaxft.training.processes import connect, ending_together, first_then_others, require_same
from jaxft.training.settings import RunSettings

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in (*VARIABLES, "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"processes": 2, "process_id": 0}, "give --coordinator"),
        (
            {"coordinator": "10.0.0.1:1234"},
            "--coordinator 10.0.0.1:1234 is not enough: give --processes and --process-id too",
        ),
        ({"coordinator": "here", "processes": 2, "process_id": 0}, "--coordinator here is no address with a port"),
        ({"coordinator": "127.0.0.1:9", "processes": 2, "process_id": 2}, "cannot join the other processes at"),
    ],
)
def test_processes_that_cannot_find_each_other_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        connect(RunSettings(**settings))


def test_a_variable_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "first")
    with pytest.raises(InputError, match="JAX_PROCESS_ID is 'first' in the environment: give it a whole number"):
        connect(RunSettings())


def test_a_single_process_waits_for_nobody():
    connect(RunSettings())
    require_same({"seed": 0})
    assert first_then_others(lambda: 3) == 3
    with pytest.raises(RuntimeError, match="broken"), ending_together():
        raise RuntimeError("broken")
