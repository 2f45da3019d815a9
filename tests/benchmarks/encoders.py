"""One training step of each architecture of encoders: tokens per second and peak memory, beside PyTorch's.

The encoders are random, with a head of two classes. jaxft and transformers train them with AdamW and a clip of 1 on
random pieces, with the dropouts that their configurations have by default; PyTorch with autocast where the precision is
bf16.

    python tests/benchmarks/encoders.py [--peer PYTHON_WITH_TORCH] [--only deberta-v2 modernbert] [--rounds N]
"""

# pyright: reportMissingImports=false

import argparse
import json
import resource
import sys
import time
from statistics import median

import numpy as np
from in_turn import compare, median_seconds
from timed_steps import ARCHITECTURES, POOLED, Encoder, encoder_settings


def size_of(options: argparse.Namespace) -> Encoder:
    """The sizes of the encoder and of its batches."""
    return Encoder(options.hidden, options.layers, options.hidden // 32, options.batch, options.width)


def batch_of(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Texts of random pieces, and their labels."""
    rng, shape = np.random.default_rng(0), (options.batch, options.width)
    return {
        "tokens": rng.integers(5, options.vocabulary, shape, np.int32),
        "lengths": np.full(options.batch, options.width, np.int32),
        "labels": rng.integers(0, 2, options.batch, np.int32),
    }


def peak_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(architecture: str, options: argparse.Namespace) -> dict[str, float]:
    """Speed and memory of jaxft, in this process."""
    import jax
    import optax
    from flax import nnx

    from jaxft import TrainState, discriminative, label_params, make_train_step
    from jaxft.finetune.stages import encoder_loss
    from jaxft.models import encoders
    from jaxft.models.encoder_config import encoder_config
    from jaxft.models.transformer import Transformer
    from jaxft.training.process import set_up

    set_up()
    settings = encoder_settings(architecture, size_of(options), options.vocabulary)
    config = encoder_config(settings, "random", architecture in POOLED, 2, options.precision)
    params = nnx.to_pure_dict(nnx.state(Transformer(config, nnx.Rngs(0)), nnx.Param))
    encoder = encoders.Encoder(config, settings, None, remat=options.remat)
    rules = encoders.encoder_rules(config.layer_groups)
    rates = dict.fromkeys((group for _, group in rules), 2e-5)
    tx = discriminative(optax.adamw(1.0), label_params(params, rules), rates, clip_norm=1.0)
    step = jax.jit(make_train_step(encoder_loss(encoder, "classification"), tx), donate_argnums=0)
    state = TrainState.create(params, tx, key=jax.random.key(0))
    del params
    seconds = median_seconds(step, state, batch_of(options), options.steps)
    return {"tokens_per_s": options.batch * options.width / seconds, "peak_mb": peak_mb()}


def measure_torch(architecture: str, options: argparse.Namespace) -> str:
    """Speed and memory of transformers in PyTorch, in this process."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    settings = encoder_settings(architecture, size_of(options), options.vocabulary)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**settings)).train()
    optimizer, batch = torch.optim.AdamW(model.parameters(), lr=2e-5), batch_of(options)
    ids, labels = (torch.from_numpy(batch[name]).long() for name in ("tokens", "labels"))
    mask, times = torch.ones_like(ids), []
    for _ in range(options.steps + 1):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
    return f"{ids.numel() / median(times[1:]):.0f} tokens/s, peak {peak_mb():.0f} MB"


def main() -> None:
    """Runs the rounds of each architecture and prints a table for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python with torch and transformers")
    parser.add_argument("--only", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES), help="architectures")
    sizes = {"layers": 6, "hidden": 384, "batch": 16, "width": 128, "vocabulary": 30_000, "steps": 5, "rounds": 3}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="of products")
    parser.add_argument("--remat", action="store_true", help="recompute whole layers in jaxft")
    parser.add_argument("--child", choices=["jaxft", "torch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "jaxft":
        print(json.dumps(measure(options.only[0], options)))
    elif options.child == "torch":
        print(measure_torch(options.only[0], options))
    else:
        for architecture in options.only:
            print(f"\n{architecture}\n")
            given = [__file__, *sys.argv[1:], "--only", architecture, "--child"]
            peer = [options.peer, *given, "torch"] if options.peer else None
            compare({"jaxft": [sys.executable, *given, "jaxft"]}, peer, options.rounds)


if __name__ == "__main__":
    main()
