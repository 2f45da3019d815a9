"""The peer of accelerator.py: the same steps by torch.nn.LSTM (cuDNN) and transformers; prints a JSON object for each.

    python tests/benchmarks/torch_accelerator.py full|small

The language model has no dropout of its recurrent weights: cuDNN would have to copy them in every step.
"""

# pyright: reportMissingImports=false

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from timed_steps import MODELS, Encoder, Sizes, seconds_per_step
from transformers import BertConfig, BertForSequenceClassification

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class LanguageModel(torch.nn.Module):
    """Embedding, LSTM layers with dropout between them, and a softmax tied to the embedding."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        widths = (sizes.embedding, *[sizes.hidden] * (sizes.layers - 1), sizes.embedding)
        self.embedding = torch.nn.Embedding(sizes.words, sizes.embedding)
        self.bias = torch.nn.Parameter(torch.zeros(sizes.words))
        self.layers = torch.nn.ModuleList(torch.nn.LSTM(inputs, units) for inputs, units in pairwise(widths))

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with AR and TAR, of tokens and targets (T, B)."""
        x = locked_dropout(self.embedding(tokens), 0.25)
        hidden = x
        for layer in self.layers:
            hidden, _ = layer(x)
            x = locked_dropout(hidden, 0.15)
        logits = F.linear(x, self.embedding.weight, self.bias)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return loss + 2 * x.pow(2).mean() + (hidden[1:] - hidden[:-1]).pow(2).mean()


def locked_dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Dropout with one mask for all time steps of (T, B, D)."""
    return x * F.dropout(torch.ones_like(x[:1]), p)


def main() -> None:
    """Times every step in both precisions."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    sizes = MODELS[sys.argv[1]]
    for bf16 in (False, True) if DEVICE == "cuda" else (False,):  # some CPUs have no LSTM in bfloat16
        for rows in sizes.rows:
            tokens, targets = torch.randint(0, sizes.words, (2, sizes.bptt, rows), device=DEVICE)
            model = LanguageModel(sizes).to(DEVICE).train()
            loss = lambda model=model, tokens=tokens, targets=targets: model.loss(tokens, targets)  # noqa: E731
            measure(f"language model, {rows} rows", bf16, model, loss, rows * sizes.bptt, 0.25, sizes.timed)
            del model, loss
        size = sizes.encoder
        model = encoder(size).to(DEVICE).train()
        ids = torch.randint(1000, 20_000, (size.rows, size.width), device=DEVICE)
        labels = torch.arange(size.rows, device=DEVICE) % 2
        mask = torch.ones_like(ids)
        loss = lambda model=model: model(input_ids=ids, attention_mask=mask, labels=labels).loss  # noqa: B023, E731
        measure("encoder", bf16, model, loss, size.rows * size.width, 1.0, sizes.timed)
        del model, loss


def encoder(size: Encoder) -> Any:
    """A BERT with random weights."""
    return BertForSequenceClassification(
        BertConfig(
            hidden_size=size.hidden,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            intermediate_size=4 * size.hidden,
        )
    )


def measure(name: str, bf16: bool, model: Any, loss: Callable[[], Any], tokens: int, clip: float, timed: int) -> None:
    """Prints the row of a step: loss, gradients, clip and AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=DEVICE == "cuda")
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def run(steps: int) -> None:
        for _ in range(steps):
            with torch.autocast(DEVICE, torch.bfloat16, enabled=bf16):
                value = loss()
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    seconds = seconds_per_step(run, timed)
    needed = torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0
    variant = f"PyTorch, {'bf16 autocast' if bf16 else 'TF32'}"
    print(json.dumps({"name": name, "variant": variant, "tokens": tokens, "seconds": seconds, "bytes": needed}))


if __name__ == "__main__":
    main()
