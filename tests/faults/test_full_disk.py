"""Disks without room: each function that writes names its file, and leaves nothing of it; see `full_disk`."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from jaxft import export
from jaxft.base.files import replacing_files, write_json, write_text
from jaxft.base.tensor_files import save_params
from jaxft.data.document import Corpus, Document
from jaxft.data.store import build_store
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.models.torch_writer import write_state
from jaxft.training import checkpoint, plots
from jaxft.training.metrics_log import MetricsLog
from jaxft.training.predictions import write_predictions
from jaxft.training.run_folder import create_run_folder, locked
from jaxft.training.trackers import SINKS, open_trackers

resource = pytest.importorskip("resource", reason="the platform has no limits of file sizes")


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Lets writes fail as on a full disk, where a file grows beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def store_texts(folder: Path) -> None:
    documents = [Document(f"text {i}", ("neg", "pos")[i % 2], "train") for i in range(9)]
    build_store(Corpus("reviews", "0" * 64, lambda: iter(documents)), folder / "cache", workers=1, progress=False)


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    with replacing_files(folder) as temporary:
        Tokenizer(WordLevel({"film": 0, "[UNK]": 1}, "[UNK]")).save(str(temporary / "tokenizer.json"))


def save_figure(folder: Path) -> None:
    plots.save(plots.plot_confusion([[1, 0], [0, 1]], ["neg", "pos"]), folder / "plots/confusion.png")


def export_tokens(folder: Path) -> None:
    export._write(folder / "backward/itos.pkl", ["xxunk", "film"])


ROW = {"text": "fine", "label": "pos", "prediction": "neg", "mistakes": [], "loss": 1.0}
WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda folder: write_text(folder / "a.md", "text"),
    "json": lambda folder: write_json(folder / "summary.json", {"n": 1}),
    "weights": lambda folder: save_params(folder / "model.safetensors", {"w": np.ones(3)}, {}),
    "checkpoint": lambda folder: checkpoint.save(folder / "c.safetensors", {"w": np.ones(3)}, {}),
    "predictions": lambda folder: write_predictions(folder, [ROW]),
    "vocabulary": lambda folder: Vocabulary(("xxunk", "xxpad", "xxbos")).save(folder / "vocabulary.json"),
    "figure": save_figure,
    "text cache": store_texts,
    "tokenizer": save_tokenizer,
    "fastai weights": lambda folder: write_state(folder / "classifier.pth", {"w": np.ones(3, np.float32)}),
    "fastai tokens": export_tokens,
}


@pytest.mark.parametrize("size", [0, 3])
@pytest.mark.parametrize("writer", WRITERS)
def test_what_is_written_on_a_full_disk_is_refused_by_name_and_not_there(tmp_path, writer, size):
    with no_file_beyond(size), pytest.raises(InputError, match=re.escape(str(tmp_path))) as refusal:
        WRITERS[writer](tmp_path)
    assert "free some space" in str(refusal.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    WRITERS[writer](tmp_path)


def test_a_log_on_a_full_disk_keeps_its_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write("lm", 1, loss=1.5)
        size = log.size()
        with no_file_beyond(size + 5), pytest.raises(InputError, match=r"metrics\.jsonl .*: free some space"):
            log.write("lm", 2, loss=1.25)
    assert path.read_bytes()[:size].count(b"\n") == 1


def test_a_folder_on_a_full_disk_is_not_left_locked(tmp_path):
    with no_file_beyond(0), pytest.raises(InputError, match=r"\.owner .*: free some space"), locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    with locked(create_run_folder(tmp_path)):
        pass


TRACK = """
import resource, sys, time
from pathlib import Path
from jaxft.training.trackers import open_trackers
(tracker,) = open_trackers(["tensorboard"], Path(sys.argv[1]), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
for step in range(20):
    tracker.write({"loss": 0.5}, step)
    time.sleep(0.01)
tracker.close(failed=True)
"""


@pytest.mark.slow
def test_a_tracker_on_a_full_disk_is_one_line(tmp_path):
    pytest.importorskip("tensorboardX")
    ended = subprocess.run([sys.executable, "-c", TRACK, str(tmp_path)], capture_output=True, text=True)
    told = "jaxft: --track tensorboard takes no more metrics (File too large); metrics.jsonl has them all\n"
    assert (ended.returncode, ended.stderr) == (0, told)


def test_events_that_have_no_room_leave_the_folder_empty(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")

    def refuse(writer):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.flush", refuse)
    with pytest.raises(InputError, match="No space left"):
        open_trackers(["tensorboard"], tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_a_tracker_that_has_no_room_for_its_folder_names_it(tmp_path, monkeypatch):
    def refuse(folder, settings):
        raise OSError(errno.ENOSPC, "No space left on device", f"{folder}/tensorboard")

    monkeypatch.setitem(SINKS, "tensorboard", refuse)
    with pytest.raises(InputError, match=rf"cannot be opened in {tmp_path} \(No space left .*: free some space"):
        open_trackers(["tensorboard"], tmp_path, {})


COMPILE = """
import resource, sys
import jax
from jaxft.training.process import set_up
set_up()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
print(jax.jit(lambda x: x + 1)(1))
"""


@pytest.mark.slow
def test_a_cache_of_programs_without_room_is_no_warning(tmp_path):
    for size in ("0", "100", "-1"):  # the last one reads what the others have written
        environment = {**os.environ, "JAXFT_CACHE": str(tmp_path)}
        command = [sys.executable, "-c", COMPILE, size]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the program needs fork and /proc")
def test_a_job_on_a_full_disk_ends_with_one_sentence_and_goes_on_with_room():
    command = [sys.executable, "-m", "tests.faults.full_disk", "--points", "1", "--command", "pretrain"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.splitlines()[-1].endswith(" 0 of 1 tries not as they have to be")
