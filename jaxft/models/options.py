"""Options of the models: the precision of matrix products and AWD-LSTM's dropout probabilities, without JAX."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["f32", "bf16"]


@dataclass(frozen=True)
class Dropouts:
    """Probabilities of AWD-LSTM's five dropouts."""

    input: float = 0.25
    """of a feature of the embedded words, one mask per sequence"""
    hidden: float = 0.15
    """of a feature between layers, one mask per sequence"""
    output: float = 0.1
    """of a feature of the last layer, one mask per sequence"""
    weight: float = 0.2
    """of a hidden-to-hidden weight (DropConnect)"""
    embedding: float = 0.02
    """of a word of the vocabulary, wherever it stands in the window"""

    def scaled(self, factor: float) -> "Dropouts":
        """All five times `factor` (fastai's `drop_mult`)."""
        return Dropouts(*(factor * p for p in (self.input, self.hidden, self.output, self.weight, self.embedding)))


NO_DROPOUT = Dropouts(0.0, 0.0, 0.0, 0.0, 0.0)
