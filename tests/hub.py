"""A server on this machine that answers as the Hugging Face hub does, for one model."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest
from huggingface_hub import close_session, constants

COMMIT = "0" * 40
Server = TypeVar("Server", bound=ThreadingHTTPServer)


class Hub(ThreadingHTTPServer):
    """A hub with the files of one model, someone/tiny.

    Args:
        files: contents by name.
        cut: bytes after which the server breaks off a file, by name.
    """

    def __init__(self, files: dict[str, bytes], cut: dict[str, int] | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut = files, cut or {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def downloads(self) -> list[str]:
        """The files that were asked for."""
        asked = [request for request in self.requests if request.startswith("GET") and "/resolve/" in request]
        return [request.split(f"/{COMMIT}/")[-1] for request in asked]


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        server = self.server
        assert isinstance(server, Hub)
        files = server.files
        server.requests.append(f"{self.command} {self.path}")
        name = self.path.split(f"/{COMMIT}/")[-1]
        if self.path.startswith("/api/models/someone/tiny/tree/"):
            tree = [{"type": "file", "path": n, "size": len(c), "oid": COMMIT} for n, c in files.items()]
            self.reply(json.dumps(tree).encode(), "application/json")
        elif self.path.startswith("/api/models/someone/tiny"):
            body = {"sha": COMMIT, "id": "someone/tiny", "siblings": [{"rfilename": name} for name in files]}
            self.reply(json.dumps(body).encode(), "application/json")
        elif "/resolve/" in self.path and name in files:
            self.reply(files[name], "application/octet-stream", server.cut.get(name))
        else:
            self.send_error(404)

    def reply(self, content: bytes, kind: str, cut: int | None = None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:cut])

    def log_message(self, format, *args):
        pass


@contextmanager
def serving(hub: Server) -> Iterator[Server]:
    """Answers requests in the `with` block."""
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        close_session()  # which keeps a connection, else to be closed in another test
        hub.shutdown()
        hub.server_close()
        thread.join()


def use(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets this process take models from a hub, and keep them in a cache of its own."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
