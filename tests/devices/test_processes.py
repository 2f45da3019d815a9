"""Several processes on one machine give the result of as many devices, stop and go on together, and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.devices.small_jobs import SMALL, flags_of, weights
from tests.devices.virtual import ROOT, command, environment, result_of

SIZES = "--lm.batch-size 8 --lm.bptt 20 --model.num-layers 2 --model.embedding-size 16 --model.hidden-size 24"
FLAGS = [*SIZES.split(), "--lm.epochs", "1", "--log-every", "1"]
MAIN = "from jaxft.errors import run_job\nfrom jaxft.pretrain.__main__ import main\nrun_job(main)"
LIMIT = 120
"""seconds after which a process counts as hanging"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path, rng = tmp_path_factory.mktemp("data") / "text.txt", np.random.default_rng(0)
    words = ["the", "a", "film", "was", "is", "good", "bad", "fine", "dull"]
    path.write_text("\n".join(" ".join(rng.choice(words, 30)) for _ in range(400)))
    return str(path)


def start(out: Path, *flags: Sequence[str], code: str = "") -> list[subprocess.Popen[str]]:
    """Processes of `jaxft.pretrain` with these flags each, the last of which runs some code before."""
    programs = [f"{code if number else ''}\n{MAIN}" for number in range(len(flags))]
    return join(
        [["-c", program, *FLAGS, *own, "--out", str(out)] for program, own in zip(programs, flags, strict=True)],
        1,
        optimized=True,
    )


def join(arguments: Sequence[Sequence[str]], devices: int, optimized: bool = False) -> list[subprocess.Popen[str]]:
    """Processes of Python with these arguments, which share a job with so many devices each; see `environment`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(len(arguments))}
    return [
        subprocess.Popen(
            [sys.executable, *own],
            env=environment(devices, optimized) | where | {"JAX_PROCESS_ID": str(number)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, own in enumerate(arguments)
    ]


def end(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """The exit status of each process, and what it says of errors."""
    try:
        said = [process.communicate(timeout=LIMIT)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def wait_for_steps(out: Path, count: int, processes: list[subprocess.Popen[str]]) -> None:
    path, limit = out / "metrics.jsonl", time.monotonic() + LIMIT
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < limit
        time.sleep(0.05)


def assert_same_bits(one: Path, two: Path) -> None:
    first, second = weights(one), weights(two)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


@pytest.fixture(scope="module")
def whole(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two processes that nothing has stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert [status for status, _ in end(start(out, ["--text", text], ["--text", text]))] == [0, 0]
    return out


@pytest.mark.slow
def test_two_processes_give_the_bits_of_two_devices(whole, text, tmp_path):
    command("pretrain", *FLAGS, "--text", text, "--out", str(tmp_path / "run"), devices=2, optimized=True)
    assert_same_bits(whole, tmp_path / "run")


@pytest.mark.exhaustive
@pytest.mark.parametrize("job", ["ulmfit", "finetune", "ner"])
def test_two_processes_of_a_job_give_the_bits_of_two_devices(job, inputs, tmp_path):
    flags = flags_of(job, inputs, tmp_path, SMALL)
    arguments = ["-m", f"jaxft.{job}", *flags, "--out", str(tmp_path / "processes")]
    assert [status for status, _ in end(join([arguments, arguments], 1, optimized=True))] == [0, 0]
    command(job, *flags, "--out", str(tmp_path / "devices"), devices=2, optimized=True)
    assert_same_bits(tmp_path / "devices", tmp_path / "processes")


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_they_go_on_together(whole, text, tmp_path):
    out, flags = tmp_path / "run", ["--text", text]
    processes = start(out, flags, flags)
    wait_for_steps(out, 8, processes)
    processes[1].send_signal(signal.SIGTERM)
    (first, first_says), (second, second_says) = end(processes)
    assert (first, second) == (130, 130)
    assert "stopped by a signal to another process" in first_says
    assert "stopped by SIGTERM" in second_says
    assert not (out / "summary.json").exists()
    assert [status for status, _ in end(start(out, [*flags, "--resume"], [*flags, "--resume"]))] == [0, 0]
    assert_same_bits(whole, out)


@pytest.mark.parametrize(("rows", "devices"), [(8, 4), pytest.param(6, 2, marks=pytest.mark.exhaustive)])
@pytest.mark.slow
def test_processes_of_two_devices_train_on_those_that_share_the_rows(rows, devices, tmp_path):
    arguments = ["-m", "tests.devices.programs.processes", str(tmp_path / "run"), str(rows)]
    processes = join([arguments, arguments], 2)
    first, second = (json.loads(process.communicate(timeout=LIMIT)[0].splitlines()[-1]) for process in processes)
    assert first == second
    assert first["devices"] == devices
    assert {2, 6}.isdisjoint(first["saved"])  # each wish for a checkpoint is answered once
    alone = result_of("weights", str(rows), devices=1)
    for name, array in first["weights"].items():
        np.testing.assert_allclose(array, alone[name], atol=1e-6)


@pytest.mark.slow
def test_a_dry_run_says_how_many_rows_a_process_computes(text, tmp_path):
    flags = ["--text", text, "--dry-run"]
    processes = start(tmp_path / "run", flags, flags)
    printed = [process.communicate(timeout=LIMIT)[0] for process in processes]
    assert "4 of 8 rows of each batch on each of 2 of 2 devices, 4 in each of 2 processes" in printed[0]
    assert not printed[1]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        pytest.param(["--text", "no.txt"], "no.txt", marks=pytest.mark.exhaustive),
        pytest.param(
            ["--seed", "5"], "the processes differ in seed: start them with the same flags", marks=pytest.mark.slow
        ),
    ],
)
def test_bad_input_of_one_process_ends_both_with_its_sentence(flags, sentence, text, tmp_path):
    given = ["--text", text]
    ended = end(start(tmp_path / "run", given, [*given, *flags] if "--text" not in flags else flags))
    assert [status for status, _ in ended] == [2, 2]
    assert sentence in ended[1][1]
    assert f"process 1 has ended: {ended[1][1].splitlines()[-1].removeprefix('jaxft: ')}" in ended[0][1]
    assert not (tmp_path / "run/config.json").exists()  # the same command without the mistake may begin


@pytest.mark.exhaustive
def test_a_fault_in_one_process_ends_both(text, tmp_path):
    code = "import jaxft.training.run as run\ndef fail(*_, **__): raise RuntimeError('broken')\nrun.Run.write = fail"
    ended = end(start(tmp_path / "run", ["--text", text], ["--text", text], code=code))
    assert [status for status, _ in ended] == [2, 1]
    assert "process 1 has ended: broken" in ended[0][1]


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "number", [pytest.param(0, marks=pytest.mark.exhaustive), pytest.param(1, marks=pytest.mark.slow)]
)
def test_a_process_that_is_killed_ends_the_other(number, text, tmp_path):
    out = tmp_path / "run"
    processes = start(out, ["--text", text], ["--text", text])
    wait_for_steps(out, 5, processes)
    kill(processes[number])
    status, says = end(processes)[1 - number]
    if number == 0:  # JAX itself ends a process that has lost its coordinator
        assert "another task died" in says
    else:
        assert status == 2
        assert "another process has ended" in says.splitlines()[-1]
