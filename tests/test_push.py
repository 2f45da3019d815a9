"""Models on the hub: pushed to and loaded back from a server on this machine that answers as the hub does."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

import jaxft
from jaxft import finetune, pretrain
from jaxft.data.checksums import CHECKSUMS
from jaxft.inference.language_model import TextLanguageModel
from jaxft.language_model.pretrained import open_pretrained
from tests.hub import serving

COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """Repositories that are made and filled by what is uploaded."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.revisions: list[str] = []


class Handler(BaseHTTPRequestHandler):
    @property
    def hub(self) -> Hub:
        assert isinstance(self.server, Hub)
        return self.server

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = f"http://127.0.0.1:{self.hub.server_port}"
        if self.headers.get("Authorization") != "Bearer hf_test":
            self.send_error(401)
        elif self.path == "/api/repos/create":
            request = json.loads(body)
            name = "/".join(filter(None, [request.get("organization"), request["name"]]))
            self.hub.repositories.setdefault(name, {})
            self.hub.private[name] = "private" in (request.get("visibility"), request.get("private") and "private")
            self.reply({"url": f"{address}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self.reply({"warnings": [], "errors": []})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self.reply({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif match := re.match(r"/api/models/(.+)/commit/(\w+)", self.path):
            self.hub.revisions.append(match[2])
            for line in body.decode().splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    content = base64.b64decode(item["value"]["content"])
                    self.hub.repositories[match[1]][item["value"]["path"]] = content
            self.reply({"commitUrl": f"{address}/{match[1]}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.send_error(404)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        name = re.match(r"/(?:api/models/)?([\w-]+/[\w-]+)", self.path)
        known = name is not None and name[1] in self.hub.repositories
        files = self.hub.repositories[name[1]] if name is not None and known else {}
        if self.path.startswith("/api/models/") and known and "/tree/" in self.path:
            tree = [{"type": "file", "path": n, "size": len(c), "oid": COMMIT} for n, c in files.items()]
            self.reply(tree)
        elif self.path.startswith("/api/models/") and known:
            self.reply({"sha": COMMIT, "id": name and name[1], "siblings": [{"rfilename": n} for n in files]})
        elif "/resolve/" in self.path and (content := files.get(self.path.split(f"/{COMMIT}/")[-1])) is not None:
            self.reply(content)
        else:
            self.send_error(404)

    def reply(self, answer):
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def hub():
    with serving(Hub()) as server:
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_checkpoint):
    texts = [f"the film was {word} {i}" for i in range(20) for word in ("fine", "dull")]
    out = tmp_path_factory.mktemp("runs") / "run"
    finetune.fit(texts, ["pos", "neg"] * 20, out=out, model=str(tiny_checkpoint), max_length=16, train={"min_steps": 4})
    return out


@pytest.fixture
def ask(hub, tmp_path):
    """Runs a command of jaxft with the hub of the test."""
    variables = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path)}
    variables |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def run(*arguments, token="hf_test"):
        command = [sys.executable, "-m", "jaxft", *arguments]
        return subprocess.run(command, env={**variables, "HF_TOKEN": token}, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_a_model_is_pushed_with_its_card_and_loaded_back(hub, run, ask):
    refused = ask("push", str(run), "someone/new", token="hf_wrong")
    assert refused.returncode == 2
    assert re.search(
        r"^jaxft: someone/new could not be uploaded \(.*\): log in with `hf auth login`", refused.stderr, re.M
    )
    pushed = ask("push", str(run), "someone/new", "--private")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.strip().endswith("/someone/new")
    assert hub.private == {"someone/new": True}
    files = hub.repositories["someone/new"]
    assert {"README.md", "config.json", "model.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert not [name for name in files if "summary" in name or "predictions" in name or "checkpoint" in name]
    assert 'jaxft.load("someone/new")' in files["README.md"].decode().replace("'", '"')
    predicted = ask("predict", "someone/new", "--text", "the film was fine")
    assert predicted.returncode == 0, predicted.stderr
    assert json.loads(predicted.stdout) == jaxft.load(run).answers(["the film was fine"])[0]
    missing = ask("predict", "someone/else", "--text", "fine")
    assert missing.returncode == 2
    assert "there is no folder someone/else, and no model of this name could be downloaded" in missing.stderr


@pytest.mark.slow
def test_language_models_of_both_directions_are_pushed_and_loaded_back(hub, ask, tmp_path):
    book, out = [f"the film was {word} {i}" for i in range(20) for word in ("fine", "dull")], tmp_path / "run"
    sizes = {"embedding_size": 8, "hidden_size": 12, "num_layers": 1}
    stage = {"epochs": 1, "batch_size": 2, "bptt": 7}
    model = pretrain.fit(book, out=out, direction="both", model=sizes, lm=stage, text={"min_count": 1})
    assert ask("push", str(out), "someone/pair").returncode == 0
    folders = ("language_model", "language_model_backward")
    wanted = {f"{folder}/{name}" for folder in folders for name in ("model.json", "model.safetensors")}
    wanted |= {f"{folder}/{name}" for folder in folders for name in ("vocabulary.json", CHECKSUMS)}
    assert hub.repositories["someone/pair"].keys() == {"README.md", *wanted}
    card = hub.repositories["someone/pair"]["README.md"].decode()
    for part in (
        "A forward and a backward AWD-LSTM language model, trained by `jaxft pretrain`",
        "perplexity, forward",
        "perplexity, backward",
        "jaxft.load('someone/pair')",
        "`jaxft ulmfit --pretrained someone/pair --direction both`",
    ):
        assert part in card
    generated = ask("predict", "someone/pair", "--generate", "the film", "--words", "5")
    assert generated.stdout == model.generate("the film", words=5) + "\n", generated.stderr
    (snapshot,) = (tmp_path / "hub").glob("models--someone--pair/snapshots/*")
    assert isinstance(open_pretrained(str(snapshot), "backward"), TextLanguageModel)
    assert ask("push", str(out / folders[1]), "someone/one").returncode == 0
    assert {"README.md", "model.json"} < hub.repositories["someone/one"].keys()
    card = hub.repositories["someone/one"]["README.md"].decode()
    assert "A backward AWD-LSTM language model" in card
    assert f"| perplexity | {model.summary['language_model_backward']['perplexity']:.4f} |" in card
    assert "`jaxft ulmfit --pretrained someone/one --direction backward`" in card


@pytest.mark.slow
def test_a_language_model_on_the_hub_begins_a_classifier(hub, ask, tmp_path):
    texts = [f"the film was {word} {i}" for i in range(20) for word in ("fine", "dull")]
    stage = {"epochs": 1, "batch_size": 2, "bptt": 7}
    pretrain.fit(
        texts,
        out=tmp_path / "run",
        model={"embedding_size": 8, "hidden_size": 12, "num_layers": 1},
        lm=stage,
        text={"min_count": 1},
    )
    assert ask("push", str(tmp_path / "run"), "someone/language-model").returncode == 0
    rows = "".join(f"{text},{label}\n" for text, label in zip(texts, ["pos", "neg"] * 20, strict=True))
    (tmp_path / "reviews.csv").write_text(f"text,label\n{rows}")

    def train(pretrained, out):
        settings = "--text.min-count 1 --lm.batch-size 2 --lm.bptt 7 --classifier.plan full --no-baseline"
        data = ("--data", str(tmp_path / "reviews.csv"), "--pretrained", pretrained, "--out", str(tmp_path / out))
        return ask("ulmfit", *data, *settings.split())

    done = train("someone/language-model", "hub")
    assert done.returncode == 0, done.stderr
    assert train(str(tmp_path / "run"), "folder").returncode == 0
    weights = [(tmp_path / out / "model/model.safetensors").read_bytes() for out in ("hub", "folder")]
    assert weights[0] == weights[1], "a run and its copy on the hub begin the same classifier"
    missing = train("someone/else", "nothing")
    assert missing.returncode == 2
    assert "no model of this name could be downloaded" in missing.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.slow
def test_the_card_tells_data_scores_with_intervals_use_and_settings(run):
    text = (run / "model/README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    summary = json.loads((run / "summary.json").read_text())
    assert head["library_name"] == "jaxft"
    assert head["pipeline_tag"] == "text-classification"
    (model,) = head["model-index"]
    metrics = {metric["type"]: metric for metric in model["results"][0]["metrics"]}
    assert metrics["accuracy"]["value"] == pytest.approx(summary["test"]["accuracy"], abs=1e-6)
    assert metrics["accuracy"]["args"]["interval_95"] == pytest.approx(summary["test"]["accuracy_interval"], abs=1e-6)
    for part in (
        "| train | 32 |",
        "2 classes: neg, pos",
        "TF-IDF + logistic regression",
        "jaxft.load(",
        '"min_steps": 4',
    ):
        assert part in text


def test_what_is_no_finished_model_is_not_pushed(tmp_path, monkeypatch):
    from jaxft import push
    from jaxft.errors import InputError

    with pytest.raises(InputError, match="holds no finished model"):
        push.main([str(tmp_path), "someone/new"])
