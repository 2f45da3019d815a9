"""Takes a finished model elsewhere: `python -m jaxft.export RUN --output FOLDER` writes it in the format of fastai 2.

A model needs no export to be used with jaxft: its folder holds safetensors, and `jaxft.load` reads it.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxft.errors import run_job
from jaxft.models.fastai_export import classifier_state, language_model_state
from jaxft.models.torch_writer import write_state
from jaxft.predict import LANGUAGE_MODEL, MODEL, load
from jaxft.report import create_run_folder
from jaxft.text_classifier import TextClassifier, TextEnsemble
from jaxft.text_generator import TextGenerator


@dataclass(frozen=True)
class Request:
    """Writes the models of a finished run in the format of another library."""

    run: Annotated[Path, tyro.conf.Positional]
    """folder of the run"""
    output: Path
    """folder to write; has to be new or empty"""
    format: Literal["fastai"] = "fastai"
    """fastai: language_model.pth and classifier.pth as fastai 2 saves them, and itos.pkl with their tokens; of a model
    that reads backward in a folder of its own"""


def export_fastai(model: TextClassifier | TextEnsemble | TextGenerator, folder: Path) -> None:
    """Writes one model in the format of fastai 2.

    Args:
      model: from `jaxft.load`.
      folder: an existing folder.

    Raises:
      InputError: the folder cannot be written, or the model cannot be expressed.
    """
    if isinstance(model, TextEnsemble):
        for member in model.members:
            export_fastai(member, folder)
        return
    if model.direction == "backward":
        folder = folder / "backward"
        folder.mkdir(exist_ok=True)
    if isinstance(model, TextGenerator):
        write_state(folder / "language_model.pth", language_model_state(model.params))
    else:
        write_state(folder / "classifier.pth", classifier_state(model.params, model.statistics))
    (folder / "itos.pkl").write_bytes(pickle.dumps(list(model.vocabulary.tokens), protocol=4))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    request = tyro.cli(Request, prog="python -m jaxft.export", args=arguments)
    folders = (request.run / name for name in (LANGUAGE_MODEL, f"{LANGUAGE_MODEL}_backward", MODEL))
    models = [load(folder) for folder in folders if folder.is_dir()] or [load(request.run)]
    folder = create_run_folder(request.output, resume=False)
    for model in models:
        export_fastai(model, folder)
    print(f"{folder}: " + ", ".join(sorted(str(path.relative_to(folder)) for path in folder.rglob("*.p*"))))


if __name__ == "__main__":
    run_job(main)
