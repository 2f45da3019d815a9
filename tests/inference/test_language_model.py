"""Texts that a language model writes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxft
from jaxft import predict
from jaxft.data.document import Direction
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.language_model import TextLanguageModel
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel
from jaxft.models.options import NO_DROPOUT

WORDS = ("xxunk", "xxpad", "xxbos", "xxmaj", "the", "film", "was", "good", ".")


def language_model(direction: Direction = "forward", pretokenized: bool = False) -> TextLanguageModel:
    config = AWDLSTMConfig(len(WORDS), 5, 7, 2)
    params = nnx.to_pure_dict(nnx.state(LanguageModel(config, NO_DROPOUT, nnx.Rngs(0))))
    return TextLanguageModel(config, Vocabulary(WORDS), params, direction, pretokenized)


def always(model: TextLanguageModel, word: str) -> TextLanguageModel:
    bias = jnp.zeros(len(WORDS)).at[WORDS.index(word)].set(1e6)
    return TextLanguageModel(model.config, model.vocabulary, {**model.params, "decoder_bias": bias}, model.direction)


def test_the_prompt_stands_where_it_belongs():
    assert language_model().generate("The film", words=6).startswith("The film")
    assert language_model("backward").generate("was good.", words=6).endswith("was good.")
    assert language_model(pretokenized=True).generate("the FILM @-@", words=6).startswith("the FILM @-@ ")


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_no_more_words_than_wanted_and_never_the_unknown_word(direction: Direction):
    text = always(language_model(direction), "film").generate("the", words=5)
    assert text.split().count("film") == 5
    assert "xxunk" not in always(language_model(direction), "xxunk").generate("the", words=9)


def test_a_text_ends_where_the_model_ends_it():
    assert always(language_model(), "xxbos").generate("the film", words=5) == "the film"


def test_temperature_0_takes_the_likeliest_word_and_a_seed_repeats_a_draw():
    model = language_model()
    assert model.generate("the", temperature=0, seed=0) == model.generate("the", temperature=0, seed=1)
    assert model.generate("the", temperature=1, seed=0) == model.generate("the", temperature=1, seed=0)
    assert model.generate("the", temperature=1, seed=0) != model.generate("the", temperature=1, seed=1)


@pytest.mark.slow
def test_draws_follow_the_distribution_of_the_model():
    model = language_model()
    tokens = jnp.array([[2]])
    banned = jnp.arange(len(WORDS)) < 2
    draw = jax.jit(jax.vmap(lambda key: model._sample(model.params, tokens, key, 0.7, banned, steps=1)[0]))
    drawn = np.bincount(draw(jax.random.split(jax.random.key(0), 20_000)), minlength=len(WORDS)) / 20_000
    logits, _ = nnx.merge(model.graphdef, model.params)(tokens, tuple((jnp.zeros((1, n)),) * 2 for n in (7, 5)))
    wanted = jax.nn.softmax(jnp.where(banned, -jnp.inf, logits[0, 0] / 0.7))
    np.testing.assert_allclose(drawn, wanted, atol=0.01)


def test_a_saved_model_writes_as_before(tmp_path: Path, capsys):
    model = language_model("backward")
    model.save(tmp_path / "run" / "language_model_backward")
    back = jaxft.load(tmp_path / "run")
    assert isinstance(back, TextLanguageModel)
    assert back.generate("good.", words=8) == model.generate("good.", words=8)
    predict.main([str(tmp_path / "run"), "--generate", "good.", "--words", "8"])
    assert capsys.readouterr().out.strip() == model.generate("good.", words=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "fine"], "holds a language model, which has no labels"),
        (["--generate", "a", "--words", "0"], "--words 0 is out of range"),
        (["--generate", "a", "--temperature", "-1"], "--temperature -1.0 is out of range"),
        (["--generate", "a", "--words", "99999999999"], "--words 99999999999 is out of range"),
        (["--generate", "a", "--seed", "-1"], "--seed -1 is out of range"),
        (["--generate", "a", "--text", "b"], "give one of --text, --input and --generate"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path: Path, arguments: list[str], message: str):
    language_model().save(tmp_path / "language_model")
    with pytest.raises(InputError, match=message):
        predict.main([str(tmp_path), *arguments])
