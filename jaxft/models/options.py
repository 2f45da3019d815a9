"""Options of the models, without JAX: precision of matrix products, pooling of encoders, dropouts of AWD-LSTM."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["f32", "bf16"]
Pooling = Literal["cls", "mean", "max"]
"""what the head of an encoder reads: the first token, or the mean or the maximum over the tokens of a text"""


@dataclass(frozen=True)
class Dropouts:
    """Probabilities of AWD-LSTM's five dropouts."""

    input: float = 0.25
    """dropout of the features of the embedded words, one mask per sequence"""
    hidden: float = 0.15
    """dropout of the features between layers, one mask per sequence"""
    output: float = 0.1
    """dropout of the features of the last layer, one mask per sequence"""
    weight: float = 0.2
    """dropout of the hidden-to-hidden weights (DropConnect)"""
    embedding: float = 0.02
    """dropout of whole words of the vocabulary, the same for the whole window"""

    def scaled(self, factor: float) -> "Dropouts":
        """All five probabilities times `factor` (fastai's `drop_mult`)."""
        return Dropouts(*(factor * p for p in (self.input, self.hidden, self.output, self.weight, self.embedding)))


NO_DROPOUT = Dropouts(0.0, 0.0, 0.0, 0.0, 0.0)
