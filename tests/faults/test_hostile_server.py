"""Servers that lie, stall or send something else: every behaviour against every kind of download.

Each ends in one sentence and exit status 2, leaves nothing under the name of the file, and does not keep the next
download, from a good server, from working.
"""

import gc
import gzip
import hashlib
import io
import socketserver
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jaxft.data import corpus, download, plain
from jaxft.data.checksums import CHECKSUMS
from jaxft.data.hub import checkpoint_folder
from jaxft.errors import run_job
from jaxft.inference.load import load
from jaxft.inference.open_encoder import open_encoder
from jaxft.language_model import pretrained
from tests.finished_models import language_model
from tests.hub import Hub, serving, use

# requests leaves sockets open; see `sockets_left_open`
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
GOLDEN = Path(__file__).parents[1] / "golden" / "fastai"
Answer = Iterator[bytes]
PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"


def head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""]).encode()


def ok(length: int | None, *lines: str) -> bytes:
    return head("200 OK", *lines, *([] if length is None else [f"Content-Length: {length}"]))


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def good(content: bytes, start: int) -> Answer:
    if 0 < start >= len(content):
        yield head("416 Range Not Satisfiable", "Content-Length: 0")
    elif start:
        place = f"Content-Range: bytes {start}-{len(content) - 1}/{len(content)}"
        yield head("206 Partial Content", place, f"Content-Length: {len(content) - start}") + content[start:]
    else:
        yield ok(len(content)) + content


def just(make: Callable[[bytes, int], bytes]) -> Callable[[bytes, int], Answer]:
    return lambda content, start: iter([make(content, start)])


def endless(first: bytes, again: bytes, content: bytes, start: int) -> Answer:
    yield first
    end = time.monotonic() + 1  # so that a client that does not stop fails its test
    while time.monotonic() < end:
        yield again


def drip(content: bytes, start: int) -> Answer:
    yield ok(len(content))
    for byte in content:
        time.sleep(0.05)
        yield bytes([byte])


def silence(first: bytes, content: bytes, start: int) -> Answer:
    yield first
    time.sleep(2)


def part(of: int, length: int | None = None) -> Callable[[bytes, int], Answer]:
    """A part that begins `of` bytes after what was asked for, or says so."""

    def answer(content: bytes, start: int) -> bytes:
        rest = content[start + of :]
        place = f"Content-Range: bytes {start + of}-{len(content) - 1}/{len(content)}"
        return head("206 Partial Content", place, f"Content-Length: {len(rest)}") + rest

    return just(answer)


def other(content: bytes) -> bytes:
    """Another file of the same size."""
    return bytes(byte ^ 1 for byte in content)


