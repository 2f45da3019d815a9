"""A run folder is never mixed up with another run."""

import os

import pytest

from jaxft.errors import InputError
from jaxft.files import write_json
from jaxft.training.run_folder import create_run_folder


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


def test_a_run_that_had_only_begun_is_resumed_from_its_start(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".vocabulary.json.tmp").touch()
    assert create_run_folder(folder, resume=True) == folder
    (folder / "notes.txt").touch()
    with pytest.raises(InputError, match="holds no run to continue"):
        create_run_folder(folder, resume=True)
