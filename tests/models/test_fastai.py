"""fastai's models, read without torch, answer as fastai does."""

import json
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.errors import InputError
from jaxft.models.fastai import load_classifier, load_language_model, read_state
from jaxft.models.torch_writer import write_state

FASTAI = Path(__file__).parents[1] / "golden" / "fastai"
EXPECTED = json.loads((FASTAI / "expected.json").read_text())
PAD = 1


@pytest.mark.parametrize("name", ["lm_zip.pth", "lm_legacy.pth"])
def test_language_model_answers_as_fastai_over_two_windows(name: str):
    apply, params, vocabulary = load_language_model(FASTAI / name, FASTAI / "itos.pkl")
    carry = None
    for window, logits in zip(EXPECTED["windows"], EXPECTED["logits"], strict=True):
        ours, carry = jax.jit(apply)(params, jnp.array(window), carry)
        np.testing.assert_allclose(ours, np.array(logits), rtol=1e-5, atol=1e-5)
    assert carry is not None
    for (hidden, cell), layer in zip(carry, EXPECTED["carry"], strict=True):
        np.testing.assert_allclose(hidden, np.array(layer[0]), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(cell, np.array(layer[1]), rtol=1e-5, atol=1e-5)
    assert vocabulary.tokens[:3] == ("xxunk", "xxpad", "xxbos")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("width", [31, 45])
@pytest.mark.parametrize("name", ["classifier_1.pth", "classifier_2.pth"])
def test_classifier_answers_as_fastai(name: str, width: int, side: str):
    apply, params, _ = load_classifier(FASTAI / name, FASTAI / "itos.pkl", max_length=40, bptt=8)
    documents = EXPECTED["documents"]
    lengths = [len(document) for document in documents]
    rows = [[PAD] * (width - len(document)) for document in documents]
    tokens = [row + doc if side == "left" else doc + row for row, doc in zip(rows, documents, strict=True)]
    logits = jax.jit(apply)(params, jnp.array(tokens), jnp.array(lengths))
    np.testing.assert_allclose(logits, np.array(EXPECTED["answers"]), rtol=1e-5, atol=1e-5)


def test_a_list_of_tokens_is_a_vocabulary():
    tokens = pickle.loads((FASTAI / "itos.pkl").read_bytes())
    assert load_language_model(FASTAI / "lm_zip.pth", tokens)[2].tokens == tuple(tokens)
    with pytest.raises(InputError, match=r"has 16 tokens and .* embeddings for 17"):
        load_language_model(FASTAI / "lm_zip.pth", tokens[:-1])
    with pytest.raises(InputError, match="lacks the special token xxunk"):
        load_language_model(FASTAI / "lm_zip.pth", tokens[1:])


def test_key_turns_dropout_on():
    apply, params, _ = load_language_model(FASTAI / "lm_zip.pth", FASTAI / "itos.pkl")
    tokens = jnp.array(EXPECTED["windows"][0])
    assert not jnp.allclose(apply(params, tokens)[0], apply(params, tokens, key=jax.random.key(0))[0])


def test_names_everything_that_does_not_fit_in_one_message(tmp_path: Path):
    state = read_state(FASTAI / "lm_zip.pth")
    state["0.rnns.0.module.weight_ih_l0"] = state["0.rnns.0.module.weight_ih_l0"][:, :3]
    state["1.decoder.weight"] = state["1.decoder.weight"] + 1
    state["1.extra"] = state["1.decoder.bias"]
    del state["0.rnns.1.module.bias_hh_l0"], state["1.decoder.bias"]
    write_state(tmp_path / "broken.pth", state)
    with pytest.raises(InputError) as caught:
        load_language_model(tmp_path / "broken.pth", FASTAI / "itos.pkl")
    for part in (
        "1.extra is unknown",
        "1.decoder.weight differs from the encoder/embedding",
        "encoder/lstm_1/bias needs two parts and has 1",
        "nothing fills decoder_bias",
        "encoder/lstm_0/kernel has the shape (3, 40) where (6, 40) fits",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "remove", ["1.layers.0.2.weight", "0.module.rnns.2.weight_hh_l0_raw", "1.layers.1.0.running_var"]
)
def test_a_classifier_with_a_gap_is_refused(tmp_path: Path, remove: str):
    state = read_state(FASTAI / "classifier_2.pth")
    del state[remove]
    write_state(tmp_path / "broken.pth", state)
    with pytest.raises(InputError, match=r"broken\.pth"):
        load_classifier(tmp_path / "broken.pth", FASTAI / "itos.pkl")


def test_refuses_other_files(tmp_path: Path):
    state = read_state(FASTAI / "lm_zip.pth")
    refused: dict[str, Any] = {
        "encoder without its decoder": {"encoder.weight": state["0.encoder.weight"]},
        "holds no AWD-LSTM": {"0.weight": state["0.encoder.weight"]},
        "holds no state_dict": {},
    }
    for words, content in refused.items():
        write_state(tmp_path / "other.pth", content)
        with pytest.raises(InputError, match=words):
            load_language_model(tmp_path / "other.pth", FASTAI / "itos.pkl")
    with pytest.raises(InputError, match="cannot be read"):
        load_language_model(tmp_path / "missing.pth", FASTAI / "itos.pkl")
    (tmp_path / "itos.pkl").write_bytes(pickle.dumps({"film": 0}))
    with pytest.raises(InputError, match="holds no list of tokens"):
        load_language_model(FASTAI / "lm_zip.pth", tmp_path / "itos.pkl")
