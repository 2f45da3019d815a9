"""A trained classifier of texts: its folder, its predictions, and the ensemble of two that read in both directions.

The training jobs call `class_logits` for their own evaluations; `jaxft.load` brings a finished model back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from flax import nnx

from jaxft import tensor_files
from jaxft.data.document import Direction
from jaxft.data.streams import LengthBatches, length_widths
from jaxft.data.text import tokenize
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.files import write_json
from jaxft.inference.answers import answers
from jaxft.models.awd_lstm import AWDLSTMConfig
from jaxft.models.heads import Classifier
from jaxft.models.options import NO_DROPOUT

CLASSIFIER_KIND, ENSEMBLE_KIND = "ulmfit-classifier", "ulmfit-ensemble"
"""what a model's folder calls its content"""


@dataclass(frozen=True)
class TextClassifier:
    """A trained classifier, ready to predict.

    Attributes:
        config: sizes of the encoder.
        classes: names of the C classes.
        head_hidden, max_length, bptt: as in `jaxft.models.heads.Classifier`.
        vocabulary: words and their ids.
        params, statistics: pytrees of arrays.
        direction: in which it reads a text.
        batch_size: documents per step.
    """

    config: AWDLSTMConfig
    classes: tuple[str, ...]
    head_hidden: int
    max_length: int
    bptt: int
    vocabulary: Vocabulary
    params: Any
    statistics: Any
    direction: Direction = "forward"
    batch_size: int = 64

    @cached_property
    def logits(self) -> Any:
        """The jitted function `(params, statistics, batch) -> logits (B, C)`."""
        return jax.jit(class_logits_fn(self.graphdef))

    @cached_property
    def graphdef(self) -> nnx.GraphDef:
        """Structure of the module that `params` and `statistics` belong to."""
        model = nnx.eval_shape(
            lambda: Classifier(
                self.config,
                len(self.classes),
                NO_DROPOUT,
                nnx.Rngs(0),
                head_hidden=self.head_hidden,
                head_dropouts=(0.0, 0.0),
                max_length=self.max_length,
                bptt=self.bptt,
            )
        )
        return nnx.graphdef(model)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Class probabilities (N, C) float32 of the texts, in their order.

        Raises:
            InputError: a text is empty.
        """
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise InputError(f"text {number} is empty: leave it out or fill it in")
        step = 1 if self.direction == "forward" else -1
        documents = [self.vocabulary.encode(tokenize(text))[::step] for text in texts]
        lengths = np.array([len(document) for document in documents], np.int64)
        if not len(lengths):
            return np.zeros((0, len(self.classes)), np.float32)
        batches = LengthBatches(
            ids=np.concatenate(documents),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            documents=np.arange(len(lengths)),
            labels=np.zeros(len(lengths), np.int32),
            batch_size=min(self.batch_size, 1 << (len(lengths) - 1).bit_length()),  # few shapes for few texts
            widths=length_widths(max(int(lengths.max()), self.max_length), self.max_length, self.bptt),
            pad=self.vocabulary.pad,
        )
        return class_probabilities(self, batches)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable class of each text, in their order."""
        return [self.classes[i] for i in self.probabilities(texts).argmax(axis=1)]

    def answers(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """What it says of each text, in their order; see `jaxft.inference.answers`."""
        return answers("classification", self.classes, self.probabilities(texts))

    def save(self, folder: Path) -> None:
        """Writes the model's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary.save(folder / "vocabulary.json")
        description = {
            "kind": CLASSIFIER_KIND,
            "encoder": asdict(self.config),
            "classes": self.classes,
            "head_hidden": self.head_hidden,
            "max_length": self.max_length,
            "bptt": self.bptt,
            "direction": self.direction,
            "batch_size": self.batch_size,
        }
        write_json(folder / "model.json", description)
        tree = {"params": self.params, "statistics": self.statistics}
        tensor_files.save_params(folder / "model.safetensors", tree, {"kind": CLASSIFIER_KIND})

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` wrote; `description` is the content of model.json.

        Raises:
            KeyError, TypeError, ValueError: the description is not one of a classifier.
            InputError: the weights or the vocabulary are missing or damaged.
        """
        return cls(
            config=AWDLSTMConfig(**description["encoder"]),
            classes=tuple(description["classes"]),
            **{name: int(description[name]) for name in ("head_hidden", "max_length", "bptt")},
            direction=description["direction"],
            batch_size=int(description.get("batch_size", 64)),
            vocabulary=Vocabulary.load(folder / "vocabulary.json"),
            **tensor_files.load_params(folder / "model.safetensors"),
        )


@dataclass(frozen=True)
class TextEnsemble:
    """Classifiers of the same classes whose probabilities are averaged.

    Attributes:
        members: one or more, as ULMFiT takes a forward and a backward one (Howard & Ruder 2018, section 3.4).
    """

    members: tuple[TextClassifier, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return self.members[0].classes

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Class probabilities (N, C) float32 of the texts, in their order; raises as `TextClassifier`."""
        return np.mean([member.probabilities(texts) for member in self.members], axis=0)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable class of each text, in their order."""
        return [self.classes[i] for i in self.probabilities(texts).argmax(axis=1)]

    def answers(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """What they say together of each text, in their order; see `jaxft.inference.answers`."""
        return answers("classification", self.classes, self.probabilities(texts))

    def save(self, folder: Path) -> None:
        """Writes the model's folder, with a folder for each member in it."""
        for member in self.members:
            member.save(folder / member.direction)
        write_json(folder / "model.json", {"kind": ENSEMBLE_KIND, "members": [m.direction for m in self.members]})


def class_logits_fn(graphdef: nnx.GraphDef) -> Any:
    """The pure function `(params, statistics, batch) -> logits (B, C)` of a classifier, without dropout."""

    def logits(params: Any, statistics: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        model: Classifier = nnx.merge(graphdef, params, statistics)
        return model.evaluate(batch["tokens"], batch["lengths"])

    return logits


def class_logits(logits: Any, params: Any, statistics: Any, batches: LengthBatches) -> np.ndarray:
    """Logits (N, C) float32 of all documents of `batches`, in their order; `logits` is a jitted `class_logits_fn`."""
    return batches.map(partial(logits, params, statistics), at_once=2)


def class_probabilities(model: TextClassifier, batches: LengthBatches) -> np.ndarray:
    """Class probabilities (N, C) float32 of all documents of `batches`, in their order."""
    return np.asarray(jax.nn.softmax(class_logits(model.logits, model.params, model.statistics, batches), axis=1))
