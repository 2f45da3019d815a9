"""A saved encoder: a checkpoint of transformers that answers each text alike, and what is no model is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxft
from jaxft import predict
from jaxft.data.checksums import CHECKSUMS
from jaxft.data.pieces import load_tokenizer
from jaxft.errors import InputError
from jaxft.inference.encoder import EncoderModel
from jaxft.models import load_encoder
from jaxft.models.encoders import open_checkpoint

OTHERS = (
    *("roberta", "electra", "distilbert", "albert", "mpnet", "deberta", "deberta-own-keys"),
    *("modernbert", "modernbert-biases"),
)


@pytest.fixture(scope="module")
def folder(tiny_checkpoint, tmp_path_factory) -> Path:
    """The folder of a model of two classes, whose head is large enough to tell texts apart."""
    folder = tmp_path_factory.mktemp("encoder") / "model"
    encoder, tokenizer = open_checkpoint(tiny_checkpoint, 2), load_tokenizer(tiny_checkpoint)
    out = {**encoder.params["head"]["out"], "kernel": 50 * encoder.params["head"]["out"]["kernel"]}
    encoder = replace(encoder, params={**encoder.params, "head": {"out": out}})
    EncoderModel(encoder, tokenizer, "classification", ("neg", "pos"), 20).save(folder)
    return folder


def test_predictions_keep_their_order_and_do_not_depend_on_batch_mates(folder):
    model = jaxft.load(folder)
    texts = ["it was good", "bad film", "the film was so very very very very great", "dull"]
    scores = model.scores(texts)
    np.testing.assert_allclose(scores, np.concatenate([model.scores([text]) for text in texts]), atol=1e-5)
    assert np.ptp(scores[:, 0]) > 1e-3
    assert model.predict(texts) == [model.classes[i] for i in scores.argmax(axis=1)]


@pytest.mark.slow
def test_a_model_that_reads_windows_sees_the_end_of_a_long_text(folder, tmp_path):
    model = replace(jaxft.load(folder), max_length=8, long_texts="windows")
    model.save(tmp_path)
    saved, cut = jaxft.load(tmp_path), replace(model, long_texts="cut")
    start = "the film was so good "
    texts = [start * 3, start * 3 + "bad dull poor", "good"]
    np.testing.assert_array_equal(saved.scores(texts), model.scores(texts))
    assert np.ptp(cut.scores(texts[:2]), axis=0).max() < 1e-6 < 1e-4 < np.ptp(model.scores(texts[:2]), axis=0).max()
    np.testing.assert_allclose(model.scores(texts[2:]), cut.scores(texts[2:]), atol=1e-6)


def test_a_label_counts_from_its_own_threshold(tiny_checkpoint, tmp_path):
    encoder = open_checkpoint(tiny_checkpoint, 2)
    model = EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "multilabel", ("a", "b"), 16, thresholds=(0.0, 1.0))
    model.save(tmp_path)
    assert jaxft.load(tmp_path).predict(["good film"]) == [["a"]]
    assert replace(model, thresholds=()).predict(["good film"]) in ([[]], [["a"]], [["b"]], [["a", "b"]])
    description = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**description, "thresholds": [0.5]}))
    with pytest.raises(InputError):
        jaxft.load(tmp_path)


def test_the_model_is_a_checkpoint_of_transformers(folder):
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.id2label, config.problem_type) == (
        "bert",
        {0: "neg", 1: "pos"},
        "single_label_classification",
    )
    assert config.architectures == ["BertForSequenceClassification"]
    assert AutoTokenizer.from_pretrained(folder)("good film")["input_ids"] == [2, 10, 7, 3]
    assert "classifier.weight" in load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", ["bert", *OTHERS])
def test_saving_gives_back_the_names_and_numbers_of_transformers(kind, tiny_checkpoint, tmp_path):
    golden = Path(__file__).parents[1] / "golden/bert" / kind
    encoder = open_checkpoint(golden)
    EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("a", "b", "c"), 20).save(tmp_path)
    theirs, ours = load_file(golden / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert theirs.keys() == ours.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


@pytest.mark.parametrize("kind", ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_pooled_model_answers_alike_once_saved_and_is_an_encoder_of_transformers(
    kind, pooling, tiny_checkpoint, tmp_path
):
    encoder = open_checkpoint(Path(__file__).parents[1] / "golden/bert" / kind, 2, new_head=True, pooling=pooling)
    model = EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("a", "b"), 16)
    model.save(tmp_path)
    texts = ["it was good", "the film was so very very dull"]
    np.testing.assert_array_equal(jaxft.load(tmp_path).scores(texts), model.scores(texts))
    assert open_checkpoint(tmp_path, 2, pooling=None).config.pooling == pooling
    config = json.loads((tmp_path / "config.json").read_text())
    has_head = config["model_type"] == "modernbert" and pooling == "mean"
    assert config["architectures"][0].endswith("ForSequenceClassification" if has_head else "Model")
    assert not has_head or config["classifier_pooling"] == "mean"


@pytest.mark.parametrize("kind", ["bert", "deberta", "modernbert"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_the_public_door_opens_a_saved_model_as_it_was_trained(kind, pooling, tiny_checkpoint, tmp_path):
    encoder = open_checkpoint(Path(__file__).parents[1] / "golden/bert" / kind, 2, new_head=True, pooling=pooling)
    EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("a", "b"), 16).save(tmp_path)
    ids = np.array([[5, 6, 7, 8, 9], [3, 2, 4, 0, 0]])
    apply, params = load_encoder(tmp_path)
    logits = jax.jit(encoder.apply)(encoder.params, ids, ids > 0)["logits"]
    np.testing.assert_array_equal(jax.jit(apply)(params, ids, ids > 0)["logits"], logits)


def test_half_precision_of_a_checkpoint_is_not_claimed_of_what_is_saved(tiny_checkpoint, tmp_path):
    encoder = open_checkpoint(tiny_checkpoint, 2)
    encoder = replace(encoder, settings={**encoder.settings, "torch_dtype": "float16"})
    EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("a", "b"), 20).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert "torch_dtype" not in config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "good", "--pair", "film"], "reads single texts"),
        (["--input", "a.csv", "--pair", "film"], "--pair is given without --text"),
        (["--text", "\udcff"], "not UTF-8"),
    ],
)
def test_predict_refuses_what_the_model_does_not_read(folder, arguments, message):
    with pytest.raises(InputError, match=message):
        predict.main([str(folder), *arguments])


@pytest.mark.parametrize("wrong", [{"max_length": 9999}, {"precision": "x"}, {"task": "x"}, {"max_length": 0}])
def test_a_wrong_description_is_refused(folder, tmp_path, wrong):
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    description = json.loads((folder / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps({**description, **wrong}))
    (copy / CHECKSUMS).unlink()
    with pytest.raises(InputError, match="does not describe a model"):
        jaxft.load(copy)
