"""Exports a finished model to another library: `python -m jaxft.export RUN --output FOLDER` writes files for fastai 2.

To use a model with jaxft no export is needed: `jaxft.load` loads it. Modules that are slow to import are imported where
they are used, so that help appears at once.
"""

import pickle
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxft.base.files import is_empty, replacing, writing
from jaxft.errors import InputError, let_interrupts_raise, run_job

HELP = """Writes the models of a finished run in the format of another library.

Examples:
  python -m jaxft.export runs/imdb --output for_fastai
  python -m jaxft.export runs/imdb/language_model --output for_fastai
"""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, or of a saved model, or the name of a model on the Hugging Face hub"""
    output: Path
    """folder for the files; it must be new or empty"""
    revision: str | None = None
    """branch, tag or commit of a model on the hub"""
    format: Literal["fastai"] = "fastai"
    """fastai: .pth files and their tokens in itos.pkl, as fastai 2 saves them; a backward model in its own folder"""


def fastai_files(model: Any) -> dict[str, Any]:
    """The content of the files that fastai 2 saves of a model: a state dict per .pth file, a list of tokens per .pkl.

    Args:
        model: a `TextLanguageModel`, a `TextClassifier` or an `Ensemble` of classifiers, from `jaxft.load`.

    Raises:
        InputError: the model is another one, or fastai cannot express it.
    """
    from jaxft.inference.ensemble import Ensemble
    from jaxft.inference.language_model import TextLanguageModel
    from jaxft.inference.text_classifier import TextClassifier
    from jaxft.models.fastai_export import classifier_state, language_model_state

    if isinstance(model, Ensemble):
        return {name: content for each in model.models.values() for name, content in fastai_files(each).items()}
    if not isinstance(model, TextClassifier | TextLanguageModel):
        raise InputError("fastai has no model like this one: name a run of jaxft.ulmfit or jaxft.pretrain")
    if model.vocabulary.merges is not None:
        raise InputError("fastai does not make the subwords of this model: train one with --text.tokens words")
    folder = "" if model.direction == "forward" else "backward/"
    tokens = {f"{folder}itos.pkl": list(model.vocabulary.tokens)}
    if isinstance(model, TextLanguageModel):
        return {**tokens, f"{folder}language_model.pth": language_model_state(model.params)}
    return {**tokens, f"{folder}classifier.pth": classifier_state(model.params, model.statistics)}


def load_models(run: Path, revision: str | None = None) -> list[Any]:
    """Loads the language models and the classifier of a run, or the one model whose folder or name on the hub `run` is.

    Raises:
        InputError: there is no finished model, or one is damaged.
    """
    from jaxft.inference.load import LANGUAGE_MODELS, MODEL, load

    folders = [run / name for name in (*LANGUAGE_MODELS.values(), MODEL)]
    return [load(folder, revision) for folder in folders if folder.is_dir()] or [load(run, revision)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    request = tyro.cli(Request, prog="python -m jaxft.export", description=HELP, args=arguments)
    files = {
        name: content
        for model in load_models(request.run, request.revision)
        for name, content in fastai_files(model).items()
    }
    if request.output.exists() and not request.output.is_dir():
        raise InputError(f"{request.output} is no folder: name one with --output")
    if request.output.is_dir() and not is_empty(request.output):
        raise InputError(f"{request.output} is not empty: name another folder with --output")
    let_interrupts_raise()
    try:
        for name, content in files.items():
            _write(request.output / name, content)
    except BaseException:
        for path in [request.output / name for name in files]:
            with suppress(OSError):  # it has not been written
                path.unlink()
            with suppress(OSError):  # there is more in it
                path.parent.rmdir()
        raise
    print(f"{request.output}: {', '.join(sorted(files))}")


def _write(path: Path, content: Any) -> None:
    from jaxft.models.torch_writer import write_state

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        write_state(path, content)
    else:
        with replacing(path, "wb") as file:
            pickle.dump(content, file, protocol=4)


if __name__ == "__main__":
    run_job(main)
