"""Models by their name on the hub, against a server on this machine that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """A hub with the files of one model, someone/tiny, to which others may upload."""

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.requests: list[str] = []

    def downloads(self) -> int:
        """The number of files that were asked for."""
        return len([request for request in self.requests if request.startswith("GET") and "/resolve/" in request])


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
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/someone/tiny/tree/"):
            tree = [{"type": "file", "path": n, "size": len(c), "oid": COMMIT} for n, c in files.items()]
            self.reply(json.dumps(tree).encode(), "application/json")
        elif self.path.startswith("/api/models/someone/tiny"):
            body = {"sha": COMMIT, "id": "someone/tiny", "siblings": [{"rfilename": name} for name in files]}
            self.reply(json.dumps(body).encode(), "application/json")
        elif "/resolve/" in self.path and name in files:
            self.reply(files[name], "application/octet-stream")
        else:
            self.send_error(404)

    def reply(self, content: bytes, kind: str):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def hub(tiny_checkpoint):
    files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()} | {"pytorch_model.bin": b"no"}
    with Hub(files) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def test_a_model_on_the_hub_is_downloaded_once_without_what_is_not_needed(hub, tmp_path):
    variables = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path)}
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
