"""Several models of one task as one model, whose scores are the means of theirs.

ULMFiT averages a classifier that reads forward and one that reads backward (Howard & Ruder, ACL 2018, section 3.4);
fine-tuning averages the models of a cross-validation. `jaxft.load` loads what `Ensemble.save` writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from jaxft.base.files import read_json, write_json
from jaxft.data.checksums import read_checksums, write_checksums
from jaxft.data.document import Task
from jaxft.inference import predictor
from jaxft.inference.answers import as_answers
from jaxft.inference.encoder import EncoderModel
from jaxft.inference.text_classifier import TextClassifier

ENSEMBLE_KINDS: dict[type[TextClassifier] | type[EncoderModel], str] = {
    TextClassifier: "ulmfit-ensemble",
    EncoderModel: "encoder-ensemble",
}
"""The kind, in model.json, of an ensemble of models of each class."""


@dataclass(frozen=True)
class Ensemble:
    """Models of the same task and classes, whose scores are averaged.

    Attributes:
        models: one or more models of one class. The keys name their folders in the ensemble's folder.
    """

    models: Mapping[str, TextClassifier | EncoderModel]

    @property
    def task(self) -> Task:
        """What the models predict."""
        return self._first.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes or labels; none where the models predict a number."""
        return self._first.classes

    @property
    def pairs(self) -> bool:
        """Whether the models read pairs of texts."""
        return self._first.pairs

    @property
    def marks_fields(self) -> bool:
        """Whether a text of several columns has a mark before each."""
        return self._first.marks_fields

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of a table that were read as one text in training, if they were several."""
        return self._first.text_columns

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The mean of the models' thresholds; empty unless all have some."""
        thresholds = [model.thresholds for model in self.models.values() if model.thresholds]
        return tuple(np.mean(thresholds, axis=0).tolist()) if len(thresholds) == len(self.models) else ()

    @property
    def _first(self) -> TextClassifier | EncoderModel:
        return next(iter(self.models.values()))

    def scores(self, texts: Sequence[Any]) -> np.ndarray:
        """Scores texts: the mean (N, C) of the models' scores, in the order of the texts.

        Raises:
            InputError: a text that the models refuse.
        """
        return np.mean([model.scores(texts) for model in self.models.values()], axis=0)

    def answers(self, texts: Sequence[Any]) -> list[dict[str, Any]]:
        """Answers each text, in their order; see `jaxft.inference.answers.as_answers`."""
        return as_answers(self.task, self.classes, self.scores(texts), self.thresholds)

    def predict(self, texts: Any) -> Any:
        """The class, number or list of labels of each text, or of one; see `jaxft.inference.predictor.Predictor`."""
        return predictor.predict(self, texts)

    def predict_proba(self, texts: Any) -> np.ndarray:
        """The probabilities (N, C) float32 of classes or labels, or (C,) for one text."""
        return predictor.predict_proba(self, texts)

    def __repr__(self) -> str:
        return f"Ensemble of {len(self.models)}: {self._first!r}"

    def save(self, folder: Path) -> None:
        """Writes the ensemble's folder, with a folder for each model in it."""
        for name, model in self.models.items():
            model.save(folder / name)
        write_json(folder / "model.json", {"kind": ENSEMBLE_KINDS[type(self._first)], "members": list(self.models)})
        files = [f"{name}/{file}" for name in self.models for file in read_checksums(folder / name)]
        write_checksums(folder, ["model.json", *files])

    @classmethod
    def restore(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Reads what `save` writes; `description` is the content of model.json.

        Raises:
            KeyError, TypeError, ValueError: the description is not one of an ensemble, or that of a model in it is
                damaged.
            InputError: the files of a model are missing or damaged.
        """
        model_class = next(key for key, kind in ENSEMBLE_KINDS.items() if kind == description["kind"])
        names = [Path(name).name for name in description["members"]]
        if not names:
            raise ValueError("no models")
        return cls(
            {name: model_class.restore(folder / name, read_json(folder / name / "model.json")) for name in names}
        )
