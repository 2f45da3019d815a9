"""Loads the finished model of a run, whatever its kind.

A model is a folder with `model.safetensors`, `model.json` and its vocabulary or tokenizer. A run keeps the model that
predicts in `RUN/model` and its language models in `RUN/language_model` and `RUN/language_model_backward`. Loading reads
nothing else of the run.
"""

import os
from pathlib import Path
from typing import Any

from jaxft.base.files import read_json
from jaxft.data.checksums import check_checksums
from jaxft.data.document import Direction
from jaxft.data.files import expanded
from jaxft.data.hub import HUB_NAME, downloaded_model, refuse_revision
from jaxft.errors import InputError
from jaxft.inference.encoder import ENCODER_KIND, EncoderModel
from jaxft.inference.ensemble import ENSEMBLE_KINDS, Ensemble
from jaxft.inference.language_model import LANGUAGE_MODEL_KIND, TextLanguageModel
from jaxft.inference.tagger import TAGGER_KIND, EntityTagger
from jaxft.inference.text_classifier import CLASSIFIER_KIND, TextClassifier

MODEL = "model"
"""Name of the folder, in a run, of the model that predicts."""
LANGUAGE_MODELS: dict[Direction, str] = {"forward": "language_model", "backward": "language_model_backward"}
"""Names of the folders, in a run, of its language models."""
MODEL_CLASSES: dict[str, Any] = {
    CLASSIFIER_KIND: TextClassifier,
    ENCODER_KIND: EncoderModel,
    TAGGER_KIND: EntityTagger,
    LANGUAGE_MODEL_KIND: TextLanguageModel,
    **dict.fromkeys(ENSEMBLE_KINDS.values(), Ensemble),
}
"""The class that restores each kind of saved model."""


def load(run: str | os.PathLike[str], revision: str | None = None) -> Any:
    """Loads the finished model of a run, ready to predict or to generate.

    Args:
        run: the run's folder, or the model's folder itself, or a name on the Hugging Face hub, such as "user/model".
        revision: branch, tag or commit of a model on the hub.

    Returns:
        What the run trained:

        - `TextClassifier` of jaxft.ulmfit, which predicts classes;
        - `EncoderModel` of jaxft.finetune, which predicts classes, numbers or sets of labels;
        - `Ensemble` of several of either, for a run with both directions or with folds;
        - `EntityTagger` of jaxft.ner, which predicts entities;
        - `TextLanguageModel` of jaxft.pretrain, which generates text; the forward one where there are two.

        All but the last are a `jaxft.inference.predictor.Predictor`.

    Raises:
        InputError: there is no finished model, or a file of it is damaged.

    Examples:
        A finished run answers `load(run).predict("A lovely film.")`; anything else is refused:

        >>> load("./runs/of-tomorrow")
        Traceback (most recent call last):
        jaxft.errors.InputError: there is no folder runs/of-tomorrow: name that of a run that has ended
    """
    path = expanded(os.fspath(run))
    if not path.is_dir() and HUB_NAME.fullmatch(os.fspath(run)):
        folder = model_folder(downloaded_model(os.fspath(run), revision))
    else:
        refuse_revision(os.fspath(run), revision)
        folder = model_folder(path)
        check_checksums(folder)
    description = read_json(folder / "model.json")
    try:
        if description["kind"] not in MODEL_CLASSES:
            raise ValueError(f"the kind {description['kind']!r}")
        return MODEL_CLASSES[description["kind"]].restore(folder, description)
    except InputError:  # it names the file that is damaged
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'model.json'} does not describe a model ({error}): train it again") from error


def model_folder(run: str | os.PathLike[str]) -> Path:
    """The folder of the model of a run: the one that predicts, or else a language model.

    Raises:
        InputError: there is no finished model.
    """
    folders = [Path(run) / name for name in (MODEL, *LANGUAGE_MODELS.values())]
    folder = next((folder for folder in folders if folder.is_dir()), Path(run))
    if not folder.is_dir():
        raise InputError(f"there is no folder {run}: name that of a run that has ended")
    if not (folder / "model.json").exists():
        remedy = "name the folder of a run that has ended"
        if (folder / "config.json").exists():
            remedy = "let the run end first, with --resume where it was stopped"
        raise InputError(f"{run} holds no finished model: {remedy}")
    return folder
