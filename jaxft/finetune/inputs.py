"""What a fine-tuning job reads: examples and checkpoint, as ids, and their splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.data.carving import carve, strata, stratified_folds, stratified_sample
from jaxft.data.columns import Columns
from jaxft.data.document import DEV, TEST, TRAIN
from jaxft.data.examples import Examples, read_examples
from jaxft.data.hub import checkpoint_folder
from jaxft.data.memory import Table
from jaxft.data.pieces import LongTexts, Pieces, encode, makes_windows
from jaxft.errors import InputError
from jaxft.finetune.settings import Settings, Training
from jaxft.inference.open_encoder import open_encoder
from jaxft.models.encoders import Encoder
from jaxft.training.precision import chosen_precision
from jaxft.training.settings import dev_share

MAX_LENGTH = 256
"""the most word pieces that an encoder reads at once by default"""


@dataclass(frozen=True)
class Inputs:
    """What every model of a run starts from.

    Attributes:
        examples: with train, dev and test where there are any.
        pieces: of the texts of all examples.
        folder: of the checkpoint.
        encoder: the checkpoint, with a new head for the task.
        tokenizer: that of the checkpoint.
        max_length: the most word pieces that the encoder reads at once.
        long_texts: what becomes of a text with more.
    """

    examples: Examples
    pieces: Pieces
    folder: Path
    encoder: Encoder
    tokenizer: Any
    max_length: int
    long_texts: LongTexts


@dataclass(frozen=True)
class Split:
    """Indices of the examples to train with, to choose weights by, and to score with."""

    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray


def read_inputs(settings: Settings, table: Table | None = None) -> Inputs:
    """Reads examples and checkpoint, and carves the splits that the data do not have.

    Args:
        settings: of the job.
        table: data in memory, in place of `settings.data`.

    Raises:
        InputError: bad data or no checkpoint, or one that does not fit the flags; the sentence names file and row, or
            the flag.
    """
    examples = read_examples(table or settings.data, settings.task, Columns.of(settings, settings.pair_column))
    test = 0.0 if settings.folds else settings.test_fraction
    kept = round((1 - (0.0 if len(examples.of(TEST)) else test)) * len(examples.of(TRAIN)))
    labelled = min(kept, settings.limit_labels or kept)
    examples = carve(
        examples,
        dev=0.0 if settings.folds else dev_share(settings.dev_fraction, labelled),
        test=test,
        limit=settings.limit_labels,
        seed=settings.seed,
    )
    folder = checkpoint_folder(settings.model, revision=settings.revision)
    encoder, tokenizer = open_encoder(
        folder,
        max(1, len(examples.classes)),
        precision=chosen_precision(settings.precision),
        remat=settings.remat,
        seed=settings.seed,
        dropout=settings.train.dropout,
        new_head=True,
        pooling=None if settings.pooling == "auto" else settings.pooling,
    )
    _check_sizes(settings, encoder)
    max_length = settings.max_length or min(MAX_LENGTH, encoder.config.longest)
    long_texts = settings.long_texts
    if long_texts == "auto":
        long_texts = "windows" if settings.pair_column is None and makes_windows(tokenizer) else "cut"
    pieces = encode(tokenizer, examples.texts, max_length, long_texts)
    return Inputs(examples, pieces, folder, encoder, tokenizer, max_length, long_texts)


def _check_sizes(settings: Settings, encoder: Encoder) -> None:
    """Refuses flags that ask for more than the encoder has."""
    config = encoder.config
    if settings.train.reinit_layers > config.layer_groups:
        shared = ", which share their weights" if config.layer_groups < config.num_layers else ""
        raise InputError(
            f"--train.reinit-layers {settings.train.reinit_layers} is more than the model has: give at most "
            f"{config.layer_groups} for its {config.num_layers} layers{shared}"
        )
    if (settings.max_length or 0) > config.longest:
        raise InputError(
            f"--max-length {settings.max_length} is more than the model reads: give at most {config.longest}"
        )


def split_examples(examples: Examples, settings: Settings) -> dict[str, Split]:
    """The split of each model of the run, by the name of its stage: `train`, or `fold_1` and so on.

    In a cross-validation, every fold is the test of one model, whose dev texts come from the other folds.

    Raises:
        InputError: too few examples.
    """
    if settings.folds:
        splits = _fold_splits(examples, settings)
    else:
        splits = {"train": Split(examples.of(TRAIN), examples.of(DEV), examples.of(TEST))}
    for split in splits.values():
        if not len(split.train) or (settings.folds and not len(split.test)):
            raise _too_few(examples, settings)
    return splits


def _too_few(examples: Examples, settings: Settings) -> InputError:
    return InputError(
        f"{settings.data} has {len(np.unique(examples.keys))} different texts, too few to split: give more texts, "
        "fewer --folds or a smaller --dev-fraction"
    )


def check_batches(pieces: Pieces, splits: Mapping[str, Split], train: Training) -> None:
    """Refuses small data whose only batch --train.accumulation does not divide.

    Raises:
        InputError: naming the flag.
    """
    for split in splits.values():
        size = min(train.batch_size, len(pieces.rows(split.train)))
        if size % train.accumulation:
            raise InputError(
                f"--train.accumulation {train.accumulation} does not divide a batch of {size} texts, which is all that "
                "there are: give a number that does"
            )


def _fold_splits(examples: Examples, settings: Settings) -> dict[str, Split]:
    if settings.folds > len(np.unique(examples.keys)):
        raise _too_few(examples, settings)
    labelled = np.flatnonzero(examples.splits != TEST)
    groups, rng = strata(examples.targets[labelled]), np.random.default_rng(settings.seed)
    keys = examples.keys[labelled]
    folds, splits = stratified_folds(groups, settings.folds, rng, keys), {}
    share = dev_share(settings.dev_fraction, len(labelled) - int(np.bincount(folds).max()))
    for fold in range(settings.run_folds or settings.folds):
        others = np.flatnonzero(folds != fold)
        count = max(1, round(share * len(others))) if share else 0
        dev = stratified_sample(groups[others], min(count, len(others)), rng, keys=keys[others])
        splits[f"fold_{fold + 1}"] = Split(labelled[others[~dev]], labelled[others[dev]], labelled[folds == fold])
    return splits
