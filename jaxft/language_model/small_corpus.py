"""Rows of a language model that fit a small corpus."""

from dataclasses import replace
from typing import TypeVar

from jaxft.data.splits import Texts
from jaxft.language_model.settings import LanguageModelSettings

S = TypeVar("S", bound=LanguageModelSettings)
LEAST_STEPS = 10
"""steps in an epoch for which the rows are made fewer"""


def has_enough_text(settings: LanguageModelSettings, texts: Texts) -> bool:
    """Whether a language model can learn from the texts, in one row at least, and be measured."""
    lengths = texts.store.lengths
    tokens, held_out = int(lengths[texts.lm_train].sum()), int(lengths[texts.lm_valid].sum())
    return tokens > LEAST_STEPS * settings.lm.bptt and held_out > 1


def with_fitting_rows(settings: S, texts: Texts) -> tuple[S, list[str]]:
    """The settings with fewer rows where an epoch would else have fewer than 10 steps.

    Returns:
        The settings, and a line for the user if they differ.
    """
    stage = settings.lm
    tokens, rows = int(texts.store.lengths[texts.lm_train].sum()), stage.batch_size
    while tokens <= LEAST_STEPS * rows * stage.bptt and rows > 1:
        rows //= 2
    if rows == stage.batch_size:
        return settings, []
    shown = "one row" if rows == 1 else f"{rows} rows"
    line = (
        f"the language model reads {tokens:,} tokens in {shown}, because {stage.batch_size} would leave it fewer than "
        f"{LEAST_STEPS} steps an epoch"
    )
    return replace(settings, lm=replace(stage, batch_size=rows)), [line]
