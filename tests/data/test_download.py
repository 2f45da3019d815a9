"""Downloads against a server on this machine: whole, broken off and continued, wrong, refused."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from jaxft.base.files import cache_folder
from jaxft.data import corpus, download
from jaxft.data.corpus import open_corpus
from jaxft.data.download import fetch
from jaxft.errors import InputError

CONTENT = bytes(range(256)) * 2000
INSTEAD = "--data PATH, or --data demo"
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Server:
    """What the server does next, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    status: int = 200
    ranges: bool = True  # whether Range is understood
    cut_after: int | None = None  # bytes, then the connection is closed
    stall: threading.Event = field(default_factory=threading.Event)  # set: no answer until it is cleared
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers["Range"]
            state.asked.append(asked)
            if state.stall.is_set():
                done.wait(10)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start and start >= len(state.content):
                self.send_error(416)
                return
            if state.status != 200:
                self.send_error(state.status)
                return
            self.send_response(206 if start else 200)
            body = state.content[start:]
            self.send_header("Content-Length", str(len(body)))
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: state.cut_after])

        def log_message(self, format, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_port}/a.bin"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    done.set()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return tmp_path / "cache"


def refusal(url: str, md5: str = MD5) -> str:
    with pytest.raises(InputError) as caught:
        fetch(url, md5, name="a.bin", instead=INSTEAD)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


def test_a_file_is_downloaded_once(server, empty_cache, capfd):
    path = fetch(server.url, MD5, name="a.bin", instead=INSTEAD)
    assert path == empty_cache / "a.bin"
    assert path.read_bytes() == CONTENT
    assert "Downloading a.bin: 100%" in capfd.readouterr().err
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD) == path
    assert server.asked == [None]
    assert files(empty_cache) == ["a.bin"]


def test_a_broken_transfer_is_continued(server, empty_cache):
    server.cut_after = 200_000
    message = refusal(server.url)
    assert "the transfer broke off" in message
    assert "run the same command again to continue after 0.2 MB" in message
    assert (empty_cache / "a.bin.part").read_bytes() == CONTENT[:200_000]
    server.cut_after = None
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=200000-"]
    assert files(empty_cache) == ["a.bin"]


def test_a_server_that_ignores_ranges_sends_all_again(server, empty_cache):
    server.ranges = False
    empty_cache.mkdir()
    (empty_cache / "a.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD).read_bytes() == CONTENT


def test_a_part_that_is_whole_is_taken(server, empty_cache):
    empty_cache.mkdir()
    (empty_cache / "a.bin.part").write_bytes(CONTENT)
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_wrong_hash_leaves_nothing_behind(server, empty_cache):
    server.content = CONTENT[:-1] + b"?"
    message = refusal(server.url)
    assert f"another md5 hash than {MD5}" in message
    assert "--data PATH" in message
    assert files(empty_cache) == []
    server.content = CONTENT
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD).read_bytes() == CONTENT


@pytest.mark.parametrize("start", [1000, len(CONTENT) + 5])
def test_parts_that_do_not_fit_together_are_downloaded_anew(server, empty_cache, start):
    empty_cache.mkdir()
    (empty_cache / "a.bin.part").write_bytes(b"x" * start)
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD).read_bytes() == CONTENT
    assert server.asked == [f"bytes={start}-", None]
    assert files(empty_cache) == ["a.bin"]


def test_a_damaged_file_in_the_cache_is_replaced(server, empty_cache):
    empty_cache.mkdir()
    (empty_cache / "a.bin").write_bytes(CONTENT[:5000])
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD).read_bytes() == CONTENT


def test_bytes_arrive_as_they_are_whatever_the_server_calls_them(server):
    server.headers["Content-Encoding"] = "x-gzip"
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_http_errors_keep_what_is_there(server, empty_cache, status, reason):
    empty_cache.mkdir()
    (empty_cache / "a.bin.part").write_bytes(CONTENT[:300_000])
    server.status = status
    message = refusal(server.url)
    assert f"the server answers {reason}" in message
    assert "--data PATH" in message
    assert "--data demo" in message
    assert files(empty_cache) == ["a.bin.part"]


def test_a_server_that_says_nothing_is_given_up(server, monkeypatch):
    monkeypatch.setattr(download, "READ_SECONDS", 0.2)
    server.stall.set()
    assert "the server does not answer" in refusal(server.url)


