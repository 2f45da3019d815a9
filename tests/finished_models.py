"""A finished model of every kind, small and untrained, for tests of their folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flax import nnx

from jaxft.data.document import Direction
from jaxft.data.vocabulary import Vocabulary
from jaxft.inference.encoder import EncoderModel
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.open_encoder import open_encoder
from jaxft.inference.tagger import EntityTagger
from jaxft.inference.text_classifier import TextClassifier
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel
from jaxft.models.heads import Classifier
from jaxft.models.options import NO_DROPOUT
from jaxft.models.tagger import TaggerConfig, TaggerFns

WORDS = ("xxunk", "xxpad", "xxbos", "the", "film", "good", "bad")
CONFIG = AWDLSTMConfig(len(WORDS), 4, 6, 1)


def text_classifier(direction: Direction = "forward") -> TextClassifier:
    module = Classifier(CONFIG, 2, NO_DROPOUT, nnx.Rngs(0), head_hidden=5, max_length=12, bptt=4)
    params, statistics = (nnx.to_pure_dict(nnx.state(module, kind)) for kind in (nnx.Param, nnx.BatchStat))
    return TextClassifier(CONFIG, ("neg", "pos"), 5, 12, 4, Vocabulary(WORDS), params, statistics, direction)


def language_model(direction: Direction = "forward") -> TextLanguageModel:
    params = nnx.to_pure_dict(nnx.state(LanguageModel(CONFIG, NO_DROPOUT, nnx.Rngs(0))))
    return TextLanguageModel(CONFIG, Vocabulary(WORDS), params, direction)


def encoder_model(checkpoint: Path) -> EncoderModel:
    encoder, tokenizer = open_encoder(checkpoint, 2, new_head=True)
    return EncoderModel(encoder, tokenizer, "classification", ("a", "b"), 16)


def tagger(checkpoint: Path | None) -> EntityTagger:
    encoder, tokenizer = (None, Vocabulary(WORDS)) if checkpoint is None else open_encoder(checkpoint)
    features = 5 if encoder is None else encoder.config.hidden_size
    config = TaggerConfig(("O", "B-PER", "I-PER"), features, len(WORDS) if encoder is None else None, lstm_size=4)
    fns = TaggerFns(config, encoder)
    return EntityTagger(fns, fns.init(0), tokenizer, "words", "BIO", 16)


FINISHED_MODELS: dict[str, Callable[[Path], Any]] = {
    "text classifier": lambda checkpoint: text_classifier(),
    "ensemble of text classifiers": lambda checkpoint: Ensemble(
        {"forward": text_classifier(), "backward": text_classifier("backward")}
    ),
    "language model": lambda checkpoint: language_model(),
    "backward language model": lambda checkpoint: language_model("backward"),
    "encoder": encoder_model,
    "ensemble of encoders": lambda checkpoint: Ensemble(dict.fromkeys(("fold_1", "fold_2"), encoder_model(checkpoint))),
    "tagger": lambda checkpoint: tagger(None),
    "tagger with an encoder": tagger,
}
"""by kind, a function of the folder of a checkpoint"""
