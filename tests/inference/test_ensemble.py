"""An ensemble: the mean of its models' scores, and a folder that keeps their names and order."""

import json
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

import jaxft
from jaxft.data.document import Direction
from jaxft.data.pieces import load_tokenizer
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.encoder import EncoderModel
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.text_classifier import TextClassifier
from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.models.encoders import open_checkpoint
from jaxft.models.heads import Classifier
from jaxft.models.options import NO_DROPOUT

TEXTS = ["the film was good", "bad", "the the film"]


def classifier(direction: Direction, seed: int) -> TextClassifier:
    words = ("xxunk", "xxpad", "xxbos", "the", "film", "good", "bad")
    config = AWDLSTMConfig(len(words), 4, 6, 1)
    module = Classifier(config, 2, NO_DROPOUT, nnx.Rngs(seed), head_hidden=5, max_length=12, bptt=4)
    params, statistics = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))
    return TextClassifier(config, ("neg", "pos"), 5, 12, 4, Vocabulary(words), params, statistics, direction)


@pytest.fixture
def classifiers() -> Ensemble:
    return Ensemble({"forward": classifier("forward", 0), "backward": classifier("backward", 1)})


@pytest.fixture
def encoders(tiny_checkpoint: Path) -> Ensemble:
    tokenizer = load_tokenizer(tiny_checkpoint)
    models = (open_checkpoint(tiny_checkpoint, 2, seed=seed, new_head=True) for seed in (0, 1))
    made = (EncoderModel(encoder, tokenizer, "multilabel", ("a", "b"), 20, pairs=True) for encoder in models)
    return Ensemble(dict(zip(("fold_1", "fold_2"), made, strict=True)))


def test_classifiers_are_averaged_and_come_back(classifiers: Ensemble, tmp_path: Path):
    forward, backward = (model.scores(TEXTS) for model in classifiers.models.values())
    assert not np.allclose(forward, backward)
    np.testing.assert_array_equal(classifiers.scores(TEXTS), np.mean([forward, backward], axis=0))
    assert classifiers.predict(TEXTS) == [classifiers.classes[i] for i in (forward + backward).argmax(axis=1)]
    classifiers.save(tmp_path / "model")
    description = json.loads((tmp_path / "model/model.json").read_text())
    assert description == {"kind": "ulmfit-ensemble", "members": ["forward", "backward"]}
    again = jaxft.load(tmp_path)
    assert isinstance(again, Ensemble)
    assert (list(again.models), again.pairs) == (["forward", "backward"], False)
    np.testing.assert_array_equal(again.scores(TEXTS), classifiers.scores(TEXTS))


def test_encoders_are_averaged_and_come_back(encoders: Ensemble, tmp_path: Path):
    pairs = [("the film", "was good"), ("bad", "film")]
    encoders.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    assert description == {"kind": "encoder-ensemble", "members": ["fold_1", "fold_2"]}
    again = jaxft.load(tmp_path)
    assert (again.task, again.classes, again.pairs) == ("multilabel", ("a", "b"), True)
    scores = encoders.scores(pairs)
    np.testing.assert_array_equal(again.scores(pairs), scores)
    assert again.predict(pairs) == [[name for name, p in zip("ab", row, strict=True) if p >= 0.5] for row in scores]


def test_a_warning_of_empty_texts_names_the_line_of_the_caller(classifiers: Ensemble):
    for ask in (classifiers.predict, classifiers.predict_proba, classifiers.models["forward"].predict):
        with pytest.warns(UserWarning, match="1 of 2 texts are empty") as told:
            ask(["good", ""])
        assert told[0].filename == __file__


@pytest.mark.parametrize("names", [[], ["forward", "sideways"], None])
def test_a_damaged_ensemble_is_refused(classifiers: Ensemble, tmp_path: Path, names: list[str] | None):
    classifiers.save(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"kind": "ulmfit-ensemble", "members": names}))
    with pytest.raises(InputError, match=r"model\.json"):
        jaxft.load(tmp_path)


def test_a_model_of_an_unknown_kind_is_refused(tmp_path: Path):
    (tmp_path / "model.json").write_text('{"kind": "oracle"}')
    with pytest.raises(InputError, match=r"does not describe a model \(the kind 'oracle'\)"):
        jaxft.load(tmp_path)
