"""Training of a BiLSTM-CRF tagger: tokens per second and peak memory, beside nn.LSTM with pytorch-crf, and how the cost
of the CRF grows with the length.

    python tests/benchmarks/tagger_step.py [--rounds N] [--peer PYTHON_WITH_TORCH_AND_PYTORCH_CRF]
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from in_turn import compare

STEPS = 60


def measure(precision: str) -> dict[str, float]:
    """The steps of an epoch, after one of each width that compiles."""
    import jax
    import numpy as np
    import optax
    from sentences import BATCH, FEATURES, TAGS, UNITS, WORDS, batches

    from jaxft import TrainState, discriminative, make_train_step
    from jaxft.models.tagger import TaggerConfig, TaggerFns
    from jaxft.training.process import set_up

    set_up()
    chosen: Any = precision
    names = ("O", *(f"{kind}-{i}" for i in range(TAGS // 2) for kind in "BI"))
    fns = TaggerFns(TaggerConfig(names, FEATURES, WORDS, UNITS, precision=chosen))
    params = fns.init(0)
    tx = discriminative(optax.adamw(1.0), jax.tree.map(lambda _: "all", params), {"all": 1e-3}, clip_norm=5.0)
    step = jax.jit(make_train_step(fns.loss, tx), donate_argnums=0)
    state = TrainState.create(params, tx, key=jax.random.key(0))
    data = []
    for tokens, lengths, tags in batches(STEPS):
        own = np.where(np.arange(tokens.shape[1])[None, :] < lengths[:, None], tags, -1)
        data.append({"tokens": tokens, "lengths": lengths, "tags": own.astype(np.int32)})
    for batch in data[:3]:
        state, _ = step(state, batch)
    jax.block_until_ready(state.params)
    started = time.perf_counter()
    for batch in data:
        state, _ = step(state, batch)
    jax.block_until_ready(state.params)
    seconds = time.perf_counter() - started
    count = sum(int(batch["lengths"].sum()) for batch in data)
    assert all(len(batch["tokens"]) == BATCH for batch in data)
    return {"tokens_per_s": count / seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def crf_growth() -> None:
    """Prints the time of the CRF's loss with its gradient by length."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxft.models.crf import init_crf, log_likelihood

    crf = init_crf(21, jax.random.key(0))
    step = jax.jit(jax.grad(lambda crf, *rest: log_likelihood(crf, *rest).sum(), argnums=(0, 1)))
    print("\n| length | CRF, ms a batch of 32 | us a token |\n|---|---|---|")
    for length in (64, 128, 256, 512, 1024):
        scores, tags = jnp.zeros((32, length, 21)), jnp.zeros((32, length), jnp.int32)
        mask, times = jnp.ones((32, length), bool), []
        for _ in range(12):
            started = time.perf_counter()
            jax.block_until_ready(step(crf, scores, tags, mask))
            times.append(time.perf_counter() - started)
        middle = float(np.median(times[2:]))
        print(f"| {length} | {1e3 * middle:.1f} | {1e6 * middle / (32 * length):.2f} |")


def main() -> None:
    """Runs the rounds and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="Python in whose environment the peer runs")
    parser.add_argument("--child", choices=["f32", "bf16"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child)))
        return
    ours = [sys.executable, __file__, "--child"]
    peer = [options.peer, str(Path(__file__).with_name("torch_tagger.py")), str(STEPS)] if options.peer else None
    compare({f"jaxft {precision}": [*ours, precision] for precision in ("f32", "bf16")}, peer, options.rounds)
    crf_growth()


if __name__ == "__main__":
    main()