BEHAVIOURS: dict[str, Callable[[bytes, int], Answer]] = {
    "web page": just(lambda content, start: ok(len(PAGE), "Content-Type: text/html; charset=utf-8") + PAGE),
    "web page without a type": just(lambda content, start: ok(len(PAGE)) + PAGE),
    "web page of the right size": just(lambda content, start: ok(len(content)) + PAGE.ljust(len(content))),
    "web page in chunks that break off": just(
        lambda content, start: ok(None, "Transfer-Encoding: chunked") + chunk(PAGE)
    ),
    "other file": just(lambda content, start: ok(len(content)) + other(content)),
    "empty file": just(lambda content, start: ok(0)),
    "compressed file": just(lambda content, start: ok(None, "Content-Encoding: gzip") + gzip.compress(content)),
    "longer file": just(lambda content, start: ok(len(content) + 9) + content + b"123456789"),
    "longer file without its length": just(lambda content, start: ok(None) + content + b"123456789"),
    "shorter file": just(lambda content, start: ok(len(content) - 9) + content[:-9]),
    "early end": just(lambda content, start: ok(len(content)) + content[: len(content) // 2]),
    "early end without its length": just(lambda content, start: ok(None) + content[: len(content) // 2]),
    "early end of chunks": just(lambda content, start: ok(None, "Transfer-Encoding: chunked") + chunk(content[:-9])),
    "chunks of no size": just(lambda content, start: ok(None, "Transfer-Encoding: chunked") + b"many\r\n" + content),
    "endless chunks": partial(endless, ok(None, "Transfer-Encoding: chunked"), chunk(bytes(2**12))),
    "endless file": partial(endless, ok(None), bytes(2**12)),
    "drops": drip,
    "silence": partial(silence, b""),
    "silence in the header": partial(silence, b"HTTP/1.1 200 OK\r\nServer: "),
    "silence after the header": partial(silence, ok(None)),
    "endless header": partial(endless, b"HTTP/1.1 200 OK\r\n", b"X-Name: value\r\n"),
    "endless line of a header": partial(endless, b"HTTP/1.1 200 OK\r\nX-Name: ", bytes(2**12).replace(b"\0", b"a")),
    "endless continuation": partial(endless, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "length that is no number": just(lambda content, start: head("200 OK", "Content-Length: many") + PAGE),
    "negative length": just(lambda content, start: head("200 OK", "Content-Length: -5") + PAGE),
    "two lengths": just(lambda content, start: head("200 OK", "Content-Length: 5", "Content-Length: 6") + PAGE),
    "no HTTP": just(lambda content, start: b"SSH-2.0-OpenSSH_9.6\r\n"),
    "nothing": just(lambda content, start: b""),
    "server error": just(lambda content, start: head("500 \x1b[31mOh no", "Content-Length: 0")),
    "missing file": just(lambda content, start: head("404 Not Found", "Content-Length: 0")),
    "strange status": just(lambda content, start: head("999 ?", "Content-Length: 0")),
    "redirection to a file": just(lambda content, start: head("302 Found", "Location: file:///etc/passwd")),
    "redirection to itself": just(lambda content, start: head("302 Found", "Location: ?again")),
    "redirection to no address": just(lambda content, start: head("302 Found", "Location: http://[::1")),
    "redirection to no host": just(lambda content, start: head("302 Found", "Location: http:///a")),
    "part that begins later": part(7),
    "part of another file": just(
        lambda content, start: (
            head("206 Partial Content", f"Content-Length: {len(content) - start}") + other(content)[start:]
        )
    ),
    "range that is never satisfiable": just(lambda content, start: head("416 Range Not Satisfiable")),
}


class Server(socketserver.ThreadingTCPServer):
    """Answers a request with what `behaviour` makes of the content of the file and of the byte that is asked for."""

    allow_reuse_address = daemon_threads = True
    behaviour: Callable[[bytes, int], Answer] = staticmethod(good)
    content = b""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """Prints nothing: the client has broken off, maybe in the test before."""


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        server = self.server
        assert isinstance(server, Server)
        lines = [line.strip().lower() for line in iter(self.rfile.readline, b"\r\n") if line]
        asked = next((line for line in lines if line.startswith(b"range: bytes=")), b"range: bytes=0-")
        with suppress(OSError):  # the client has heard enough
            for piece in server.behaviour(server.content, int(asked[13:-1])):
                self.wfile.write(piece)


@pytest.fixture(autouse=True)
def sockets_left_open() -> Iterator[None]:
    """Frees them while their warning is ignored, and not in a later test of the same process, where it is an error."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


REVIEWS = {f"aclImdb/{split}/{label}/1_9.txt": b"a film" for split in ("train", "test") for label in ("pos", "neg")}
WEIGHTS = {name: (GOLDEN / file).read_bytes() for name, file in (("a.pth", "lm_legacy.pth"), ("a.pkl", "itos.pkl"))}


def prepare_corpus(server: Server, patch: pytest.MonkeyPatch) -> Callable[[], Any]:
    server.content = tar(REVIEWS)
    patch.setattr(corpus, "IMDB_URL", f"{server.address}/aclImdb_v1.tar.gz")
    patch.setattr(corpus, "IMDB_SIZE", len(server.content))
    patch.setattr(corpus, "IMDB_SHA256", hashlib.sha256(server.content).hexdigest())
    return lambda: corpus.open_corpus("imdb")


def prepare_texts(server: Server, patch: pytest.MonkeyPatch) -> Callable[[], Any]:
    server.content = b" = A = \n a text <unk> \n" * 9
    sizes = (len(server.content), hashlib.sha256(server.content).hexdigest())
    patch.setattr(plain, "WIKITEXT_URL", server.address + "/{}.txt")
    patch.setattr(plain, "WIKITEXT_FILES", dict.fromkeys(("train", "valid", "test"), sizes))
    return lambda: plain.wikitext_corpus(None)


def prepare_weights(server: Server, patch: pytest.MonkeyPatch) -> Callable[[], Any]:
    server.content = tar(WEIGHTS)
    start = hashlib.md5(server.content[: 2**20]).hexdigest()
    patch.setattr(pretrained, "FASTAI_URL", server.address + "/{}")
    patch.setattr(pretrained, "FASTAI_FILES", {"forward": ("wt103-fwd.tgz", len(server.content), start)})
    return lambda: pretrained.open_pretrained("fastai", "forward")


DOWNLOADS = {
    "aclImdb_v1.tar.gz": prepare_corpus,
    "wikitext-2-train.txt": prepare_texts,
    "wt103-fwd.tgz": prepare_weights,
}
"""what makes ready each kind of download, by the name of its file in the cache"""


def sentence(job: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that a job ends with, after the bars of its downloads."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_job(job)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("jaxft: ")]
    assert line == lines[-1]
    assert line.isprintable()
    assert not [line for line in lines if "Traceback" in line]
    return line


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("wikitext-2-train.txt", 0),
        *(pytest.param(name, 0, marks=pytest.mark.slow) for name in DOWNLOADS if name != "wikitext-2-train.txt"),
        pytest.param("aclImdb_v1.tar.gz", 0.5, marks=pytest.mark.slow),
    ],
)
def test_what_a_hostile_server_sends_is_refused_and_forgotten(
    name, share, behaviour, server, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    job = DOWNLOADS[name](server, monkeypatch)
    if share:  # of the file is there
        (tmp_path / f"{name}.part").write_bytes(server.content[: int(share * len(server.content))])
    server.behaviour = BEHAVIOURS[behaviour]
    with monkeypatch.context() as patch:
        for limit, seconds in (("READ_SECONDS", 0.1), ("ANSWER_SECONDS", 0.15), ("SLOW_SECONDS", 0.1)):
            patch.setattr(download, limit, seconds)
        line = sentence(job, capsys)
    assert server.address in line
    assert "--data" in line or "--pretrained PATH" in line
    left = {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".lock"}
    assert left.keys() <= {f"{name}.part"}
    assert all(size <= len(server.content) for size in left.values())
    server.behaviour = good
    assert job()
    assert (tmp_path / name).read_bytes() == server.content
    assert not (tmp_path / f"{name}.part").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replace_configuration(content: bytes, hub: Hub) -> None:
    hub.files |= dict.fromkeys({"config.json", "model.json"} & hub.files.keys(), content)


HUB_FAULTS: dict[str, Callable[[Hub], Any]] = {
    "configuration that is a web page": partial(replace_configuration, PAGE),
    "weights that are a web page": lambda hub: hub.files.update({"model.safetensors": PAGE}),
    "weights that are cut": lambda hub: hub.files.update({"model.safetensors": hub.files["model.safetensors"][:-4]}),
    "weights that are longer": lambda hub: hub.files.update({"model.safetensors": hub.files["model.safetensors"] * 2}),
    "empty weights": lambda hub: hub.files.update({"model.safetensors": b""}),
    "deep JSON": partial(replace_configuration, b"[" * 99_999),
    "transfer that breaks off": lambda hub: hub.cut.update({"model.safetensors": 100}),
}


@pytest.fixture(params=["checkpoint", "finished model", "finished model without hashes"])
def hub_model(request, tiny_checkpoint, tmp_path, monkeypatch) -> Iterator[tuple[Hub, Callable[[], Any]]]:
    """A hub with a model, and the job that takes it from there."""
    language_model().save(tmp_path / "model")
    is_checkpoint = request.param == "checkpoint"
    files = contents(tiny_checkpoint if is_checkpoint else tmp_path / "model")
    if "without" in request.param:
        del files[CHECKSUMS]
    with serving(Hub(files)) as hub:
        use(hub, tmp_path / "hub", monkeypatch)
        yield hub, lambda: checkpoint_folder("someone/tiny") if is_checkpoint else load("someone/tiny")


def take(job: Callable[[], Any]) -> None:
    """Runs a job, and opens the checkpoint that it finds, as the training jobs do."""
    if isinstance(found := job(), Path):
        open_encoder(found)


@pytest.mark.parametrize("fault", HUB_FAULTS)
def test_a_model_that_the_hub_damages_is_refused_and_forgotten(fault, hub_model, capsys, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the attempts of huggingface_hub
    hub, job = hub_model
    files = dict(hub.files)
    HUB_FAULTS[fault](hub)
    assert "someone/tiny" in sentence(partial(take, job), capsys)
    hub.files, hub.cut = files, {}
    take(job)


def test_a_model_without_files_is_refused(hub_model, capsys):
    hub, job = hub_model
    hub.files.clear()
    assert "0000" in sentence(partial(take, job), capsys)


@pytest.mark.parametrize("name", ["../../../evil.json", "/tmp/jaxft-evil.json", "a/../../../../evil.json"])
def test_a_name_that_leaves_the_folder_writes_nothing_there(name, hub_model, tmp_path, capsys):
    hub, job = hub_model
    hub.files[name] = b'{"evil": true}'
    with suppress(SystemExit):
        run_job(partial(take, job))
    assert not [path for path in (*tmp_path.rglob("*evil*"), Path("/tmp/jaxft-evil.json")) if path.exists()]
    errors = capsys.readouterr().err.splitlines()
    assert len([line for line in errors if line.startswith("jaxft: ")]) <= 1
    assert not [line for line in errors if "Traceback" in line]


@pytest.mark.parametrize("hub_model", ["checkpoint"], indirect=True)
def test_ten_thousand_files_that_are_not_needed_are_not_asked_for(hub_model):
    hub, job = hub_model
    needed = set(hub.files)
    hub.files |= dict.fromkeys((f"part-{number}.json" for number in range(10_000)), b"{}")
    take(job)
    assert set(hub.downloads()) <= needed
