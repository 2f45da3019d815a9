"""On an accelerator: how exact the layers are, and training steps beside PyTorch's on the same card.

Prints one table after another: the error of each layer, against float64 on the host; the rate of a large product; and
tokens per second and memory of each step, full-size language model, classifier, and encoders of BERT-base's shapes
with random weights. PyTorch runs in a process of its own, with operands rounded to TF32 where ours may be.

    python tests/benchmarks/accelerator.py [--size small] [--torch] [--only STEP ...]

With `--size small` it is done in two minutes on a CPU, which is how to try it out.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # which leaves the card's memory to the peer

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from timed_steps import MODELS, ON_ACCELERATORS, POOLED, Encoder, Sizes, encoder_settings, seconds_per_step

from jaxft import TrainState, discriminative, label_params, make_train_step
from jaxft.finetune.stages import encoder_loss
from jaxft.language_model.estimate import product_speed
from jaxft.models import encoders, heads
from jaxft.models.attention import attention
from jaxft.models.awd_lstm import AWDLSTMConfig, LanguageModel, initial_carry, language_model_loss, language_model_rules
from jaxft.models.encoder_config import encoder_config
from jaxft.models.lstm import lstm
from jaxft.models.options import Dropouts, Precision
from jaxft.models.products import operand
from jaxft.models.tied_softmax import tied_cross_entropy
from jaxft.models.transformer import Transformer

PRECISIONS: tuple[Precision, ...] = ("f32", "bf16")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=MODELS, default="full")
    parser.add_argument("--torch", action="store_true", help="measure PyTorch's steps too")
    parser.add_argument("--only", nargs="+", default=[], help="nothing but steps whose names begin so")
    options = parser.parse_args()
    sizes = MODELS[options.size]
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}\n")
    if not options.only:
        print("| layer | precision | error | error of the gradient |\n|---|---|---|---|")
        for name, precision, error, gradient in errors(sizes):
            print(f"| {name} | {precision} | {error:.1e} | {gradient:.1e} |", flush=True)
    rates = {precision: product_speed(precision, sizes.product) for precision in PRECISIONS}
    print("\n" + ", ".join(f"product {precision} {rate / 1e12:,.2f} TFLOP/s" for precision, rate in rates.items()))
    print("\n| step | | tokens/s | ms | memory, MB |\n|---|---|---|---|---|", flush=True)
    for row in measure_peer(options.size, options.only) if options.torch else []:
        print_row(row["name"], row["variant"], row["tokens"], row["seconds"], row["bytes"])
    for name, variant, make in steps(sizes):
        if options.only and not name.startswith(tuple(options.only)):
            continue
        step, state, batch, tokens = make()
        compiled = step.lower(state, batch).compile()
        memory = compiled.memory_analysis()
        needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        del step
        print_row(name, variant, tokens, steps_in_turn(compiled, state, batch, sizes.timed), needed)
        del state, compiled


def measure_peer(size: str, only: list[str]) -> list[dict[str, Any]]:
    """The rows that PyTorch's steps print, as far as they come; an error is on standard error."""
    command = [sys.executable, str(Path(__file__).with_name("torch_accelerator.py")), size, *only]
    lines = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def print_row(name: str, variant: str, tokens: int, seconds: float, needed: int) -> None:
    """Prints a step's row of the table."""
    print(f"| {name} | {variant} | {tokens / seconds:,.0f} | {1e3 * seconds:.2f} | {needed / 1e6:,.0f} |", flush=True)


def steps_in_turn(step: Callable[..., Any], state: TrainState, batch: Any, count: int) -> float:
    """Seconds of a step; each is asked for before the one before has ended, as a job does."""
    last = state

    def run(steps: int) -> None:
        nonlocal last
        for _ in range(steps):
            last, _ = step(last, batch)
        jax.block_until_ready(last.params)

    return seconds_per_step(run, count)


