"""A run folder is never mixed up with another run."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from jaxft.base.files import read_json, write_json
from jaxft.errors import InputError
from jaxft.training.run_folder import create_run_folder, new_run_folder, record_config, run_config
from jaxft.training.settings import RunSettings


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
    with pytest.raises(InputError, match="file is no folder: name one with --out"):
        create_run_folder(tmp_path / "file")
    with pytest.raises(InputError, match=rf"cannot write to {tmp_path / 'file' / 'run'} .*--out"):
        create_run_folder(tmp_path / "file" / "run")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"Permission denied.*--out"):
        create_run_folder(tmp_path / "run")


def test_a_run_that_had_only_begun_is_resumed_from_its_start(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".vocabulary.json.tmp").touch()
    assert create_run_folder(folder, resume=True) == folder
    (folder / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no run to continue"):
        create_run_folder(folder, resume=True)


def test_a_job_that_fails_at_once_leaves_nothing_behind(tmp_path):
    def fail(*, leaving):
        with new_run_folder(tmp_path / "run", resume=False) as folder:
            for name in leaving:
                (folder / name).touch()
            raise InputError("a.csv is empty: fill it")

    with pytest.raises(InputError, match=r"a\.csv is empty"):
        fail(leaving=[])
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match=r"a\.csv is empty"):
        fail(leaving=["config.json"])
    assert os.listdir(tmp_path / "run") == ["config.json"]


def test_a_run_is_resumed_with_its_settings_texts_and_checkpoint_only(tmp_path):
    prints = {"corpus": "c1", "checkpoint": "m1"}
    record_config(tmp_path, False, run_config(RunSettings(seed=1, precision="f32"), prints))
    assert read_json(tmp_path / "config.json") == {"precision": "f32", "seed": 1, "log_every": 20, **prints}
    elsewhere = RunSettings(out=Path("moved"), resume=True, seed=1, precision="f32", checkpoint_minutes=1.0)
    record_config(tmp_path, True, run_config(elsewhere, prints))
    for settings, fingerprints, message in (
        (replace(elsewhere, seed=2), prints, r"other settings \(--seed was 1 and is now 2\): resume it with"),
        (RunSettings(seed=1), {**prints, "corpus": "c2"}, "the texts have changed since .*: restore them"),
        (RunSettings(seed=1), {"corpus": "c1"}, "the checkpoint has changed since .*: restore them"),
    ):
        with pytest.raises(InputError, match=message):
            record_config(tmp_path, True, run_config(settings, fingerprints))


def test_settings_that_are_none_are_refused(tmp_path):
    write_json(tmp_path / "config.json", [1])
    with pytest.raises(InputError, match=r"config\.json holds no settings: put back an intact copy"):
        record_config(tmp_path, True, {})


def test_a_run_that_had_only_begun_records_its_settings_on_resume(tmp_path):
    record_config(tmp_path, True, {"seed": 1})
    assert read_json(tmp_path / "config.json") == {"seed": 1}
