"""Sizes and timing that accelerator.py and its peer in PyTorch share; it imports neither."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple


class Encoder(NamedTuple):
    """Sizes of a BERT and of its batches."""

    hidden: int
    layers: int
    heads: int
    rows: int
    width: int


class Sizes(NamedTuple):
    """Sizes of the AWD-LSTM, of its batches, of the encoder and of a large product; and the steps of a timing."""

    words: int
    embedding: int
    hidden: int
    layers: int
    rows: tuple[int, ...]
    bptt: int
    widths: tuple[int, ...]
    encoder: Encoder
    product: int
    timed: int


MODELS = {
    "full": Sizes(60_000, 400, 1152, 3, (64, 512), 72, (480, 1440), Encoder(768, 12, 12, 32, 256), 8192, 8),
    "small": Sizes(1_000, 32, 64, 2, (8, 16), 16, (48, 96), Encoder(32, 2, 2, 4, 16), 512, 2),
}


def seconds_per_step(run: Callable[[int], None], steps: int, rounds: int = 3) -> float:
    """The median over the rounds, after one that warms up; `run` takes so many steps and waits for the last."""
    run(3)
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        run(steps)
        times.append((time.perf_counter() - started) / steps)
    return median(times)
