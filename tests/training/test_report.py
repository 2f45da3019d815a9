"""A run folder is never mixed up, a log survives kills and resumes, and progress does not flood a CI log."""

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.errors import InputError
from jaxft.files import read_json, to_json, write_json
from jaxft.training.report import MetricsLog, create_run_folder, progress_bar, read_metrics, show, truncate_metrics


def test_a_new_run_takes_a_new_or_an_empty_folder(tmp_path):
    assert create_run_folder(tmp_path / "a" / "b").is_dir()
    create_run_folder(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []


def test_a_folder_in_use_is_not_mixed_with_a_new_run(tmp_path):
    (tmp_path / ".config.json.tmp").touch()
    create_run_folder(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"is not empty and holds no run to --resume: .* with --out"):
        create_run_folder(tmp_path)
    with pytest.raises(InputError, match=r"holds no run to continue: leave out --resume, .* with --out"):
        create_run_folder(tmp_path, resume=True)
    write_json(tmp_path / "config.json", {})
    assert create_run_folder(tmp_path, resume=True) == tmp_path
    with pytest.raises(InputError, match=r"holds a run: continue it with --resume, .* with --out"):
        create_run_folder(tmp_path)


def test_an_unwritable_folder_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match=rf"cannot write to {path} .*--out"):
            create_run_folder(path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"Permission denied.*--out"):
        create_run_folder(tmp_path / "run")


@dataclass
class Config:
    out: Path
    rates: tuple[float, ...]


def test_json_takes_what_a_run_holds_and_stays_json(tmp_path):
    value = {
        "config": Config(Path("runs/a"), (0.1, 0.2)),
        "loss": jnp.float32(0.5),
        "counts": np.arange(3),
        "nan": [float("nan"), np.float32("inf"), jnp.asarray([jnp.nan])],
        "words": "naïve 😀",
        3: None,
        "flag": np.bool_(True),
    }
    write_json(tmp_path / "s.json", value)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (tmp_path / "s.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == read_json(tmp_path / "s.json") == to_json(value)
    assert to_json(value) == {
        "config": {"out": "runs/a", "rates": [0.1, 0.2]},
        "loss": 0.5,
        "counts": [0, 1, 2],
        "nan": [None, None, [None]],
        "words": "naïve 😀",
        "3": None,
        "flag": True,
    }
    assert os.listdir(tmp_path) == ["s.json"]


def test_json_is_whole_or_the_old_one(tmp_path, monkeypatch):
    write_json(tmp_path / "s.json", {"run": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="Not a directory"):
        write_json(tmp_path / "s.json" / "below", {})
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(InputError, match=r"cannot write .*s.json \(No space left on device\)"):
        write_json(tmp_path / "s.json", {"run": 2})
    assert read_json(tmp_path / "s.json") == {"run": 1}
    assert os.listdir(tmp_path) == ["s.json"]


def test_unreadable_json_is_refused_by_name(tmp_path):
    (tmp_path / "half.json").write_text('{"a": 1, ')
    with pytest.raises(InputError, match=r"half.json is not JSON .*put back"):
        read_json(tmp_path / "half.json")
    with pytest.raises(InputError, match=r"cannot read .*none.json .*check the path"):
        read_json(tmp_path / "none.json")


def write_steps(path: Path, steps: range) -> list[int]:
    """Logs a line per step; the size of the log before each."""
    sizes = []
    with MetricsLog(path) as log:
        for step in steps:
            sizes.append(log.size())
            log.write("lm", step, loss=1 / (step + 1), phase="tête")
    return sizes


@settings(deadline=None, max_examples=50)
@given(checkpoint=st.integers(0, 9), lost=st.integers(0, 60), extra=st.integers(0, 5))
def test_the_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path_factory, checkpoint, lost, extra):
    folder = tmp_path_factory.mktemp("log")
    write_steps(folder / "whole", range(10))
    sizes = write_steps(folder / "resumed", range(min(checkpoint + 1 + extra, 10)))
    content = (folder / "resumed").read_bytes()  # the kill may come in the middle of a line
    (folder / "resumed").write_bytes(content[: max(sizes[checkpoint], len(content) - lost)])
    truncate_metrics(folder / "resumed", sizes[checkpoint])
    write_steps(folder / "resumed", range(checkpoint, 10))
    assert (folder / "resumed").read_bytes() == (folder / "whole").read_bytes()


def test_a_log_that_is_not_the_checkpoints_own_is_refused(tmp_path):
    truncate_metrics(tmp_path / "none", 0)
    write_steps(tmp_path / "log", range(2))
    with pytest.raises(InputError, match="put back the whole folder of the run"):
        truncate_metrics(tmp_path / "log", 10_000)
    with pytest.raises(InputError, match="put back the whole folder of the run"):
        truncate_metrics(tmp_path / "none", 1)


def test_reading_passes_over_half_a_last_line_only(tmp_path):
    (tmp_path / "log").write_text('{"stage": "lm", "step": 1}\n{"stage": "lm", "st')
    assert read_metrics(tmp_path / "log") == [{"stage": "lm", "step": 1}]
    (tmp_path / "log").write_text('{"stage": "lm", "step": 1}\nnonsense\n{"stage": "lm", "step": 2}\n')
    with pytest.raises(InputError, match="log line 2 is not JSON"):
        read_metrics(tmp_path / "log")
    with pytest.raises(InputError, match="there is no metrics log"):
        read_metrics(tmp_path / "none")


def test_every_line_can_be_read_at_once(tmp_path):
    with MetricsLog(tmp_path / "log") as log:
        log.write("lm", 7, loss=jnp.float32(jnp.nan))
        assert read_metrics(tmp_path / "log") == [{"stage": "lm", "step": 7, "loss": None}]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_outside_a_terminal_progress_is_a_few_plain_lines(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    with progress_bar("classifier", total=30_000, initial=10_000) as bar:
        for _ in range(20_000):
            show(bar, loss=0.25, tokens_per_s=12345.6)
            bar.update()
        bar.write("epoch 1: accuracy 0.9", file=bar.fp)
    text = stderr.getvalue()
    lines = text.splitlines()
    assert len(lines) <= 4
    assert "\r" not in text
    assert lines[0].startswith("classifier: 10000/30000 steps")
    assert "epoch 1: accuracy 0.9" in lines
    assert lines[-1].startswith("classifier: 30000/30000 steps")
    assert lines[-1].endswith("loss=0.25, tokens_per_s=12,346")


def test_in_a_terminal_progress_is_one_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("lm", total=10) as bar:
        bar.update(10)
    assert "\r" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_a_run_that_had_only_begun_is_resumed_from_its_start(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".vocabulary.json.tmp").touch()
    assert create_run_folder(folder, resume=True) == folder
    (folder / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no run to continue"):
        create_run_folder(folder, resume=True)
