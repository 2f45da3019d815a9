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
from reviews import BPTT, CLASSES, EVALUATION_BATCH, MAX_LENGTH, PAD, SIZES, documents

torch.set_num_threads(2)


def batches(texts, size):
    """Documents of like length in batches, each longest first and padded in whole chunks, as fastai's loaders make."""
    order = np.argsort([-len(text) for text in texts], kind="stable")
    for start in range(0, len(order), size):
        chosen = [torch.from_numpy(texts[i]) for i in order[start : start + size]]
        longest = len(chosen[0])
        rows = [pad_chunk(text, pad_idx=PAD, seq_len=BPTT, pad_len=longest) for text in chosen]
        labels = torch.from_numpy(order[start : start + size] % CLASSES)
        yield torch.stack(rows), labels, sum(len(text) for text in chosen)


def main() -> None:
    """Times a second pass over the documents."""
    name, path, work = sys.argv[1:]
    size, training = SIZES[name], work == "train"
    batch = size.batch if training else EVALUATION_BATCH
    sizes = {"emb_sz": size.embedding, "n_hid": size.hidden, "n_layers": size.layers}
    model = get_text_classifier(
        AWD_LSTM, size.words, CLASSES, seq_len=BPTT, config=sizes, max_len=MAX_LENGTH, pad_idx=PAD
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    texts = documents(path, size)
    model.train(training)

    def once():
        words = 0
        for tokens, labels, own in batches(texts, batch):
            words += own
            if not training:
                with torch.no_grad():
                    model(tokens)[0].argmax(dim=1)
                continue
            loss = torch.nn.functional.cross_entropy(model(tokens)[0], labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        return words

    once()
    started = time.perf_counter()
    words = once()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"fastai {work}: {words / seconds:.0f} tokens/s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
