"""Uploads the finished model of a run to the Hugging Face hub: `python -m jaxft.push RUN USER/NAME`.

`jaxft.load("USER/NAME")` and `jaxft predict USER/NAME` load it back. `$HF_TOKEN` or `hf auth login` logs in.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxft.errors import InputError, reason_of, run_job

HELP = """Uploads the finished model of a run to the Hugging Face hub, with its model card.
A run of `pretrain --direction both` uploads both language models.

Examples:
  python -m jaxft.push runs/imdb USER/imdb-ulmfit
  python -m jaxft.push runs/imdb USER/imdb-ulmfit --private
"""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, or of a saved model"""
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="USER/NAME")]
    """name of the model on the hub; it is made if there is none"""
    private: bool = False
    """make a new model private"""
    revision: str | None = None
    """branch to upload to; by default main"""


def push(run: str | os.PathLike[str], name: str, *, private: bool = False, revision: str | None = None) -> str:
    """Uploads the model that predicts, or the language models of a run that has none.

    Those of two directions keep their folders, `language_model` and `language_model_backward`, and `jaxft.load` loads
    the forward one.

    Args:
        run: the folder of a run, or of a saved model.
        name: of the model on the hub, such as "user/model"; it is made if there is none.
        private: whether a new model is private.
        revision: the branch to upload to; None for main.

    Returns:
        The address of the model.

    Raises:
        InputError: there is no finished model, it is damaged, or the hub refuses.
    """
    from huggingface_hub import HfApi

    from jaxft.data.checksums import check_checksums
    from jaxft.data.files import expanded
    from jaxft.inference.load import model_folder
    from jaxft.training.model_card import PLACE

    path = expanded(os.fspath(run))
    model, pair = model_folder(path), _both_language_models(path)
    for folder in pair or [model]:
        check_checksums(folder)
    api = HfApi()
    try:
        address = str(api.create_repo(name, private=private, exist_ok=True))
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=path if pair else model,
            allow_patterns=[f"{folder.name}/*" for folder in pair] or None,
            ignore_patterns=["README.md", "*/README.md", ".*"],
            delete_patterns=["*"],  # files of an earlier model
            revision=revision,
            commit_message="Upload a model of jaxft",
        )
        card = (path if pair else model) / "README.md"
        if card.is_file():
            content = card.read_text(encoding="utf-8").replace(PLACE, name).encode()
            api.upload_file(path_or_fileobj=content, path_in_repo="README.md", repo_id=name, revision=revision)
    except Exception as error:  # of the hub, of HTTP or of the network
        raise InputError(
            f"{name} could not be uploaded ({reason_of(error)}): log in with `hf auth login`, and check the name and "
            "the network"
        ) from error
    return address


def _both_language_models(run: Path) -> list[Path]:
    """The language models of a run that has one of each direction and no model that predicts."""
    from jaxft.inference.load import LANGUAGE_MODELS, MODEL

    folders = [run / name for name in LANGUAGE_MODELS.values()]
    both = all((folder / "model.json").exists() for folder in folders)
    return folders if both and not (run / MODEL).is_dir() else []


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    request = tyro.cli(Request, prog="python -m jaxft.push", description=HELP, args=arguments)
    print(push(request.run, request.name, private=request.private, revision=request.revision))


if __name__ == "__main__":
    run_job(main)
