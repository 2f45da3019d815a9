"""Training and inference of the classifier on the lengths of real reviews: words per second and peak memory, beside
fastai's `SentenceEncoder` of the same sizes.

    python tests/benchmarks/classifier_step.py full|small --data reviews.csv [--rounds N] [--peer PYTHON_WITH_FASTAI]

The file has a column `text`. Its texts are put in batches as a job would; timed are some of these, spread evenly from
the shortest to the longest, after the longest and one of each width, for which the step is compiled; inference computes
two batches at once, so it starts with the two longest. Padding is counted as no words. The share is that of the rate of
a large matrix product in the same process, by the products of every word.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from in_turn import compare
from reviews import SIZES


def measure(name: str, path: str, work: str, precision: str) -> dict[str, float]:
    """Words per second of training or inference, and the process's peak memory."""
    import jax
    import numpy as np
    import optax
    from flax import nnx
    from reviews import BPTT, CLASSES, EVALUATION_BATCH, MAX_LENGTH, PAD, documents, sample

    from jaxft import TrainState, discriminative, label_params, make_train_step
    from jaxft.base.cores import make_devices_of_cores, on_cores
    from jaxft.base.sharding import mesh_for, place
    from jaxft.data.length_batches import LengthBatches, length_widths
    from jaxft.inference.text_classifier import classifier_logits_fn, results_of_texts
    from jaxft.language_model.estimate import flops_per_token, product_speed
    from jaxft.models.awd_lstm import AWDLSTMConfig
    from jaxft.models.heads import Classifier, classification_loss, classifier_rules
    from jaxft.models.options import Dropouts
    from jaxft.optim.phases import Phase
    from jaxft.optim.whole_batch import value_and_grad
    from jaxft.training.devices import sharded
    from jaxft.training.loop import take_steps
    from jaxft.training.process import set_up

    set_up()
    make_devices_of_cores()
    chosen: Any = precision
    size = SIZES[name]
    config = AWDLSTMConfig(size.words, size.embedding, size.hidden, size.layers, chosen)
    model = Classifier(config, CLASSES, Dropouts(), nnx.Rngs(0), max_length=MAX_LENGTH, bptt=BPTT)
    graphdef, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, statistics = nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)
    texts = documents(path, size)
    lengths = np.array([len(text) for text in texts])
    batches = LengthBatches(
        ids=np.concatenate(texts),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        documents=np.arange(len(texts)),
        labels=(np.arange(len(texts)) % CLASSES).astype(np.int32),
        batch_size=size.batch if work == "train" else EVALUATION_BATCH,
        widths=length_widths(int(lengths.max()), MAX_LENGTH, BPTT, buckets=2 if work == "train" else 1),
        pad=PAD,
    )
    phase = None
    if work == "train":
        rules = classifier_rules(size.layers)
        rates = {group: 1e-3 for _, group in rules}
        phase = Phase("all", rates, 1)
        tx = discriminative(optax.adam(1.0), label_params(params, rules), rates, clip_norm=1.0)
        with on_cores(size.batch, params):
            mesh = mesh_for(size.batch)

        def shared(loss_fn: Any) -> Any:
            return sharded(value_and_grad(loss_fn), mesh, 0, None)

        step = jax.jit(make_train_step(classification_loss(graphdef), tx, None, shared), donate_argnums=0)
        state = place(TrainState.create(params, tx, key=jax.random.key(0), carry=statistics), mesh)
        del params

        def run(numbers: Sequence[int]) -> int:
            nonlocal state
            start, words = int(state.step), 0

            def batch(number: int) -> Any:
                nonlocal words
                made = batches.training_batch(numbers[number - start], seed=0)
                words += int(made["lengths"].sum())
                return place(made, mesh, 0)

            state = take_steps(state, step, batch, start + len(numbers), on_metrics=lambda number, metrics: None)
            return words

        made = [batches.training_batch(number, seed=0) for number in range(batches.steps_per_epoch)]
        longest = [int(batch["lengths"].max()) for batch in made]
        one_of_each = {batch["tokens"].shape[1]: number for number, batch in enumerate(made)}
        del made
        run([int(np.argmax(longest)), *one_of_each.values()])
    else:
        logits = jax.jit(classifier_logits_fn(graphdef))
        groups = batches.evaluation_batches()

        def run(numbers: Sequence[int]) -> int:
            chosen = np.concatenate([groups[number] for number in numbers])
            results_of_texts(logits, config, params, statistics, replace(batches, documents=chosen))
            return int(lengths[chosen].sum())

        longest = [int(lengths[group].max()) for group in groups]
        run(range(min(2, len(groups))))
    numbers = sample(longest, size.taken)
    started = time.perf_counter()
    words = run(numbers)
    speed = words / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = product_speed(chosen)
    share = speed * flops_per_token(config, softmax=False, phase=phase) / rate
    return {"tokens_per_s": speed, "peak_mb": peak, "share": share, "product_gflops": rate / 1e9}


def main() -> None:
    """Runs the rounds and prints a table for training and one for inference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--data", required=True, help="a CSV file with a column text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="Python with fastai")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.size, options.data, *options.child)))
        return
    script = str(Path(__file__).with_name("fastai_classifier.py"))
    for work in ("train", "predict"):
        ours = {
            f"jaxft {precision}": [
                sys.executable,
                __file__,
                options.size,
                "--data",
                options.data,
                "--child",
                work,
                precision,
            ]
            for precision in ("f32", "bf16")
        }
        peer = [options.peer, script, options.size, options.data, work] if options.peer else None
        print(f"\n{work}\n", flush=True)
        compare(ours, peer, options.rounds)


if __name__ == "__main__":
    main()
