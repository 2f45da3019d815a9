"""Takes a finished model elsewhere: `python -m jaxft.export RUN --output FOLDER` writes it in the format of fastai 2.

A model needs no export to be used with jaxft: its folder holds safetensors, and `jaxft.load` reads it.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxft.errors import InputError, run_job
from jaxft.files import is_empty
from jaxft.inference.ensemble import Ensemble
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.load import LANGUAGE_MODELS, MODEL, load
from jaxft.inference.text_classifier import TextClassifier
from jaxft.models.fastai_export import classifier_state, language_model_state
from jaxft.models.torch_writer import write_state


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


def fastai_files(model: Any) -> dict[str, Any]:
    """What fastai 2 would save of a model: a state dict for each .pth file, a list of tokens for each .pkl file.

    Args:
        model: from `jaxft.load`, of an AWD-LSTM.

    Raises:
        InputError: the model is another one, or cannot be expressed.
    """
    if not isinstance(model, TextClassifier | Ensemble | TextLanguageModel):
        raise InputError("fastai knows no such model: name a run of jaxft.ulmfit or jaxft.pretrain")
    if isinstance(model, Ensemble):
        return {name: content for member in model.models.values() for name, content in fastai_files(member).items()}
    place = "" if model.direction == "forward" else "backward/"
    tokens = {f"{place}itos.pkl": list(model.vocabulary.tokens)}
    if isinstance(model, TextLanguageModel):
        return {**tokens, f"{place}language_model.pth": language_model_state(model.params)}
    return {**tokens, f"{place}classifier.pth": classifier_state(model.params, model.statistics)}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    request = tyro.cli(Request, prog="python -m jaxft.export", args=arguments)
    folders = [request.run / name for name in (*LANGUAGE_MODELS.values(), MODEL)]
    models = [load(folder) for folder in folders if folder.is_dir()] or [load(request.run)]
    files = {name: content for model in models for name, content in fastai_files(model).items()}
    if request.output.is_dir() and not is_empty(request.output):
        raise InputError(f"{request.output} is not empty: name another folder with --output")
    for name, content in files.items():
        _write(request.output / name, content)
    print(f"{request.output}: {', '.join(sorted(files))}")


def _write(path: Path, content: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            write_state(path, content)
        else:
            path.write_bytes(pickle.dumps(content, protocol=4))
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror}): free some space, or name another folder with --output"
        ) from error


if __name__ == "__main__":
    run_job(main)
