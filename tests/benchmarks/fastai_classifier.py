"""The peer of classifier_step.py: fastai's text classifier on the same documents; prints tokens/s and peak memory.

python tests/benchmarks/fastai_classifier.py full|small reviews.csv train|predict
"""

# pyright: reportMissingImports=false

import resource
import sys
import time

import numpy as np
import torch
from fastai.text.data import pad_chunk
from fastai.text.models.awdlstm import AWD_LSTM
from fastai.text.models.core import get_text_classifier
from reviews import BPTT, CLASSES, EVALUATION_BATCH, MAX_LENGTH, PAD, SIZES, documents, sample

torch.set_num_threads(2)


def groups(lengths, size, shuffled):
    """Documents in batches as fastai's `SortedDL` makes them: by length, in training within 50 random batches."""
    stretches = [np.arange(len(lengths))]
    if shuffled:
        order = np.random.default_rng(0).permutation(len(lengths))
        stretches = [order[i : i + 50 * size] for i in range(0, len(order), 50 * size)]
    order = np.concatenate([stretch[np.argsort(-lengths[stretch], kind="stable")] for stretch in stretches])
    return [order[i : i + size] for i in range(0, len(order), size)]


def batch(texts, chosen):
    """Padded in whole chunks, as fastai does."""
    longest = len(texts[chosen[0]])
    rows = [pad_chunk(torch.from_numpy(texts[i]), pad_idx=PAD, seq_len=BPTT, pad_len=longest) for i in chosen]
    return torch.stack(rows), torch.from_numpy(chosen % CLASSES)


def main() -> None:
    """Times the sampled batches, after the longest."""
    name, path, work = sys.argv[1:]
    size, training = SIZES[name], work == "train"
    sizes = {"emb_sz": size.embedding, "n_hid": size.hidden, "n_layers": size.layers}
    model = get_text_classifier(
        AWD_LSTM, size.words, CLASSES, seq_len=BPTT, config=sizes, max_len=MAX_LENGTH, pad_idx=PAD
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    texts = documents(path, size)
    lengths = np.array([len(text) for text in texts])
    all_groups = groups(lengths, size.batch if training else EVALUATION_BATCH, training)
    model.train(training)

    def run(numbers):
        for number in numbers:
            tokens, labels = batch(texts, all_groups[number])
            if not training:
                with torch.no_grad():
                    model(tokens)[0].argmax(dim=1)
                continue
            loss = torch.nn.functional.cross_entropy(model(tokens)[0], labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return sum(lengths[all_groups[number]].sum() for number in numbers)

    longest = [lengths[group].max() for group in all_groups]
    run([int(np.argmax(longest))])
    started = time.perf_counter()
    words = run(sample(longest, size.taken))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"fastai {work}: {words / seconds:.0f} tokens/s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
