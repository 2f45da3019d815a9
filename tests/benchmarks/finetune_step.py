"""One training step of an encoder: tokens per second and peak memory, beside transformers' step in PyTorch.

Batches of 16 texts of 256 random pieces, a head of two classes, AdamW and a clip of 1, as the peer's script has them.

    python tests/benchmarks/finetune_step.py CHECKPOINT [--rounds N] [--peer PYTHON_WITH_TORCH --script hf_finetune.py]

The peer's script takes a checkpoint and a number of steps, and prints "N tokens/s" and "peak N MB".
"""

import argparse
import json
import resource
import sys
from dataclasses import replace
from typing import Any

from in_turn import compare, median_seconds

STEPS, BATCH, WIDTH = 5, 16, 256


def measure(checkpoint: str, precision: str) -> dict[str, float]:
    """Median of the steps, after the first one, of this process."""
    import jax
    import numpy as np
    import optax

    from jaxft import TrainState, discriminative, label_params, make_train_step
    from jaxft.finetune.stages import encoder_loss
    from jaxft.language_model.estimate import product_speed
    from jaxft.models.encoders import encoder_rules, open_checkpoint
    from jaxft.training.process import set_up

    set_up()
    chosen: Any = precision
    encoder = open_checkpoint(checkpoint, 2, precision=chosen)
    config, rules = encoder.config, encoder_rules(encoder.config.num_layers)
    rates = dict.fromkeys((group for _, group in rules), 2e-5)
    tx = discriminative(optax.adamw(1.0), label_params(encoder.params, rules), rates, clip_norm=1.0)
    params, encoder = encoder.params, replace(encoder, params=None)
    step = jax.jit(make_train_step(encoder_loss(encoder, "classification"), tx), donate_argnums=0)
    state = TrainState.create(params, tx, key=jax.random.key(0))
    del params
    rng = np.random.default_rng(0)
    batch = {
        "tokens": rng.integers(1000, 20000, (BATCH, WIDTH), np.int32),
        "lengths": np.full(BATCH, WIDTH, np.int32),
        "labels": rng.integers(0, 2, BATCH, np.int32),
    }
    seconds = median_seconds(step, state, batch, STEPS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    speed = BATCH * WIDTH / seconds
    weights = config.num_layers * (4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size)
    attention = 2 * config.num_layers * WIDTH * config.hidden_size
    rate = product_speed(chosen)
    flops = 3 * 2 * (weights + attention)
    return {"tokens_per_s": speed, "peak_mb": peak, "share": speed * flops / rate, "product_gflops": rate / 1e9}


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="Python in whose environment the peer's script runs")
    parser.add_argument("--script", help="the peer's script")
    parser.add_argument("--child", choices=["f32", "bf16"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.checkpoint, options.child)))
        return
    ours = [sys.executable, __file__, options.checkpoint, "--child"]
    peer = [options.peer, options.script, options.checkpoint, str(STEPS)] if options.peer else None
    compare({f"jaxft {precision}": [*ours, precision] for precision in ("f32", "bf16")}, peer, options.rounds)


if __name__ == "__main__":
    main()
