"""Made-up sentences of CLUENER's size for tagger_step.py and its peer: the same lengths, in batches of few widths."""

import numpy as np

WORDS, FEATURES, UNITS, TAGS, BATCH = 4000, 128, 64, 21, 32
WIDTHS = (24, 40, 50)


def batches(steps: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Tokens (B, T), lengths (B,) and tags (B, T) of each step, int32; lengths are spread evenly below the width."""
    rng, found = np.random.default_rng(0), []
    for number in range(steps):
        width = WIDTHS[number % len(WIDTHS)]
        lengths = rng.integers(width - 15, width + 1, BATCH, np.int32)
        tokens, tags = (rng.integers(0, most, (BATCH, width), np.int32) for most in (WORDS, TAGS))
        found.append((tokens, lengths, tags))
    return found
