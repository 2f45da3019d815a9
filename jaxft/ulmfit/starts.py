"""The language models that `--pretrained` and `--language-model` name, and checks that they read no held-out text.

`--pretrained` names models to fine-tune; `--language-model` names a run on the same texts whose models are used as they
are. Neither may have read texts that this run holds out.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxft.data.document import Direction
from jaxft.data.splits import Texts
from jaxft.data.vocabulary import Vocabulary
from jaxft.errors import InputError
from jaxft.inference.language_model import TextLanguageModel
from jaxft.language_model.pretrained import is_one_direction, open_pretrained
from jaxft.language_model.settings import Model
from jaxft.language_model.stage import LANGUAGE_MODEL, directions, stage_name
from jaxft.training.run import StageResult, read_stage
from jaxft.training.run_folder import read_run_config
from jaxft.training.settings import flag, flatten
from jaxft.ulmfit.presets import PRESETS
from jaxft.ulmfit.settings import Settings


def open_starts(settings: Settings) -> dict[Direction, TextLanguageModel]:
    """The pretrained language models of each direction; none without `--pretrained`.

    Raises:
        InputError: as `open_pretrained`; or flags that leave it without effect.
    """
    if settings.pretrained is None:
        return {}
    if settings.language_model is not None or not settings.lm.epochs:
        other = "--language-model" if settings.language_model is not None else "--lm.epochs 0"
        raise InputError(f"--pretrained has no effect together with {other}: leave one of the two out")
    if settings.direction == "both" and is_one_direction(settings.pretrained):
        raise InputError(
            f"--pretrained {settings.pretrained} is a model of one direction: train the two in turn with --direction "
            "forward and backward, or name fastai or a run that has both"
        )
    return {d: open_pretrained(settings.pretrained, d, settings.revision) for d in directions(settings.direction)}


def with_sizes_of(starts: Mapping[Direction, TextLanguageModel], settings: Settings) -> Settings:
    """The settings with the sizes of the pretrained models.

    Raises:
        InputError: flags that ask for other sizes or tokens, or two models of different sizes.
    """
    all_sizes = {Model(s.config.embedding_size, s.config.hidden_size, s.config.num_layers) for s in starts.values()}
    if not all_sizes:
        return settings
    sizes = all_sizes.pop()
    kind = "words" if next(iter(starts.values())).vocabulary.merges is None else "subwords"
    if kind != settings.text.tokens:
        raise InputError(f"--pretrained {settings.pretrained} reads {kind}: give --text.tokens {kind}")
    if all_sizes:
        raise InputError(f"--pretrained {settings.pretrained} has models of two sizes: train the two in turn")
    if settings.model not in (PRESETS[settings.preset].model, sizes):
        raise InputError(
            f"--pretrained {settings.pretrained} has the sizes {sizes.embedding_size}, {sizes.hidden_size} and "
            f"{sizes.num_layers} layers: leave out the --model flags, which ask for others"
        )
    return replace(settings, model=sizes)


def borrowed_language_models(
    texts: Texts, settings: Settings, config: Mapping[str, Any]
) -> dict[Direction, StageResult]:
    """The trained language models of the run that `--language-model` names; none without the flag.

    Raises:
        InputError: they have other texts, splits or sizes, or a model to start from has read what is held out here.
    """
    _refuse_leak(settings, config)
    folder = settings.language_model
    if folder is None:
        return {}
    results: dict[Direction, StageResult] = {}
    for direction in directions(settings.direction):
        result = read_stage(folder, stage_name(LANGUAGE_MODEL, direction))
        if result is None:
            raise InputError(
                f"--language-model {folder} holds no trained {direction} language model: name the folder of a run"
            )
        results[direction] = replace(result, report={**result.report, "seconds": 0.0, "tokens": 0})
    theirs, ours = flatten(read_run_config(folder)), flatten(config)
    # With other splits the language model could have read this run's dev texts.
    same = ("corpus", "seed", "transductive", "classifier.dev_fraction")
    theirs.setdefault("text.tokens", "words")  # runs of versions that knew nothing else do not say it
    for name in (*same, *(name for name in ours if name.startswith(("model.", "text.")))):
        if theirs.get(name) != ours[name]:
            raise InputError(
                f"the language model in {folder} was trained with another {name} ({theirs.get(name)}, here "
                f"{ours[name]}): give the same data and flags, or train one here"
            )
    _refuse_wider_limit(f"the language model in {folder}", theirs, settings)
    if Vocabulary.load(folder / "vocabulary.json") != texts.store.vocabulary:
        raise InputError(f"the language model in {folder} has another vocabulary: train one on these texts")
    return results


def _refuse_leak(settings: Settings, config: Mapping[str, Any]) -> None:
    """Refuses to start from a model of the same texts that may have read what this run holds out."""
    path = Path(settings.pretrained or "") / "config.json"
    if settings.pretrained is None or not path.is_file():
        return
    theirs, ours = flatten(read_run_config(path.parent)), flatten(config)
    if theirs.get("corpus") != ours["corpus"]:
        return
    for name in ("seed", "transductive", "classifier.dev_fraction"):
        if theirs.get(name) != ours[name]:
            raise InputError(
                f"--pretrained {settings.pretrained} read the same texts with another {flag(name)} and may have read "
                f"texts that this run holds out: give {flag(name)} {theirs.get(name)}, not {ours[name]}"
            )
    _refuse_wider_limit(f"--pretrained {settings.pretrained}", theirs, settings)


def _refuse_wider_limit(model: str, theirs: Mapping[str, Any], settings: Settings) -> None:
    """Refuses a model of a run with fewer labels than this one, which may hold out texts that it did not."""
    limit, wanted = theirs.get("limit_labels"), settings.limit_labels
    if limit is not None and (wanted is None or wanted > limit):
        raise InputError(
            f"{model} was trained with --limit-labels {limit} and may have read texts that this run holds out: give "
            f"--limit-labels {limit} or fewer here"
        )
