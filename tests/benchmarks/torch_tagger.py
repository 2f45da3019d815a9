"""The peer of tagger_step.py: nn.LSTM and pytorch-crf on the same sentences; prints tokens/s and peak memory.

python tests/benchmarks/torch_tagger.py STEPS
"""

# pyright: reportMissingImports=false

import resource
import sys
import time

import numpy as np
import torch
from sentences import BATCH, FEATURES, TAGS, UNITS, WORDS, batches
from torchcrf import CRF

torch.set_num_threads(2)


class Tagger(torch.nn.Module):
    """Embedding, BiLSTM over packed sentences, linear layer, CRF."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(WORDS, FEATURES)
        self.lstm = torch.nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=True)
        self.dropout, self.out = torch.nn.Dropout(0.5), torch.nn.Linear(2 * UNITS, TAGS)
        self.crf = CRF(TAGS, batch_first=True)

    def loss(self, tokens, lengths, tags):
        """Nats per token."""
        pack, unpack = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
        packed = pack(self.dropout(self.embedding(tokens)), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = unpack(self.lstm(packed)[0], batch_first=True, total_length=tokens.shape[1])
        mask = torch.arange(tokens.shape[1])[None, :] < lengths[:, None]
        return -self.crf(self.out(self.dropout(hidden)), tags, mask, reduction="sum") / lengths.sum()


def main() -> None:
    """Times the steps after a first one."""
    model = Tagger().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    data = [[torch.from_numpy(part).long() for part in batch] for batch in batches(int(sys.argv[1]))]

    def step(batch):
        loss = model.loss(*batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    step(data[0])
    started = time.perf_counter()
    for batch in data:
        step(batch)
    seconds = time.perf_counter() - started
    tokens = int(np.sum([int(lengths.sum()) for _, lengths, _ in data]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"pytorch-crf: {tokens / seconds:.0f} tokens/s in batches of {BATCH}, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