def test_no_network_names_the_ways_out(server, monkeypatch):
    monkeypatch.setattr(corpus, "IMDB_URL", "http://127.0.0.1:1/aclImdb_v1.tar.gz")
    with pytest.raises(InputError, match="no connection to the server") as caught:
        open_corpus("imdb")
    assert "--data PATH" in str(caught.value)
    assert "--data demo" in str(caught.value)


def test_an_unknown_name_says_that_there_may_be_no_network(monkeypatch):
    def no_names(*_, **__):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    message = refusal("http://ai.stanford.edu/a.bin")
    assert "its name cannot be looked up, so there is probably no network" in message
    assert "--data demo" in message


def test_a_cache_that_cannot_be_written(server, empty_cache):
    empty_cache.write_text("a file where the folder should be")
    assert "set JAXFT_CACHE" in refusal(server.url)


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXFT_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("JAXFT_CACHE")
    assert cache_folder().name == "jaxft"


def test_certificates_are_checked_and_reasons_are_short():
    certificate = requests.exceptions.SSLError("a page of details")
    assert download._reason(certificate) == "its certificate cannot be checked"
    assert download._reason(requests.exceptions.ProxyError("407")) == "the proxy refuses it"


START = hashlib.md5(CONTENT[: 2**20]).hexdigest()


def test_the_start_and_the_size_are_enough_to_know_a_file_by(server, empty_cache):
    path = fetch(server.url, START, name="a.bin", instead=INSTEAD, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    with pytest.raises(InputError, match="the server's file has 512,000 bytes instead of 512,001"):
        fetch(server.url, START, name="b.bin", instead=INSTEAD, size=len(CONTENT) + 1)
    with pytest.raises(InputError, match="another md5 hash"):
        fetch(server.url, "0" * 32, name="b.bin", instead=INSTEAD, size=len(CONTENT))
    assert files(empty_cache) == ["a.bin", "a.bin.sha256"]
    path.write_bytes(CONTENT[:-1])
    assert fetch(server.url, START, name="a.bin", instead=INSTEAD, size=len(CONTENT)).read_bytes() == CONTENT


@pytest.mark.parametrize("has_record", [True, False])
def test_a_file_that_changes_in_the_cache_after_its_start_is_found(server, empty_cache, has_record, monkeypatch):
    monkeypatch.setattr(download, "START", 1000)
    start = hashlib.md5(CONTENT[:1000]).hexdigest()
    path = fetch(server.url, start, name="a.bin", instead=INSTEAD, size=len(CONTENT))
    record = empty_cache / "a.bin.sha256"
    assert record.read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  a.bin\n"
    if not has_record:  # as in a cache of an earlier version
        record.unlink()
        fetch(server.url, start, name="a.bin", instead=INSTEAD, size=len(CONTENT))
    path.write_bytes(CONTENT[:-1] + b"?")
    assert fetch(server.url, start, name="a.bin", instead=INSTEAD, size=len(CONTENT)).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_sha256_is_of_the_whole_file(server, empty_cache):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(InputError, match=f"another sha256 hash than {sha256} and was removed"):
        fetch(server.url, sha256, name="a.bin", instead=INSTEAD, size=len(CONTENT))
    server.content = CONTENT
    assert fetch(server.url, sha256, name="a.bin", instead=INSTEAD, size=len(CONTENT)).read_bytes() == CONTENT
    assert files(empty_cache) == ["a.bin"]


def test_two_at_once_download_a_file_once(server, empty_cache):
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: fetch(server.url, MD5, name="a.bin", instead=INSTEAD), range(4)))
    assert server.asked == [None]
    assert files(empty_cache) == ["a.bin"]


def test_a_full_disk_is_freed_and_named(server, empty_cache):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(InputError, match=r"has no room for a\.bin") as caught:
            fetch(server.url, MD5, name="a.bin", instead=INSTEAD, size=len(CONTENT))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(empty_cache) in str(caught.value)
    assert "free 0.5 MB, or set JAXFT_CACHE" in str(caught.value)
    assert files(empty_cache) == []
    assert fetch(server.url, MD5, name="a.bin", instead=INSTEAD, size=len(CONTENT)).read_bytes() == CONTENT


def test_an_answer_that_comes_too_late_is_closed(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.05)
    given_up, closed = threading.Event(), threading.Event()

    def get(*arguments, **named):
        assert given_up.wait(10)
        return SimpleNamespace(close=closed.set)

    monkeypatch.setattr(requests, "get", get)
    assert "the server does not answer" in refusal("http://127.0.0.1:9/a.bin")
    given_up.set()
    assert closed.wait(10)
