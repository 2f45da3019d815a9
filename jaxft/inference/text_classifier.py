"""A trained ULMFiT classifier: its predictions and its folder.

The training job evaluates with `results_of_texts` and `TextClassifier.scores_of_batches`; `jaxft.load` loads a saved
classifier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from flax import nnx

from jaxft.base.files import write_json
from jaxft.base.sharding import by_rows, current_mesh, mesh_size, replicated
from jaxft.base.tensor_files import load_params, save_params
from jaxft.data.checksums import write_checksums
from jaxft.data.document import Direction, Task
from jaxft.data.length_batches import LengthBatches, length_widths
from jaxft.data.vocabulary import Vocabulary
from jaxft.inference import predictor
from jaxft.inference.answers import as_answers, describe_classes, refuse_not_finite
from jaxft.inference.batches import prediction_batch_size
from jaxft.models.awd_lstm import AWDLSTMConfig, column_weights
from jaxft.models.heads import Classifier
from jaxft.models.options import NO_DROPOUT

CLASSIFIER_KIND = "ulmfit-classifier"
"""The kind of a classifier in model.json."""


@dataclass(frozen=True)
class TextClassifier:
    """A trained classifier of texts, ready to predict.

    Attributes:
        task, pairs, thresholds: what it predicts, whether it reads pairs of texts, and the thresholds of labels; the
            same for all.
        config: sizes of the encoder.
        classes: names of the C classes.
        head_hidden, max_length, bptt: as in `jaxft.models.heads.Classifier`.
        vocabulary: tokens and their ids.
        params, statistics: pytrees of arrays, as `jaxft.models.heads.Classifier` has them.
        direction: the direction in which it reads a text.
        batch_size: texts per step of prediction.
        text_columns: the columns of a table that were read as one text in training, if they were several.
    """

    task: Task = field(default="classification", init=False)
    pairs: bool = field(default=False, init=False)
    marks_fields: bool = field(default=True, init=False)
    thresholds: tuple[float, ...] = field(default=(), init=False)

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
    text_columns: tuple[str, ...] = ()

    @cached_property
    def logits(self) -> Any:
        """The jitted `classifier_logits_fn`."""
        return by_rows(classifier_logits_fn(self.graphdef))

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

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Scores texts: probabilities (N, C) float32 of the classes, in the order of the texts."""
        step = 1 if self.direction == "forward" else -1
        documents = [ids[::step] for ids in self.vocabulary.encode_texts(texts)]
        lengths = np.array([len(document) for document in documents], np.int64)
        if not len(lengths):
            return np.zeros((0, len(self.classes)), np.float32)
        batches = LengthBatches(
            ids=np.concatenate(documents),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            documents=np.arange(len(lengths)),
            labels=np.zeros(len(lengths), np.int32),
            batch_size=prediction_batch_size(len(lengths), self.batch_size),
            widths=length_widths(max(int(lengths.max()), self.max_length), self.max_length, self.bptt),
            pad=self.vocabulary.pad,
        )
        return self.scores_of_batches(batches)

    def scores_of_batches(self, batches: LengthBatches) -> np.ndarray:
        """The scores of all texts of `batches`, in their order."""
        logits = results_of_texts(self.logits, self.config, self.params, self.statistics, batches)
        refuse_not_finite(logits)
        return np.asarray(jax.nn.softmax(logits, axis=1))

    def answers(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Answers each text, in their order; see `jaxft.inference.answers.as_answers`."""
        return as_answers(self.task, self.classes, self.scores(texts))

    def predict(self, texts: Any) -> Any:
        """The class of each text, or of one; see `jaxft.inference.predictor.Predictor`."""
        return predictor.predict(self, texts)

    def predict_proba(self, texts: Any) -> np.ndarray:
        """The probabilities (N, C) float32 of the classes, or (C,) for one text."""
        return predictor.predict_proba(self, texts)

    def __repr__(self) -> str:
        sizes = f"AWD-LSTM {self.config.embedding_size}/{self.config.hidden_size} x {self.config.num_layers}"
        return f"TextClassifier({describe_classes(self.task, self.classes)}; {sizes}, {self.direction})"

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
            "text_columns": self.text_columns,
        }
        write_json(folder / "model.json", description)
        tree = {"params": self.params, "statistics": self.statistics}
        save_params(folder / "model.safetensors", tree, {"kind": CLASSIFIER_KIND})
        write_checksums(folder, ["model.json", "model.safetensors", "vocabulary.json"])

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` writes; `description` is the content of model.json.

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
            text_columns=tuple(map(str, description.get("text_columns", ()))),
            vocabulary=Vocabulary.load(folder / "vocabulary.json"),
            **load_params(folder / "model.safetensors"),
        )


def classifier_logits_fn(graphdef: nnx.GraphDef) -> Any:
    """The pure function `(params, statistics, weights, batch) -> logits (B, C)` of a classifier, without dropout.

    `weights` are the `column_weights` of its encoder, or None.
    """

    def logits_fn(params: Any, statistics: Any, weights: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        model: Classifier = nnx.merge(graphdef, params, statistics)
        return model.evaluate(batch["tokens"], batch["lengths"], weights)

    return logits_fn


def results_of_texts(
    function: Any, config: AWDLSTMConfig, params: Any, statistics: Any, batches: LengthBatches
) -> np.ndarray:
    """The results (N, C) float32 of all texts of `batches`, in their order.

    Args:
        function: `(params, statistics, weights, batch) -> (B, C)`, such as a jitted `classifier_logits_fn`.
        config: of the encoder.
        params, statistics: of the classifier.
        batches: the texts.
    """
    mesh = current_mesh()
    weights = column_weights(params["encoder"], config, batches.batch_size // mesh_size(mesh))
    at_once = 2 if mesh is None else 1  # several devices take their orders from one thread
    return batches.map(partial(function, *replicated((params, statistics, weights))), at_once)
