"""The hashes of a finished model: written for every kind, checked by all that reads one, and absent in old models."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import jaxft
from jaxft import export, predict, push
from jaxft.data.checksums import CHECKSUMS, read_checksums, write_checksums
from jaxft.data.hub import checkpoint_folder
from jaxft.errors import InputError, run_job
from tests.checkpoints import write_checkpoint
from tests.finished_models import FINISHED_MODELS, encoder_model, text_classifier


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "bert")


@pytest.fixture(params=FINISHED_MODELS)
def folder(request, checkpoint: Path, tmp_path: Path) -> Path:
    FINISHED_MODELS[request.param](checkpoint).save(tmp_path / "model")
    (tmp_path / "model/README.md").write_text("a card")
    return tmp_path / "model"


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_every_file_of_every_kind_of_model_is_checked(folder: Path):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    checked = {name for name in files if Path(name).name not in ("README.md", CHECKSUMS)}
    assert read_checksums(folder).keys() == checked >= {"model.json"}
    for name in checked:
        content = (folder / name).read_bytes()
        damage(folder / name)
        with pytest.raises(InputError, match=f"{folder / name} is damaged or edited") as caught:
            jaxft.load(folder)
        assert str(folder / CHECKSUMS) in str(caught.value)
        (folder / name).unlink()
        with pytest.raises(InputError, match=f"{folder / name} is missing|{folder} holds no finished model"):
            jaxft.load(folder)
        (folder / name).write_bytes(content)
    (folder / "README.md").write_text("another card")
    assert isinstance(jaxft.load(folder.parent), type(jaxft.load(folder)))


def test_a_model_without_hashes_is_loaded_as_it_is(folder: Path):
    for path in folder.rglob(CHECKSUMS):
        path.unlink()
    (folder / "model.json").write_text((folder / "model.json").read_text() + "\n")
    jaxft.load(folder)


def test_a_model_that_is_saved_again_or_moved_is_intact(tmp_path: Path):
    text_classifier().save(tmp_path / "model")
    text_classifier("backward").save(tmp_path / "model")
    assert jaxft.load(shutil.move(tmp_path / "model", tmp_path / "elsewhere")).direction == "backward"


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"abc", b"0" * 64 + b"  ../model.json\n", b"0" * 64 + b"  /dev/zero\n"]
)
def test_damaged_hashes_are_named(content: bytes, tmp_path: Path):
    text_classifier().save(tmp_path)
    (tmp_path / CHECKSUMS).write_bytes(content)
    with pytest.raises(InputError, match=f"{tmp_path / CHECKSUMS} is damaged"):
        jaxft.load(tmp_path)


def test_a_pipe_in_place_of_a_file_is_not_read(tmp_path: Path):
    text_classifier().save(tmp_path)
    (tmp_path / "vocabulary.json").unlink()
    os.mkfifo(tmp_path / "vocabulary.json")
    with pytest.raises(InputError, match=r"vocabulary\.json is missing"):
        jaxft.load(tmp_path)


@pytest.mark.parametrize(
    "job",
    [(predict, "--text", "good"), (export, "--output", "exported"), (push, "someone/new")],
    ids=lambda job: job[0].__name__,
)
def test_every_job_that_reads_a_model_names_the_damaged_file(job: Any, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text_classifier().save(tmp_path / "run/model")
    damage(tmp_path / "run/model/model.json")
    module, *arguments = job
    with pytest.raises(SystemExit) as stop:
        run_job(lambda: module.main(["run", *arguments]))
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxft: run/model/model.json is damaged or edited")
    assert not Path("exported").exists()


def test_a_model_that_another_run_starts_from_is_checked(checkpoint: Path, tmp_path: Path):
    encoder_model(checkpoint).save(tmp_path)
    assert checkpoint_folder(str(tmp_path)) == tmp_path
    damage(tmp_path / "config.json")
    with pytest.raises(InputError, match=r"config\.json is damaged or edited"):
        checkpoint_folder(str(tmp_path))


def test_files_that_sha256sum_writes_and_checks_are_the_same(tmp_path: Path):
    sha256sum = shutil.which("sha256sum")
    if sha256sum is None:
        pytest.skip("there is no sha256sum here")
    (tmp_path / "größe").mkdir()
    (tmp_path / "größe/a b.json").write_text("{}")
    write_checksums(tmp_path, ["größe/a b.json"])
    assert os.system(f"cd '{tmp_path}' && {sha256sum} --check --strict --quiet {CHECKSUMS}") == 0


@pytest.mark.parametrize("kind", FINISHED_MODELS)
def test_other_files_in_the_folder_of_a_model_are_not_checked(kind: str, checkpoint: Path, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    FINISHED_MODELS[kind](checkpoint).save(tmp_path)
    (tmp_path / "notes.txt").write_text("edited")
    jaxft.load(tmp_path)
