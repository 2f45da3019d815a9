"""Models that came from fastai go back to it unchanged, and ours go there too."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from jaxft import export
from jaxft.data.document import Direction
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.tagger import EntityTagger
from jaxft.inference.text_classifier import TextClassifier
from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.models.fastai import load_classifier, load_language_model, read_state, read_vocabulary
from jaxft.models.fastai_export import classifier_state, language_model_state
from jaxft.models.heads import Classifier
from jaxft.models.options import NO_DROPOUT

FASTAI = Path(__file__).parent / "golden" / "fastai"
EXPECTED = json.loads((FASTAI / "expected.json").read_text())


def summed(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With the two biases of each layer in one, which is all that an LSTM sees of them."""
    kept = {key: value for key, value in state.items() if "bias_hh_l0" not in key}
    return {
        key: value + state[key.replace("_ih_", "_hh_")] if "bias_ih_l0" in key else value for key, value in kept.items()
    }


def test_a_language_model_goes_there_and_back_unchanged():
    _, params, _ = load_language_model(FASTAI / "lm_zip.pth", FASTAI / "itos.pkl")
    theirs, ours = read_state(FASTAI / "lm_zip.pth"), language_model_state(params)
    assert list(ours) == list(theirs)
    for key, value in summed(theirs).items():
        np.testing.assert_array_equal(summed(ours)[key], value)


def test_a_classifier_goes_there_and_back_unchanged():
    _, params, _ = load_classifier(FASTAI / "classifier_2.pth", FASTAI / "itos.pkl")
    theirs, ours = read_state(FASTAI / "classifier_2.pth"), classifier_state(**params)
    assert list(ours) == list(theirs)
    for key, value in summed(theirs).items():
        np.testing.assert_allclose(summed(ours)[key], value, atol=1e-7)


def classifier(direction: Direction = "forward", seed: int = 0) -> TextClassifier:
    config = AWDLSTMConfig(9, 5, 7, 2)
    model = Classifier(config, 3, NO_DROPOUT, nnx.Rngs(seed), head_hidden=4)
    params, statistics = (nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat))
    key = jax.random.key(seed)
    params["head"] = jax.tree.map(lambda x: jax.random.normal(key, x.shape), params["head"])  # biases are not zero
    tokens = ("xxunk", "xxpad", "xxbos", *"abcdef")
    return TextClassifier(config, ("x", "y", "z"), 4, 40, 8, Vocabulary(tokens), params, statistics, direction)


@pytest.mark.slow
def test_biases_that_fastai_does_not_have_are_kept(tmp_path: Path):
    model = classifier()
    model.save(tmp_path / "run/model")
    export.main([str(tmp_path / "run"), "--output", str(tmp_path / "out")])
    tmp_path = tmp_path / "out"
    apply, params, vocabulary = load_classifier(tmp_path / "classifier.pth", tmp_path / "itos.pkl", 40, 8)
    assert not np.any(params["params"]["head"]["linear_0"]["bias"])
    assert vocabulary == model.vocabulary
    tokens = jax.random.randint(jax.random.key(0), (6, 20), 2, 9)
    lengths = np.array([20, 3, 7, 1, 12, 20], np.int32)
    tokens = np.where(np.arange(20)[None, :] >= 20 - lengths[:, None], tokens, 1)
    ours = model.logits(model.params, model.statistics, None, {"tokens": tokens, "lengths": lengths})
    np.testing.assert_allclose(apply(params, tokens, lengths), ours, rtol=1e-4, atol=1e-4)


def test_a_head_that_fastai_cannot_express_is_refused():
    model = classifier()
    model.params["head"]["linear_1"]["kernel"] = np.zeros((4, 3), np.float32)
    with pytest.raises(InputError, match=r"linear layer 1 .* do not have the rank"):
        classifier_state(model.params, model.statistics)


def test_the_command_exports_every_model_of_a_run(tmp_path: Path, capsys):
    members = classifier(), classifier("backward", 1)
    Ensemble({"forward": members[0], "backward": members[1]}).save(tmp_path / "run/model")
    _, params, vocabulary = load_language_model(FASTAI / "lm_zip.pth", FASTAI / "itos.pkl")
    language_model = TextLanguageModel(AWDLSTMConfig(17, 6, 10, 3), vocabulary, params)
    language_model.save(tmp_path / "run/language_model")
    export.main([str(tmp_path / "run"), "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "backward/classifier.pth, backward/itos.pkl, classifier.pth, itos.pkl, language_model.pth" in printed
    assert read_vocabulary(tmp_path / "out/backward/itos.pkl") == members[1].vocabulary
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is no folder: name one with --output"):
        export.main([str(tmp_path / "run"), "--output", str(tmp_path / "file")])
    with pytest.raises(InputError, match="out is not empty: name another folder with --output"):
        export.main([str(tmp_path / "run"), "--output", str(tmp_path / "out")])
    with pytest.raises(InputError, match=r"there is no folder .*nothing"):
        export.main([str(tmp_path / "nothing"), "--output", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_a_model_that_fastai_does_not_know_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(export, "load_models", lambda run, revision: [EntityTagger.__new__(EntityTagger)])
    with pytest.raises(InputError, match=r"name a run of jaxft\.ulmfit or jaxft\.pretrain"):
        export.main([str(tmp_path), "--output", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
