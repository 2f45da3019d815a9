"""Writes schedules.json: learning rates of the originals, for tests/test_schedules.py.

Run with torch and transformers installed: python tests/golden/make_schedules.py
The formulas of the articles are written out here in plain Python floats, from their published definitions.
"""

import json
from pathlib import Path

import torch  # pyright: ignore[reportMissingImports]
import transformers  # pyright: ignore[reportMissingImports]
from torch.optim.swa_utils import SWALR  # pyright: ignore[reportMissingImports]


def slanted_triangle(t: int, T: int, cut_frac: float, ratio: float, peak: float) -> float:
    """Howard and Ruder, equation 3, with the cut not rounded, as the Keras and Julia articles have it."""
    cut = T * cut_frac
    p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
    return peak * (1 + p * (ratio - 1)) / ratio


def google_bert(t: int, T: int, W: int, peak: float) -> float:
    """create_optimizer: polynomial decay of power 1 from step 0, replaced by the warm-up while it lasts."""
    return peak * t / W if t < W else peak * (1 - min(t, T) / T)


def keras_bert(iterations: int, D: int, W: int, peak: float, low: float) -> float:
    """AdamWarmup before its bias correction."""
    t = iterations + 1
    return peak * t / W if t <= W else low + (peak - low) * (1 - min(t, D) / D)


def articles() -> list[dict]:
    cases = []
    for T, peak in ((1000, 0.01), (320, 2e-5), (19, 0.004), (7, 1e-3)):
        arguments = {"peak_value": peak, "total_steps": T, "cut_frac": 0.1, "ratio": 32.0}
        values = [slanted_triangle(t, T, 0.1, 32.0, peak) for t in range(T)]
        cases.append(
            {"name": f"stlr-{T}", "factory": "slanted_triangular_schedule", "arguments": arguments} | {"values": values}
        )
    for T, W in ((100, 20), (320, 32), (11, 3)):
        arguments = {"peak_value": 2e-5, "warmup_steps": W, "total_steps": T}
        values = [google_bert(t, T, W, 2e-5) for t in range(T + 5)]
        cases.append(
            {"name": f"bert-{T}", "factory": "bert_warmup_schedule", "arguments": arguments} | {"values": values}
        )
        arguments = {"peak_value": 1e-4, "warmup_steps": W, "decay_steps": T, "min_value": 1e-7}
        values = [keras_bert(t, T, W, 1e-4, 1e-7) for t in range(T + 5)]
        cases.append(
            {"name": f"keras-{T}", "factory": "keras_bert_warmup_schedule", "arguments": arguments} | {"values": values}
        )
    return cases


def rates(scheduler_of, peak: float, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = scheduler_of(optimizer)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def by_name() -> list[dict]:
    peak, T = 1e-3, 90
    names = [
        ("linear", {}, {}),
        ("cosine", {}, {}),
        ("cosine_with_restarts", {"num_cycles": 3}, {"num_cycles": 3}),
        ("polynomial", {"lr_end": 1e-5, "power": 2.0}, {"end_value": 1e-5, "power": 2.0}),
        ("polynomial", {}, {}),
        ("constant", {}, {}),
        ("constant_with_warmup", {}, {}),
        ("inverse_sqrt", {}, {}),
        ("cosine_with_min_lr", {"min_lr": 1e-4}, {"min_value": 1e-4}),
        ("warmup_stable_decay", {"num_decay_steps": 30, "min_lr_ratio": 0.1}, {"decay_steps": 30, "min_ratio": 0.1}),
        (
            "warmup_stable_decay",
            {"num_decay_steps": 30, "decay_type": "1-sqrt"},
            {"decay_steps": 30, "decay_type": "1-sqrt"},
        ),
        (
            "warmup_stable_decay",
            {"num_decay_steps": 30, "decay_type": "linear"},
            {"decay_steps": 30, "decay_type": "linear"},
        ),
    ]
    cases = []
    for name, theirs, ours in names:
        for W in (0, 12):
            if name == "constant" and W:
                continue
            values = rates(
                lambda optimizer, name=name, W=W, theirs=theirs: transformers.get_scheduler(
                    name, optimizer, num_warmup_steps=W, num_training_steps=T, scheduler_specific_kwargs=theirs
                ),
                peak,
                T + 1,
            )
            case = {"name": name, "peak_value": peak, "total_steps": T, "warmup_steps": W, "options": ours}
            cases.append(case | {"values": values})
    return cases


def swa() -> list[dict]:
    base, start, rate = 1e-5, 6, 2e-6
    cases = []
    for anneal in (0, 5):
        # SWALR starts when it is made, so its first value is the rate after zero steps of averaging.
        values = [base] * start + rates(
            lambda optimizer, anneal=anneal: SWALR(optimizer, swa_lr=rate, anneal_epochs=anneal, anneal_strategy="cos"),
            base,
            12,
        )
        arguments = {"start_step": start, "swa_value": rate, "anneal_steps": anneal}
        cases.append({"base": base, "arguments": arguments, "values": values})
    return cases


if __name__ == "__main__":
    golden = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "articles": articles(),
        "transformers": by_name(),
        "swa": swa(),
    }
    Path(__file__).with_name("schedules.json").write_text(json.dumps(golden, indent=None) + "\n")
