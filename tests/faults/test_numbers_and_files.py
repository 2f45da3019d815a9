"""Faults: numbers that are not finite, damaged files, outputs that are no files, and two runs in one folder."""

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.base.files import replacing, write_text
from jaxft.base.tensor_files import load_params, read_meta, save_params, write_arrays
from jaxft.errors import InputError
from jaxft.inference.answers import as_scores
from jaxft.training import checkpoint
from jaxft.training.metrics_log import read_metrics
from jaxft.training.run import CHECKPOINT, Run, StageResult
from jaxft.training.run_folder import locked
from jaxft.ulmfit.presets import parse


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--lm.peak-rate", "1e39"),
        ("--lm.peak-rate", "1e-320"),
        ("--classifier.clip-norm", "1e39"),
        ("--classifier.batch-size", "12345678901234567890"),
        ("--lm.epochs", "1000000000000"),
    ],
)
def test_numbers_that_32_bits_do_not_hold_are_refused(flag, value):
    with pytest.raises(InputError, match=f"{flag} .*(32 bits|out of its range)"):
        parse(["--data", "demo", flag, value])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, bad, dtype):
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"head/bias would not be finite in .*lower the learning rates"):
        save_params(path, {"head": {"bias": jnp.array([0.0, bad], dtype)}}, {})
    assert not path.exists()
    arrays = {"bias": np.array(jnp.array([0.0, bad], dtype))}
    write_arrays(path, arrays, {"kind": "parameters", "meta": {}, "paths": {"bias": ["bias"]}})
    with pytest.raises(InputError, match="holds bias with a number that is not finite"):
        load_params(path)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_no_answer_is_not_finite(task):
    with pytest.raises(InputError, match="no finite answer to 1 of 2 texts"):
        as_scores(task, np.array([[0.0, 1.0], [np.nan, 0.0]]))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes with names")
def test_a_pipe_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "answers")
    reader.join(timeout=10)
    assert read == ["answers"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real/answers.csv")
    for content in ("first", "second"):
        write_text(tmp_path / "link.csv", content)
        assert (tmp_path / "real/answers.csv").read_text() == content
    assert (tmp_path / "link.csv").is_symlink()
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["answers.csv"]


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="the platform has no /dev/null")
def test_a_device_is_written_in_place():
    with replacing("/dev/null") as file:
        file.write("gone")
    assert not os.path.isfile("/dev/null")


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="the platform has no /dev/shm")
def test_a_file_in_shared_memory_is_replaced():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "a.txt"
        write_text(path, "first")
        with replacing(path) as file:
            file.write("second")
            assert path.read_text() == "first"
        assert path.read_text() == "second"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        write_text(tmp_path, "text")


def test_two_processes_do_not_share_the_folder_of_a_run(tmp_path):
    code = "import sys, pathlib; from jaxft.training.run_folder import locked\n"
    code += f"with locked(pathlib.Path({str(tmp_path)!r})):\n"
    code += " print('in', flush=True)\n sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        message = f"is in use by process {other.pid} on .*: wait until it ends, or name another folder with --out"
        with pytest.raises(InputError, match=message), locked(tmp_path):
            pass
        other.kill()
    with locked(tmp_path):  # a process that is killed leaves no lock
        pass
    assert not list(tmp_path.iterdir())


def saved_run(folder, saves, keep=2):
    with Run(folder, keep_checkpoints=keep) as run:
        for number in range(saves):
            run.save({"w": jnp.full(3, number)}, {"stage": "toy", "number": number})


def position(folder):
    with Run(folder) as run:
        return run.position("toy")["number"], run.restore({"w": jnp.zeros(3, jnp.int32)})["w"].tolist()


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_last_checkpoints_are_kept(tmp_path, keep):
    saved_run(tmp_path, saves=5, keep=keep)
    assert len(list(tmp_path.glob("checkpoint*"))) == keep
    assert position(tmp_path) == (4, [4, 4, 4])
    with Run(tmp_path) as run:
        run.finish({})
    assert not list(tmp_path.glob("checkpoint*"))


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_run_goes_on_from_the_older_checkpoint_where_the_newer_is_damaged(tmp_path, damage, capsys):
    saved_run(tmp_path, saves=3)
    path = tmp_path / CHECKPOINT
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-5] if damage == "cut" else content[:-4] + bytes(4))
    assert position(tmp_path) == (1, [1, 1, 1])
    told = capsys.readouterr().err
    assert ("checkpoint.safetensors in " in told) == (damage != "missing")
    saved_run(tmp_path, saves=1)
    assert position(tmp_path) == (0, [0, 0, 0])


@pytest.mark.parametrize("keep", [2, 3])
def test_a_checkpoint_that_has_been_rotated_already_keeps_its_older_name(tmp_path, keep):
    saved_run(tmp_path, saves=3, keep=keep)
    for _ in range(2):  # the first process is killed before it saves
        checkpoint.rotate(tmp_path / CHECKPOINT, keep)
    ages = [tmp_path / CHECKPOINT, *checkpoint.older_checkpoints(tmp_path / CHECKPOINT, keep)]
    assert [read_meta(path)["number"] for path in ages] == [2, 2, 1][:keep]
    assert not list(tmp_path.glob(".*"))
    saved_run(tmp_path, saves=1, keep=keep)
    assert [read_meta(path)["number"] for path in ages] == [0, 2, 1][:keep]


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_kill_while_the_checkpoints_of_a_finished_stage_are_removed_leaves_none_and_loses_no_line_of_the_log(
    tmp_path, monkeypatch, removed
):
    def unlink(path):
        nonlocal removed
        if not removed:
            raise InterruptedError
        removed -= 1
        os.unlink(path)

    with Run(tmp_path) as run:
        for number in range(3):
            run.write("toy", number)
            run.save({"w": jnp.full(3, number)}, {"stage": "toy"})
        run.write("toy", 3)
        monkeypatch.setattr("pathlib.Path.unlink", unlink)
        with suppress(InterruptedError):
            run.finish({"toy": StageResult({"w": jnp.ones(3)}, {}, {})})
    monkeypatch.undo()
    with Run(tmp_path) as run:
        assert run.finished("toy") is not None
    assert not list(tmp_path.glob("checkpoint*"))
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1, 2, 3]


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(tmp_path):
    saved_run(tmp_path, saves=2)
    for path in tmp_path.glob("checkpoint*"):
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors is damaged"):
        checkpoint.newest_whole(tmp_path / CHECKPOINT)


def run(code_or_job: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", code_or_job, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


def test_64_bits_are_refused_in_one_sentence(tmp_path):
    ended = run("jaxft.predict", str(tmp_path), "--text", "fine", JAX_ENABLE_X64="1")
    assert (ended.returncode, ended.stderr.splitlines()) == (
        2,
        ["jaxft: JAX_ENABLE_X64 is on, and the jobs compute in 32 bits: turn it off"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a" * 5000, "a\nb.csv", "\udcff.csv"])
def test_a_name_that_is_no_name_of_a_file_ends_in_one_line(tmp_path, name):
    ended = run("jaxft.ulmfit", "--data", name, "--out", str(tmp_path / "run"))
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
