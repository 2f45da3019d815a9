"""One training step of the language model: tokens per second, peak memory, and how near to the machine's own limit.

The limit is the rate of a large matrix product in the same process; a step is counted with the products that it cannot
do without.

    python tests/benchmarks/language_model_step.py small [--rounds N] [--peer PYTHON_WITH_FASTAI --script fastai_lm.py]

The peer's script takes a size and a number of steps, and prints "N tokens/s" and "peak N MB".
"""

import argparse
import json
import resource
import sys

from in_turn import compare, median_seconds

SIZES = {"full": (60_000, 400, 1152, 3, 64, 72), "small": (8_000, 128, 256, 2, 32, 64)}
STEPS = {"full": 4, "small": 30}


def measure(size: str, precision: str) -> dict[str, float]:
    """Median of the steps, after the first one, of this process."""
    import jax
    import numpy as np
    import optax
    from flax import nnx

    from jaxft import TrainState, discriminative, label_params, make_train_step
    from jaxft.language_model.estimate import flops_per_token, product_speed
    from jaxft.models.awd_lstm import (
        AWDLSTMConfig,
        LanguageModel,
        initial_carry,
        language_model_loss,
        language_model_rules,
    )
    from jaxft.models.options import Dropouts
    from jaxft.optim.phases import Phase
    from jaxft.training.process import set_up

    set_up()
    words, embedding, hidden, layers, rows, bptt = SIZES[size]
    config = AWDLSTMConfig(words, embedding, hidden, layers, precision)  # pyright: ignore[reportArgumentType]
    graphdef, params = nnx.split(LanguageModel(config, Dropouts(), nnx.Rngs(0)))
    params = nnx.to_pure_dict(params)
    rates = {group: 1e-3 for _, group in language_model_rules(layers)}
    tx = discriminative(optax.adam(1.0), label_params(params, language_model_rules(layers)), rates, clip_norm=0.25)
    step = jax.jit(make_train_step(language_model_loss(graphdef), tx), donate_argnums=0)
    state = TrainState.create(params, tx, key=jax.random.key(0), carry=initial_carry(config, rows))
    del params
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(0, words, (2, rows, bptt), np.int32)
    batch = {"inputs": inputs, "targets": targets, "reset": np.asarray(False)}
    seconds = median_seconds(step, state, batch, STEPS[size])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    speed = rows * bptt / seconds
    flops = flops_per_token(config, softmax=True, phase=Phase("all", rates, 1))
    rate = product_speed(config.precision)
    return {"tokens_per_s": speed, "peak_mb": peak, "share": speed * flops / rate, "product_gflops": rate / 1e9}


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="Python in whose environment the peer's script runs")
    parser.add_argument("--script", help="the peer's script")
    parser.add_argument("--child", choices=["f32", "bf16"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.size, options.child)))
        return
    ours = [sys.executable, __file__, options.size, "--child"]
    peer = [options.peer, options.script, options.size, str(STEPS[options.size])] if options.peer else None
    compare({f"jaxft {precision}": [*ours, precision] for precision in ("f32", "bf16")}, peer, options.rounds)


if __name__ == "__main__":
    main()