def steps(sizes: Sizes) -> Iterator[tuple[str, str, Callable[[], tuple[Any, TrainState, Any, int]]]]:
    """Name, variant and maker of every step: the jitted step, its state, its batch, and the tokens of that."""
    for rows in sizes.rows:
        for precision in PRECISIONS:
            yield f"language model, {rows} rows", precision, partial(language_model_step, sizes, rows, precision)
    for width in sizes.widths:
        for precision in PRECISIONS:
            yield f"classifier, {width} words", precision, partial(classifier_step, sizes, width, precision)
    for architecture in ON_ACCELERATORS:
        for precision in PRECISIONS:
            yield architecture, precision, partial(encoder_step, architecture, sizes.encoder, precision)


def language_model_step(sizes: Sizes, rows: int, precision: Precision) -> tuple[Any, TrainState, Any, int]:
    """Forward, AR and TAR, backward, clip and Adam, with all dropouts."""
    config = AWDLSTMConfig(sizes.words, sizes.embedding, sizes.hidden, sizes.layers, precision)
    graphdef, params = nnx.split(LanguageModel(config, Dropouts(), nnx.Rngs(0)))
    tokens = np.random.default_rng(0).integers(0, sizes.words, (2, rows, sizes.bptt), np.int32)
    batch = {"inputs": tokens[0], "targets": tokens[1], "reset": np.asarray(False)}
    rules = language_model_rules(sizes.layers)
    step, state = train_step(language_model_loss(graphdef), params, rules, initial_carry(config, rows), optax.adam(1.0))
    return step, state, batch, rows * sizes.bptt


def classifier_step(sizes: Sizes, width: int, precision: Precision) -> tuple[Any, TrainState, Any, int]:
    """A batch of documents of 60 to 100 % of the width; padding is counted as no words."""
    config = AWDLSTMConfig(sizes.words, sizes.embedding, sizes.hidden, sizes.layers, precision)
    model = heads.Classifier(config, 2, Dropouts(), nnx.Rngs(0), max_length=width, bptt=sizes.bptt)
    graphdef, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    rng, rows = np.random.default_rng(0), sizes.rows[0]
    lengths = rng.integers(int(0.6 * width), width + 1, rows).astype(np.int32)
    tokens = rng.integers(2, sizes.words, (rows, width), np.int32)
    batch = {"tokens": tokens, "lengths": lengths, "labels": (np.arange(rows) % 2).astype(np.int32)}
    rules, loss_fn = heads.classifier_rules(sizes.layers), heads.classification_loss(graphdef)
    step, state = train_step(loss_fn, params, rules, nnx.to_pure_dict(statistics), optax.adam(1.0))
    return step, state, batch, int(lengths.sum())


def encoder_step(architecture: str, size: Encoder, precision: Precision) -> tuple[Any, TrainState, Any, int]:
    """Full-width texts, a head of two classes, AdamW and a clip, with all dropouts."""
    settings = encoder_settings(architecture, size, 30_522)
    config = encoder_config(settings, "random", architecture in POOLED, 2, precision)
    params = nnx.to_pure_dict(nnx.state(Transformer(config, nnx.Rngs(0)), nnx.Param))
    encoder = encoders.Encoder(config, settings, None)
    rng = np.random.default_rng(0)
    batch = {
        "tokens": rng.integers(1000, 20_000, (size.rows, size.width), np.int32),
        "lengths": np.full(size.rows, size.width, np.int32),
        "labels": (np.arange(size.rows) % 2).astype(np.int32),
    }
    loss_fn, rules = encoder_loss(encoder, "classification"), encoders.encoder_rules(config.layer_groups)
    step, state = train_step(loss_fn, params, rules, (), optax.adamw(1.0))
    return step, state, batch, size.rows * size.width


def train_step(loss_fn: Any, params: Any, rules: Any, carry: Any, optimizer: Any) -> tuple[Any, TrainState]:
    """The jitted step of a phase in which all trains."""
    params = nnx.to_pure_dict(params) if isinstance(params, nnx.State) else params
    rates = {group: 1e-4 for _, group in rules}
    tx = discriminative(optimizer, label_params(params, rules), rates, clip_norm=0.25)
    state = TrainState.create(params, tx, key=jax.random.key(0), carry=carry)
    return jax.jit(make_train_step(loss_fn, tx), donate_argnums=0), state


