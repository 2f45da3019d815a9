"""Sizes, configurations and timing that the scripts of steps and their peers in PyTorch share; it imports neither."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple


class Encoder(NamedTuple):
    """Sizes of a BERT and of its batches."""

    hidden: int
    layers: int
    heads: int
    rows: int
    width: int


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": {"type_vocab_size": 2},
    "roberta": {"type_vocab_size": 1, "pad_token_id": 1},
    "distilbert": {},
    "electra": {"type_vocab_size": 2, "embedding_size": 128},
    "albert": {"type_vocab_size": 2, "embedding_size": 128},
    "mpnet": {"pad_token_id": 1},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "modernbert": {"pad_token_id": 0, "local_attention": 128},
}
"""what the configuration of each kind of encoder has beside the sizes"""
POOLED = ("bert", "albert", "deberta-v2", "modernbert")
"""those that have a pooler"""
ON_ACCELERATORS = ("bert", "albert", "deberta-v2", "modernbert")
"""those whose attention or layers differ enough to be timed on an accelerator"""
DISTILBERT_KEYS = {
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
}


def encoder_settings(architecture: str, size: Encoder, words: int) -> dict[str, Any]:
    """The content of an encoder's config.json."""
    sizes = {
        "hidden_size": size.hidden,
        "intermediate_size": 4 * size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
    }
    if architecture == "distilbert":
        sizes = {DISTILBERT_KEYS[key]: value for key, value in sizes.items()}
    positions = {"vocab_size": words, "max_position_embeddings": size.width + 2}
    return {"model_type": architecture, **positions, "pad_token_id": 0, **sizes, **ARCHITECTURES[architecture]}


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
