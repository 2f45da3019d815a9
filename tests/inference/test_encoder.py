"""A saved encoder: a checkpoint of transformers that answers each text alike, and what is no model is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import jaxft
from jaxft import predict
from jaxft.data.pieces import load_tokenizer
from jaxft.errors import InputError
from jaxft.inference.encoder import EncoderModel
from jaxft.models.bert import open_checkpoint


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


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
def test_saving_gives_back_the_names_and_numbers_of_transformers(kind, tiny_checkpoint, tmp_path):
    golden = Path(__file__).parents[1] / "golden/bert" / kind
    encoder = open_checkpoint(golden)
    EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("a", "b", "c"), 20).save(tmp_path)
    theirs, ours = load_file(golden / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert theirs.keys() == ours.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)


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
    with pytest.raises(InputError, match="does not describe a model"):
        jaxft.load(copy)
