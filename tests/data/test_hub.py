"""Models by their name on the hub, against a server on this machine that answers as the hub does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxft.data.checksums import CHECKSUMS
from jaxft.data.hub import checkpoint_folder, downloaded_model
from jaxft.errors import InputError
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.load import load
from tests.finished_models import FINISHED_MODELS
from tests.hub import COMMIT, Hub, serving, use


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def hub(tiny_checkpoint, tmp_path, monkeypatch):
    with serving(Hub(contents(tiny_checkpoint) | {"pytorch_model.bin": b"no"})) as hub:
        use(hub, tmp_path / "hub", monkeypatch)
        yield hub


def test_a_model_on_the_hub_is_downloaded_once_without_what_is_not_needed(hub, tmp_path):
    variables = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path)}
    code = "from jaxft.data.hub import checkpoint_folder; print(checkpoint_folder({!r}))"

    def ask(name: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, "-c", code.format(name)], env=variables, capture_output=True, text=True)

    answer = ask("someone/tiny")
    assert answer.returncode == 0, answer.stderr
    path = Path(answer.stdout.strip())
    assert (path / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert not (path / "pytorch_model.bin").exists()
    downloads = hub.downloads()
    assert Path(ask("someone/tiny").stdout.strip()) == path
    assert hub.downloads() == downloads
    assert "--model someone/else is not a folder and could not be downloaded" in ask("someone/else").stderr


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_only_the_files_of_the_checkpoint_are_asked_for(hub, weights):
    needed = {weights, "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    hub.files["pytorch_model.bin"] = hub.files["model.safetensors"]
    if weights != "model.safetensors":
        del hub.files["model.safetensors"]
    others = ["model.fp16.safetensors", "onnx/config.json", "train.py", "training_args.bin", "tf_model.h5", "README.md"]
    hub.files |= dict.fromkeys(others, b"{}")
    folder = checkpoint_folder("someone/tiny")
    assert set(hub.downloads()) == needed & hub.files.keys() == contents(folder).keys()


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1", COMMIT])
def test_a_revision_is_asked_for(hub, revision):
    checkpoint_folder("someone/tiny", "--model", revision)
    asked = [request for request in hub.requests if "/api/models/someone/tiny/revision/" in request]
    name = revision.replace("/", "%2F")
    assert [request.rpartition("/revision/")[2] for request in asked] == ([] if revision == COMMIT else [name])


@pytest.mark.parametrize("revision", ["", "../../../x", "/etc", "a b", "a\nb"])
def test_what_is_no_revision_never_reaches_the_cache(hub, revision, tmp_path):
    with pytest.raises(InputError, match=r"--revision .* is not a branch, a tag or a commit"):
        checkpoint_folder("someone/tiny", "--model", revision)
    assert hub.requests == []
    assert not (tmp_path / "hub").exists()


def test_a_revision_of_a_folder_is_refused(tiny_checkpoint):
    with pytest.raises(InputError, match=r"--encoder .* is not on the hub, so it has no --revision"):
        checkpoint_folder(str(tiny_checkpoint), "--encoder", "v1")
    with pytest.raises(InputError, match="is not on the hub, so it has no --revision"):
        load(tiny_checkpoint, "v1")


@pytest.mark.parametrize("kind", FINISHED_MODELS)
def test_a_finished_model_is_downloaded_by_its_list_of_files_and_verified(hub, kind, tiny_checkpoint, tmp_path):
    model = FINISHED_MODELS[kind](tiny_checkpoint)
    model.save(tmp_path / "model")
    files = contents(tmp_path / "model")
    hub.files = files | dict.fromkeys(["README.md", "other.json", "optimizer.safetensors"], b"{}")
    assert type(load("someone/tiny")) is type(model)
    downloads = hub.downloads()
    assert set(downloads) <= files.keys()  # equal files are downloaded once
    assert contents(downloaded_model("someone/tiny")) == files
    assert hub.downloads() == downloads


def test_a_model_in_the_cache_needs_no_network(hub, tiny_checkpoint, tmp_path, monkeypatch):
    folder = checkpoint_folder("someone/tiny")
    FINISHED_MODELS["ensemble of text classifiers"](tiny_checkpoint).save(tmp_path / "model")
    with serving(Hub(contents(tmp_path / "model"))) as other:
        use(other, tmp_path / "other", monkeypatch)
        load("someone/tiny")
    assert isinstance(load("someone/tiny"), Ensemble)
    hub.shutdown()
    hub.socket.close()
    use(hub, tmp_path / "hub", monkeypatch)
    assert checkpoint_folder("someone/tiny") == folder


def test_files_that_another_program_downloaded_are_left_alone(hub):
    hub.files["onnx/config.json"] = b"no JSON"
    folder = checkpoint_folder("someone/tiny")
    (folder / "onnx").mkdir()
    (folder / "onnx/config.json").write_bytes(b"no JSON")
    assert checkpoint_folder("someone/tiny") == folder
    assert (folder / "onnx/config.json").exists()


def test_a_finished_model_without_hashes_is_downloaded_as_before(hub, tmp_path):
    FINISHED_MODELS["language model"](tmp_path).save(tmp_path / "model")
    hub.files = contents(tmp_path / "model")
    del hub.files[CHECKSUMS]
    load("someone/tiny")
    assert sorted(hub.downloads()) == ["model.json", "model.safetensors", "vocabulary.json"]


def test_a_finished_model_that_is_damaged_in_the_cache_is_downloaded_again(hub, tmp_path):
    FINISHED_MODELS["language model"](tmp_path).save(tmp_path / "model")
    hub.files = contents(tmp_path / "model")
    folder = downloaded_model("someone/tiny")
    damaged = json.loads((folder / "model.json").read_text()) | {"direction": "backward"}
    (folder / "model.json").write_text(json.dumps(damaged))
    with pytest.raises(InputError, match=r"model\.json of someone/tiny from the hub is damaged and is removed"):
        load("someone/tiny")
    assert load("someone/tiny").direction == "forward"
