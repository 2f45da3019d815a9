"""Language models to start from: what `--pretrained` takes, and what it refuses."""

import hashlib
import io
import pickle
import shutil
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.base.files import read_json
from jaxft.base.tensor_files import load_params
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.language_model import pretrained
from jaxft.language_model.pretrained import open_pretrained

Job = Callable[..., Path]
FASTAI = Path(__file__).parents[1] / "golden" / "fastai"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "wt103-fwd.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(FASTAI / "lm_legacy.pth", "wt103-fwd/lstm_fwd.pth")
        tar.add(FASTAI / "itos.pkl", "wt103-fwd/itos_wt103.pkl")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(FASTAI / "lm_zip.pth", tmp_path / "lm.pth")
    shutil.copy(FASTAI / "itos.pkl", tmp_path / "itos.pkl")
    return tmp_path


def test_a_tar_a_folder_and_a_file_hold_the_same_model(archive: Path, folder: Path):
    models = [open_pretrained(str(path), "forward") for path in (archive, folder, folder / "lm.pth")]
    for model in models:
        assert model.config.widths == (6, 10, 10, 6)
        np.testing.assert_array_equal(model.params["encoder"]["embedding"], models[0].params["encoder"]["embedding"])
    assert models[0].generate("a b", words=3).startswith("a b ")


def test_the_itos_named_like_the_weights_is_taken_where_there_are_several(folder: Path):
    shutil.move(folder / "itos.pkl", folder / "lm_itos.pkl")
    (folder / "other.pkl").write_bytes(pickle.dumps(["xxunk"]))
    assert len(open_pretrained(str(folder / "lm.pth"), "forward").vocabulary) == 17
    with pytest.raises(InputError, match=r"holds 2 \.pkl files"):
        open_pretrained(str(folder), "forward")
    (folder / "lm_itos.pkl").unlink()
    (folder / "third.pkl").touch()
    with pytest.raises(InputError, match=r"has no \.pkl"):
        open_pretrained(str(folder / "lm.pth"), "forward")


def add(path: Path, *names: str) -> None:
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.pth"], r"holds no \.pkl file"),
        (["a.pth", "b.pth", "c.pkl"], r"holds several \.pth files"),
        (["../a.pth", "c.pkl"], "unsafe name"),
        (["a.pth", "c.pkl"], "not a file of torch.save"),
    ],
)
def test_a_tar_of_something_else_is_refused(tmp_path: Path, names: list[str], message: str):
    add(tmp_path / "bad.tar", *names)
    with pytest.raises(InputError, match=message):
        open_pretrained(str(tmp_path / "bad.tar"), "forward")


def test_a_file_larger_than_any_model_is_refused_unread(archive: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pretrained, "LARGEST_FILE", 1000)
    with pytest.raises(InputError, match="at most 1,000"):
        open_pretrained(str(archive), "forward")


def test_paths_without_a_model_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist: give fastai"):
        open_pretrained(str(tmp_path / "missing"), "forward")
    with pytest.raises(InputError, match="holds no forward language model"):
        open_pretrained(str(tmp_path), "forward")


def test_fastai_is_downloaded_once_for_each_direction(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = archive.read_bytes()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}).start()
        entry = (archive.name, len(content), hashlib.md5(content).hexdigest())
        monkeypatch.setattr(pretrained, "FASTAI_URL", f"http://127.0.0.1:{http.server_port}/{{}}")
        monkeypatch.setattr(pretrained, "FASTAI_FILES", {"forward": entry, "backward": (entry[0], 5, entry[2])})
        monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
        assert open_pretrained("fastai", "forward").config.vocabulary_size == 17
        with pytest.raises(InputError, match=r"the server's file has .* bytes instead of 5"):
            open_pretrained("fastai", "backward")
        http.shutdown()
    shutil.copy(archive, tmp_path / "cache" / archive.name)
    assert open_pretrained("fastai", "forward").config.vocabulary_size == 17


@pytest.mark.slow
def test_ulmfit_starts_from_the_weights_of_fastai(job: Job, archive: Path):
    run = job("run", "--pretrained", str(archive), "--lm.peak-rate", "1e-12")
    summary = read_json(run / "summary.json")
    vocabulary = Vocabulary.load(run / "vocabulary.json")
    theirs = open_pretrained(str(archive), "forward")
    assert summary["config"]["model"] == {"embedding_size": 6, "hidden_size": 10, "num_layers": 3}
    known = [token in theirs.vocabulary.tokens for token in vocabulary.tokens]
    assert summary["language_model"]["matched_words"] == sum(known)
    assert summary["language_model"]["new_words"] == len(known) - sum(known) > 0
    params = load_params(run / "language_model/model.safetensors")
    embedding = theirs.params["encoder"]["embedding"]
    rows = vocabulary.matches(theirs.vocabulary)
    wanted = np.where(np.array(known)[:, None], embedding[rows], jnp.mean(embedding, axis=0))
    np.testing.assert_allclose(params["encoder"]["embedding"], wanted, atol=1e-6)
    np.testing.assert_allclose(
        params["encoder"]["lstm_1"]["kernel"], theirs.params["encoder"]["lstm_1"]["kernel"], atol=1e-6
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pretrained", "WEIGHTS", "--model.hidden-size", "7"], "leave out the --model flags"),
        (["--pretrained", "WEIGHTS", "--lm.epochs", "0"], "no effect together with --lm.epochs 0"),
        (["--pretrained", "nowhere.pth"], "does not exist"),
        (["--pretrained", "~nobody-of-this-name/x"], "home folder of a user who does not exist"),
        (["--pretrained", "WEIGHTS", "--direction", "both"], "is a model of one direction"),
    ],
)
def test_flags_that_do_not_go_together_leave_nothing_behind(job: Job, tmp_path: Path, flags: list[str], message: str):
    shutil.copytree(FASTAI, tmp_path / "weights")
    flags = [str(tmp_path / "weights/lm_zip.pth") if flag == "WEIGHTS" else flag for flag in flags]
    with pytest.raises(InputError, match=message):
        job("run", *flags)
    assert not (tmp_path / "run").exists()
