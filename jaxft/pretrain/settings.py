"""Settings, presets and command line of `python -m jaxft.pretrain`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxft.errors import InputError
from jaxft.language_model import presets
from jaxft.language_model.settings import LANGUAGE_MODEL_RANGES, LanguageModelSettings, check_dropouts, check_text
from jaxft.training import command_line

WIKITEXT = "wikitext-2"


@dataclass(frozen=True, kw_only=True)
class Settings(LanguageModelSettings):
    """Trains an AWD-LSTM language model on plain text."""

    files: Annotated[tuple[Path, ...], tyro.conf.arg(name="text")] = ()
    """UTF-8 text files, plain or compressed, tars of them, or folders of both"""
    data: str | None = None
    """wikitext-2 (downloaded once), or a folder with train.txt, valid.txt and test.txt, already split into tokens by
    spaces"""
    preset: Literal["small", "fastai", "gpu", "awd-lstm-lm"] = "small"
    """settings to start from"""
    out: Path = Path("runs/pretrain")
    """folder of the run; must be new or empty, unless --resume is given"""


PRESETS = {
    "small": Settings(preset="small", **vars(presets.SMALL)),
    "fastai": Settings(preset="fastai", **vars(presets.FASTAI)),
    "gpu": Settings(preset="gpu", **vars(presets.GPU)),
    "awd-lstm-lm": Settings(preset="awd-lstm-lm", seed=1882, **vars(presets.AWD_LSTM_LM)),
}


def check(settings: Settings) -> None:
    """Refuses flags that contradict each other.

    Raises:
        InputError: no text or two sources of it, nothing to train, or dropouts that are no probabilities.
    """
    check_text(settings.text)
    check_dropouts("lm", settings.lm)
    if settings.files and settings.data is not None:
        raise InputError("--text and --data are both given: leave one out")
    if not settings.files and settings.data is None:
        raise InputError("--text and --data are both missing: give one of them")
    if not settings.lm.epochs:
        raise InputError("--lm.epochs 0 leaves nothing to train: give at least 1")


COMMAND = command_line.Command(
    job="pretrain",
    presets=PRESETS,
    choose_preset=lambda settings: settings.preset,
    ranges=LANGUAGE_MODEL_RANGES,
    check=check,
    examples=("--text books/ --out runs/books", "--data wikitext-2 --preset awd-lstm-lm --out runs/wikitext"),
    usual_flags={**command_line.usual_flags("lm"), "max-length": ("lm.bptt",)},
    advice={"warmup": "its schedules have a fixed warm-up, so choose one with --lm.schedule"},
)


parse = COMMAND.parse
