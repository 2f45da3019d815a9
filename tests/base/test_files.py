"""JSON files are whole or the old ones, and hold whatever a run does."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.base.files import read_json, replacing, to_json, write_json
from jaxft.errors import InputError


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
    with pytest.raises(InputError, match=r"half.json is not JSON: put back"):
        read_json(tmp_path / "half.json")
    with pytest.raises(InputError, match=r"cannot read .*none.json .*check the path"):
        read_json(tmp_path / "none.json")


def test_a_folder_in_the_place_of_a_file_needs_another_name(tmp_path):
    with pytest.raises(InputError, match="which is a folder: name a file"), replacing(tmp_path):
        pass
