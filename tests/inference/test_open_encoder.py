"""What every job checks when it opens a checkpoint: the model's type, its tokenizer, and that both belong together."""

import io
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxft
from jaxft.data.checksums import CHECKSUMS
from jaxft.errors import InputError
from jaxft.finetune.inputs import read_inputs as read_finetune
from jaxft.finetune.settings import parse as parse_finetune
from jaxft.inference.encoder import EncoderModel
from jaxft.inference.open_encoder import open_encoder
from jaxft.ner.inputs import read_inputs as read_ner
from jaxft.ner.settings import parse as parse_ner
from tests.checkpoints import ROWS, SPECIAL, fast_tokenizer, write_checkpoint, write_json, write_tokenizer


def change_tokenizer(folder: Path, *added: str, special: tuple[str, ...] = (), size: int = ROWS) -> None:
    """Fills the vocabulary of a tokenizer up to `size` pieces and adds more."""
    tokenizer = fast_tokenizer("wordpiece")
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"[unused{number}]": number for number in range(len(vocabulary), size)}
    tokenizer = tokenizer.from_str(json.dumps(content))
    tokenizer.add_tokens(list(added))
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(folder / "tokenizer.json"))


def open_for_finetune(folder: Path, tmp_path: Path) -> Any:
    rows = "".join(f"good film {i},pos\nbad film {i},neg\n" for i in range(10))
    (tmp_path / "texts.csv").write_text(f"text,label\n{rows}")
    flags = ["--data", str(tmp_path / "texts.csv"), "--model", str(folder), "--max-length", "16"]
    return read_finetune(parse_finetune(flags))


def open_for_ner(folder: Path, tmp_path: Path) -> Any:
    (tmp_path / "tags.train").write_text("".join(f"ada B-PER\nin O\n{i} O\n\n" for i in range(10)))
    flags = ["--data", str(tmp_path / "tags"), "--encoder", str(folder), "--max-length", "16"]
    return read_ner(parse_ner(flags))


def load_finished(folder: Path, tmp_path: Path) -> Any:
    plain = write_checkpoint(tmp_path / "plain")
    EncoderModel(*open_encoder(plain, 2), "classification", ("a", "b"), 16).save(tmp_path / "model")
    for file in folder.glob("token*"):
        shutil.copy(file, tmp_path / "model")
    (tmp_path / "model" / CHECKSUMS).unlink()
    return jaxft.load(tmp_path / "model")


