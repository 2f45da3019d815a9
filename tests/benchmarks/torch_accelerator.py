"""The peer of accelerator.py: the same steps by torch.nn.LSTM (cuDNN) and transformers; prints a JSON object for each.

    python tests/benchmarks/torch_accelerator.py full|small [STEP ...]

The language model has no dropout of its recurrent weights: cuDNN would have to copy them in every step.
"""

# pyright: reportMissingImports=false

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from timed_steps import MODELS, ON_ACCELERATORS, Encoder, Sizes, encoder_settings, seconds_per_step
from transformers import AutoConfig, AutoModelForSequenceClassification

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
    sizes, only = MODELS[sys.argv[1]], tuple(sys.argv[2:])
    for bf16 in (False, True) if DEVICE == "cuda" else (False,):  # some CPUs have no LSTM in bfloat16
        for name, make, clip in steps(sizes):
            if not only or name.startswith(only):
                measure(name, bf16, *make(), clip, sizes.timed)


def steps(sizes: Sizes) -> Iterator[tuple[str, Callable[[], tuple[Any, Callable[[], Any], int]], float]]:
    """Name and maker of every step, which returns model, loss and the tokens of a batch; and the norm of its clip."""
    for rows in sizes.rows:
        yield f"language model, {rows} rows", partial(language_model_step, sizes, rows), 0.25
    for architecture in ON_ACCELERATORS:
        yield architecture, partial(encoder_step, architecture, sizes.encoder), 1.0


def language_model_step(sizes: Sizes, rows: int) -> tuple[Any, Callable[[], Any], int]:
    """A window of random tokens."""
    tokens, targets = torch.randint(0, sizes.words, (2, sizes.bptt, rows), device=DEVICE)
    model = LanguageModel(sizes).to(DEVICE).train()
    return model, partial(model.loss, tokens, targets), rows * sizes.bptt


def encoder_step(architecture: str, size: Encoder) -> tuple[Any, Callable[[], Any], int]:
    """Full-width texts, with a head of two classes."""
    config = AutoConfig.for_model(**encoder_settings(architecture, size, 30_522))
    model = AutoModelForSequenceClassification.from_config(config).to(DEVICE).train()
    ids = torch.randint(1000, 20_000, (size.rows, size.width), device=DEVICE)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch["labels"] = torch.arange(size.rows, device=DEVICE) % 2
    return model, lambda: model(**batch).loss, size.rows * size.width


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