def errors(sizes: Sizes) -> Iterator[tuple[str, str, float, float]]:
    """Name, precision, and the relative errors of a layer's output and of its gradients."""
    rng = np.random.default_rng(0)
    rows, hidden = sizes.rows[0], sizes.embedding

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weight = hidden**-0.5
    arrays = [normal(sizes.bptt, rows, hidden), normal(hidden, 4 * hidden, scale=weight)]
    arrays += [normal(hidden, 4 * hidden, scale=weight), normal(4 * hidden)]

    def layer(precision: Precision, x: Any, *weights: Any) -> Any:
        zeros = jnp.zeros((rows, hidden), x.dtype)
        return lstm(x, (zeros, zeros), *weights, precision=precision)[0]

    for precision in PRECISIONS:
        yield "LSTM", precision, *compared(partial(layer, precision), plain_lstm, arrays)
    targets = jnp.asarray(rng.integers(0, sizes.words, rows * sizes.bptt))
    arrays = [normal(len(targets), hidden), normal(sizes.words, hidden, scale=0.1), normal(sizes.words)]
    for precision in PRECISIONS:
        loss = partial(tied_cross_entropy, targets=targets, precision=precision)
        plain_loss = partial(plain_cross_entropy, np.asarray(targets))
        yield "softmax cross-entropy", precision, *compared(loss, plain_loss, arrays)
    size = sizes.encoder
    heads_shape = (size.rows, size.width, size.heads, size.hidden // size.heads)
    arrays = [normal(*heads_shape) for _ in range(3)]
    plain_attention = jax.nn.dot_product_attention
    for precision in PRECISIONS:
        yield "attention", precision, *compared(partial(all_texts, precision), plain_attention, arrays)
    yield "JAX's attention, for prediction", "f32", *compared(plain_attention, plain_attention, arrays)


def all_texts(precision: Precision, query: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """The attention of training, (B, T, N, D) each, without padding or dropout."""
    mask = jnp.ones((1, query.shape[1]), bool)
    rounded = (operand(x, precision) for x in (query * query.shape[-1] ** -0.5, keys, values))
    return jax.vmap(partial(attention, mask=mask))(*rounded).astype(jnp.float32)


def plain_lstm(inputs: jax.Array, kernel: jax.Array, recurrent: jax.Array, bias: jax.Array) -> jax.Array:
    """The equations, step by step."""

    def step(carry: Any, x: jax.Array) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(x @ kernel + h @ recurrent + bias, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((inputs.shape[1], recurrent.shape[0]), inputs.dtype)
    return jax.lax.scan(step, (zeros, zeros), inputs)[1]


def plain_cross_entropy(targets: np.ndarray, hidden: jax.Array, embedding: jax.Array, bias: jax.Array) -> jax.Array:
    """The mean over all targets, with all logits at once."""
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ embedding.T + bias, targets).mean()


def compared(
    layer: Callable[..., jax.Array], plain: Callable[..., jax.Array], arrays: list[np.ndarray]
) -> tuple[float, float]:
    """The relative errors of a layer on this device, against plain equations in float64 on the host."""

    def value_and_gradients(layer: Callable[..., jax.Array], *arrays: Any) -> Any:
        value, pull = jax.vjp(layer, *arrays)
        return value, pull(jnp.cos(jnp.arange(value.size, dtype=value.dtype).reshape(value.shape)))

    here = jax.jit(partial(value_and_gradients, layer))(*arrays)
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        exact = jax.jit(partial(value_and_gradients, plain))(*(jnp.asarray(x, jnp.float64) for x in arrays))
    return relative(here[0], exact[0]), relative(here[1], exact[1])


def relative(ours: Any, exact: Any) -> float:
    """The norm of the difference over the norm of the exact array, the largest of all arrays."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True)
    return max(float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(b)) for a, b in pairs)


if __name__ == "__main__":
    main()
