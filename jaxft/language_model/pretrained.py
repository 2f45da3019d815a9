"""Pretrained language models: those that fastai publishes or saves, runs of jaxft, and models of jaxft on the hub."""

from pathlib import Path

from jaxft.base.files import require_file
from jaxft.data.archive import archive_files, is_archive
from jaxft.data.document import Direction
from jaxft.data.download import fetch
from jaxft.data.files import expanded
from jaxft.data.hub import HUB_NAME, downloaded_model, refuse_revision
from jaxft.errors import InputError
from jaxft.inference.language_model import TextLanguageModel
from jaxft.inference.load import LANGUAGE_MODELS, load
from jaxft.models.fastai import (
    language_model_params,
    refuse_other_size,
    state_dict,
    vocabulary_from_pickle,
)
from jaxft.models.pickle_machine import LARGEST_PICKLE
from jaxft.models.torch_file import LARGEST_FILE

FASTAI_URL = "https://s3.amazonaws.com/fast-ai-modelzoo/{}"
FASTAI_FILES: dict[Direction, tuple[str, int, str]] = {
    "forward": ("wt103-fwd.tgz", 105_067_061, "7d1114cd9684bf9d1ca3c9f6a54da6f9"),
    "backward": ("wt103-bwd.tgz", 105_205_312, "20b06f5830fd5a891d21044c28d3097f"),
}
"""name, size in bytes and md5 of the first 2**20 bytes, from `fastai/datasets.py` of fastai 1"""


def open_pretrained(name_or_path: str, direction: Direction, revision: str | None = None) -> TextLanguageModel:
    """The language model that `name_or_path` names, for one direction.

    Args:
        name_or_path: "fastai" (its models trained on WikiText-103, from the cache or downloaded); or the path of a
            run of jaxft, of a tar or folder with one `.pth` and one `.pkl` file, or of a `.pth` file with its `itos`
            pickle beside it; or the name of a language model of jaxft on the Hugging Face hub, such as "user/model".
        direction: direction of the model; a file of fastai does not say its own, so it is taken as it is.
        revision: branch, tag or commit of a model on the hub.

    Raises:
        InputError: a failed download, a missing file, a file that is damaged or holds anything but tensors, a model of
            the other direction, or a revision of what is not on the hub.
    """
    path = expanded(name_or_path)
    if not path.exists() and HUB_NAME.fullmatch(name_or_path):
        return _from_run(downloaded_model(name_or_path, revision), direction, name_or_path)
    refuse_revision(f"--pretrained {name_or_path}", revision)
    if name_or_path == "fastai":
        name, size, md5 = FASTAI_FILES[direction]
        instead = "--pretrained PATH for your own copy"
        return _from_archive(fetch(FASTAI_URL.format(name), md5, name=name, size=size, instead=instead), direction)
    if path.is_dir() and not any(path.glob("*.pth")):
        return _from_run(path, direction, str(path))
    if path.is_dir():
        return _from_file(_only(path, ".pth"), _only(path, ".pkl"), direction)
    if not path.exists():
        raise InputError(
            f"{name_or_path} does not exist: give fastai, a run, a tar, a folder, a .pth file, or USER/NAME on the hub"
        )
    if is_archive(path):
        return _from_archive(path, direction)
    return _from_file(path, _itos_beside(path), direction)


def is_one_direction(name_or_path: str) -> bool:
    """Whether `--pretrained` names a file of fastai, which holds a model of one direction."""
    path = expanded(name_or_path)
    return name_or_path != "fastai" and (path.is_file() or any(path.glob("*.pth")))


def _from_run(path: Path, direction: Direction, name: str) -> TextLanguageModel:
    folder = path / LANGUAGE_MODELS[direction]
    if not folder.is_dir():
        folder = path
    if not (folder / "model.json").exists():
        raise InputError(
            f"{name} holds no {direction} language model: name a run that has trained one, or a folder with the .pth "
            "and .pkl file of fastai"
        )
    model = load(folder)
    if not isinstance(model, TextLanguageModel) or model.direction != direction:
        raise InputError(f"{name} holds no {direction} language model: name a run that has trained one")
    return model


def _from_archive(path: Path, direction: Direction) -> TextLanguageModel:
    """The one .pth and the one .pkl file of a tar."""
    files: dict[str, tuple[str, bytes]] = {}
    for member, content in archive_files(path):
        suffix = Path(member.name).suffix
        if suffix in (".pth", ".pkl") and not Path(member.name).name.startswith("."):
            if suffix in files:
                raise InputError(f"{path} holds several {suffix} files: name a tar with one .pth and one .pkl")
            _refuse_larger(member.size, f"{path}: {member.name}", LARGEST_FILE if suffix == ".pth" else LARGEST_PICKLE)
            files[suffix] = f"{path}: {member.name}", content.read()
    if len(files) < 2:
        missing = " and ".join({".pth", ".pkl"} - set(files))
        raise InputError(f"{path} holds no {missing} file: name a tar with the weights and their itos")
    return _model(*files[".pth"], *files[".pkl"], direction)


def _from_file(weights: Path, itos: Path, direction: Direction) -> TextLanguageModel:
    for path in (weights, itos):
        require_file(path)
    try:
        _refuse_larger(weights.stat().st_size, str(weights), LARGEST_FILE)
        _refuse_larger(itos.stat().st_size, str(itos), LARGEST_PICKLE)
        return _model(str(weights), weights.read_bytes(), str(itos), itos.read_bytes(), direction)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read ({error.strerror}): check its permissions") from error


def _model(name: str, weights: bytes, itos_name: str, itos: bytes, direction: Direction) -> TextLanguageModel:
    config, params = language_model_params(state_dict(weights, name), name)
    vocabulary = vocabulary_from_pickle(itos, itos_name)
    refuse_other_size(vocabulary, config, name)
    return TextLanguageModel(config, vocabulary, params, direction)


def _itos_beside(weights: Path) -> Path:
    """The pickle of tokens that belongs to a file of weights: the only one beside it, or the one named like it."""
    candidates = sorted(weights.parent.glob("*.pkl"))
    if len(candidates) > 1:
        candidates = [path for path in candidates if weights.stem in path.stem]
    if len(candidates) != 1:
        count = "no" if not candidates else "several"
        raise InputError(f"{weights} has {count} .pkl files of tokens beside it: put its itos there, named like it")
    return candidates[0]


def _only(folder: Path, suffix: str) -> Path:
    files = sorted(folder.glob(f"*{suffix}"))
    if len(files) != 1:
        raise InputError(f"{folder} holds {len(files)} {suffix} files: name the .pth file itself, its itos beside it")
    return files[0]


def _refuse_larger(size: int, name: str, largest: int) -> None:
    if size > largest:
        raise InputError(
            f"{name} has {size:,} bytes, too many for an AWD-LSTM (at most {largest:,}): name another file"
        )