OPENERS = [open_for_finetune, open_for_ner, load_finished]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("change", "piece"),
    [
        ({"added": ("ada lovelace",)}, "'ada lovelace' with the number 320"),
        ({"size": ROWS + 3}, r"'\[unused320\]' with the number 320"),
        ({"added": ("one", "two"), "special": ("[ENT]",)}, "'one' with the number 320"),
    ],
)
def test_a_piece_without_a_row_of_the_embeddings_is_refused_by_every_job(opener, change, piece, tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint")
    change_tokenizer(folder, *change.get("added", ()), **{k: v for k, v in change.items() if k != "added"})
    with pytest.raises(InputError, match=rf"has the piece {piece} and the model only 320 pieces: name a folder"):
        opener(folder, tmp_path)


@pytest.mark.parametrize("opener", OPENERS)
def test_special_pieces_without_a_row_that_no_text_needs_are_read_as_plain_text(opener, tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint")
    change_tokenizer(folder, special=("[ENT]",))
    tokenizer = opener(folder, tmp_path).tokenizer
    assert len(tokenizer) > ROWS
    assert max(tokenizer("good [ENT] film")["input_ids"]) < ROWS


def test_the_answers_of_a_model_with_such_pieces_are_finite(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint")
    change_tokenizer(folder, special=("[ENT]",))
    model = load_finished(folder, tmp_path)
    assert np.isfinite(model.scores(["good [ENT] film", "", "[ENT]"])).all()


def test_a_separator_without_a_row_is_refused(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint")
    change_tokenizer(folder, special=("<end>",))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", settings | {"sep_token": "<end>"})
    with pytest.raises(InputError, match="has the piece '<end>' with the number 320"):
        open_encoder(folder)


def test_a_text_without_pieces_is_one_unknown_piece_and_answered(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", tokenizer="no cls")
    encoder, tokenizer = open_encoder(folder, 2, pooling="mean")
    model = EncoderModel(encoder, tokenizer, "classification", ("a", "b"), 16)
    assert np.isfinite(model.scores(["", "good", "\u200b"])).all()


@pytest.mark.parametrize("architecture", ["roberta", "distilbert"])
def test_a_pair_is_read_where_the_model_has_one_type_of_token(architecture, tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", architecture, type_vocab_size=1)
    if architecture == "roberta":
        state = load_file(folder / "model.safetensors")
        state["embeddings.token_type_embeddings.weight"] = state["embeddings.token_type_embeddings.weight"][:1].copy()
        save_file(state, folder / "model.safetensors")
    encoder, tokenizer = open_encoder(folder, 2)
    assert tokenizer("good", "film", return_token_type_ids=True)["token_type_ids"][-1] == 1
    model = EncoderModel(encoder, tokenizer, "classification", ("a", "b"), 16, pairs=True)
    assert np.isfinite(model.scores([("good", "film")])).all()


CANARY = "import pathlib\npathlib.Path({!r}).touch()\nclass Tokenizer:\n    pass\n"


@pytest.mark.parametrize("model_type", ["bert", "mine", None])
@pytest.mark.parametrize("tokenizer_class", ["BertTokenizer", "Tokenizer"])
@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("opener", OPENERS)
def test_code_in_a_checkpoint_is_never_run_nor_asked_about(
    opener, files, tokenizer_class, model_type, tmp_path, monkeypatch
):
    folder = write_checkpoint(tmp_path / "checkpoint", tokenizer="wordpiece" if "json" in files else "vocab.txt")
    auto = {"AutoTokenizer": ["canary.Tokenizer", "canary.Tokenizer"], "AutoConfig": "canary.Tokenizer"}
    config = json.loads((folder / "config.json").read_text()) | {"model_type": model_type}
    write_json(folder / "config.json", config | {"auto_map": auto})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": tokenizer_class, "auto_map": auto})
    (folder / "canary.py").write_text(CANARY.format(str(tmp_path / "ran")))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    monkeypatch.setattr("builtins.input", lambda *prompt: pytest.fail("it asks"))
    try:
        opener(folder, tmp_path)
    except InputError as error:
        message = str(error)
        assert "trust_remote_code" not in message
        assert model_type == "bert" or opener is load_finished or "type" in message
    else:
        assert model_type == "bert" or opener is load_finished
    assert not (tmp_path / "ran").exists()
    assert sys.stdin.read(2) == "y\n"


def test_the_type_of_the_model_is_checked_before_the_tokenizer_is_read(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", tokenizer=None, model_type="gpt2")
    with pytest.raises(InputError, match="of type 'gpt2'"):
        open_encoder(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hidden_size": "8"}, "with hidden_size '8'"), ({"is_decoder": True}, "is_decoder true"), ({"n": 1}, "")],
)
def test_the_configuration_is_not_taken_for_a_fault_of_the_tokenizer(changes, message, tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", **changes)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": "x"}')
    with pytest.raises(InputError, match=message or "holds no tokenizer that can be read"):
        open_encoder(folder)


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
def test_a_tokenizer_of_sentencepiece_alone_says_what_it_needs(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", "deberta-v2", tokenizer=None)
    (folder / "spm.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    with pytest.raises(InputError, match=r"as spm\.model, which needs the package sentencepiece .*: install it"):
        open_encoder(folder)
    write_tokenizer(folder, "unigram")
    assert open_encoder(folder)[1]("good")["input_ids"]


def test_a_vocabulary_without_any_piece_is_refused(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint", tokenizer="vocab.txt")
    (folder / "vocab.txt").write_text("")
    with pytest.raises(InputError, match="holds no tokenizer that can be read"):
        open_encoder(folder)


def test_a_folder_whose_class_says_the_model_opens_with_its_tokenizer(tmp_path):
    folder = write_checkpoint(
        tmp_path / "checkpoint", tokenizer="vocab.txt", model_type=None, architectures=["BertModel"]
    )
    encoder, tokenizer = open_encoder(folder)
    assert (encoder.settings["model_type"], type(tokenizer).__name__) == ("bert", "BertTokenizer")
    assert tokenizer("good")["input_ids"] == [2, tokenizer.get_vocab()["good"], 3]
    assert SPECIAL[2] in tokenizer.all_special_tokens
