"""What a fine-tuning job has read, in lines for the user and in an entry of the summary."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxft.data.document import DEV, TEST, TRAIN
from jaxft.data.duplicates import count_duplicates, describe_duplicates
from jaxft.data.examples import Examples
from jaxft.data.overview import (
    describe_classes,
    describe_first,
    describe_lengths,
    describe_numbers,
    missing_classes,
)
from jaxft.data.pieces import makes_windows
from jaxft.finetune.inputs import Inputs, Split
from jaxft.finetune.settings import Settings
from jaxft.models.encoder_config import EncoderConfig
from jaxft.models.encoder_kinds import head_poolings
from jaxft.models.options import Pooling

READ: Mapping[Pooling, str] = {
    "cls": "the first token",
    "mean": "the mean over the tokens",
    "max": "the maximum over the tokens",
}
"""what the head reads with each pooling"""


def describe_data(inputs: Inputs, splits: Mapping[str, Split], settings: Settings) -> dict[str, Any]:
    """The entry of the data in the summary."""
    examples = inputs.examples
    sizes = {name: len(rows) for name, rows in _splits_of(examples).items()}
    folds = {name: [len(split.train), len(split.dev), len(split.test)] for name, split in splits.items()}
    return {
        "name": examples.name,
        "sizes": {name: count for name, count in sizes.items() if count},
        "folds": folds if settings.folds else {},
        "classes": examples.classes,
        "truncated": inputs.pieces.truncated,
        "duplicates": _duplicates(examples),
    }


def _splits_of(examples: Examples) -> dict[str, np.ndarray]:
    return {"train": examples.of(TRAIN), "dev": examples.of(DEV), "test": examples.of(TEST)}


def _duplicates(examples: Examples) -> dict[str, int]:
    return count_duplicates(examples.keys, examples.targets, _splits_of(examples))


def _describe_duplicates(examples: Examples, splits: Mapping[str, Split]) -> list[str]:
    lines = describe_duplicates(_duplicates(examples), _splits_of(examples))
    return [f"{line}; equal texts share a fold" for line in lines] if len(splits) > 1 else lines


def preview_lines(inputs: Inputs, splits: Mapping[str, Split]) -> list[str]:
    """Lines that tell what was read, how long and how often, and what the head reads."""
    pieces, examples = inputs.pieces, inputs.examples
    tests, devs = (np.concatenate([getattr(split, name) for split in splits.values()]) for name in ("test", "dev"))
    first, *_ = splits.values()
    parts = {name: examples.targets[getattr(first, name)] for name in ("train", "dev", "test")}
    return [
        *examples.notes,
        f"{inputs.examples.name}: {len(examples.texts):,} texts of {len(pieces.ids) / len(examples.texts):.0f} word "
        f"pieces on average, padded to {', '.join(map(str, pieces.widths()))}; {_describe_long_texts(inputs)}",
        *inputs.encoder.notes,
        _describe_head(inputs.encoder.config),
        *(
            f"{name}: {len(split.train):,} train, {len(split.dev):,} dev, {len(split.test):,} test"
            for name, split in splits.items()
        ),
        *(describe_classes(examples.classes, parts) or [describe_numbers(examples.targets)]),
        *missing_classes("dev", examples.targets[devs], examples.classes),
        *missing_classes("test", examples.targets[tests], examples.classes),
        *_describe_duplicates(examples, splits),
        describe_lengths(np.bincount(pieces.texts, pieces.lengths).astype(int), _unit(inputs)),
        describe_first(
            " / ".join(examples.texts[0]),
            examples.label(0),
            inputs.tokenizer.convert_ids_to_tokens(pieces.ids[: pieces.offsets[1]].tolist()),
        ),
    ]


def _describe_head(config: EncoderConfig) -> str:
    line, loaded = f"the head reads {READ[config.pooling]}", head_poolings(config.kind)
    if config.pooling in loaded:
        return line
    return f"{line}; transformers cannot load this head, as it can with --pooling {' or '.join(loaded)}"


def _unit(inputs: Inputs) -> str:
    """What the lengths of the texts count."""
    has_windows = len(inputs.pieces.texts) > len(inputs.examples.texts)
    return "word pieces, with those of overlaps twice," if has_windows else "word pieces"


def _describe_long_texts(inputs: Inputs) -> str:
    pieces, windows = inputs.pieces, len(inputs.pieces.texts)
    if windows > len(inputs.examples.texts):
        return f"texts of more than {inputs.max_length} are read in windows, which makes {windows:,} rows"
    if not pieces.truncated:
        return "no text is cut"
    share = 100 * pieces.cut / (len(pieces.ids) + pieces.cut)
    has_choice = pieces.token_type_ids is None and makes_windows(inputs.tokenizer)
    advice = ", so try --long-texts windows" if share >= 10 and has_choice else ""
    cut = "1 text is cut" if pieces.truncated == 1 else f"{pieces.truncated:,} texts are cut"
    return f"{cut}, which leaves out {share:.0f} % of all pieces{advice}"
