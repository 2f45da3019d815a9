"""Writes optimizers.json: 60 steps of the published update rules in float64, for tests/test_transforms.py.

Run with NumPy installed: python tests/golden/make_optimizers.py
The rules are written out from their definitions: AdamWarmup of keras-bert, AdamWeightDecayOptimizer of
google-research/bert, and the same with the bias correction that transformers' first AdamW added.
"""

import json
from pathlib import Path

import numpy as np

STEPS, WARMUP, PEAK = 60, 12, 1e-2
SHAPES = {"dense/kernel": (3, 2), "dense/bias": (2,), "LayerNorm/scale": (2,)}


def problem() -> tuple[dict, list[dict]]:
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    # From steep to almost flat, so that the place of epsilon shows.
    scale = {"dense/kernel": 1.0, "dense/bias": 1e-3, "LayerNorm/scale": 1e-6}
    grads = [
        {name: (scale[name] * rng.normal(size=shape)).astype(np.float32) for name, shape in SHAPES.items()}
        for _ in range(STEPS)
    ]
    return params, grads


def run(rule, decays) -> list[dict]:
    params, grads = problem()
    params = {name: value.astype(np.float64) for name, value in params.items()}
    memory = {name: {"m": 0.0, "v": 0.0, "v_max": 0.0} for name in params}
    trajectory = []
    for t, g in enumerate(grads, start=1):
        for name in params:
            params[name] = rule(params[name], g[name].astype(np.float64), memory[name], t, decays(name))
        if t in (1, 2, WARMUP, WARMUP + 1, STEPS):
            trajectory.append({"step": t, "params": {name: value.tolist() for name, value in params.items()}})
    return trajectory


def moments(g, memory, b1, b2):
    memory["m"] = b1 * memory["m"] + (1 - b1) * g
    memory["v"] = b2 * memory["v"] + (1 - b2) * g**2
    return memory["m"], memory["v"]


def adam_warmup(amsgrad=False, weight_decay=0.0, b1=0.9, b2=0.999, eps=1e-7, low=1e-4):
    def rule(p, g, memory, t, decays):
        m, v = moments(g, memory, b1, b2)
        memory["v_max"] = np.maximum(memory["v_max"], v)
        lr = PEAK * t / WARMUP if t <= WARMUP else low + (PEAK - low) * (1 - min(t, STEPS) / STEPS)
        lr = lr * np.sqrt(1 - b2**t) / (1 - b1**t)
        update = m / (np.sqrt(memory["v_max"] if amsgrad else v) + eps)
        return p - lr * (update + (weight_decay * p if decays else 0))

    return rule


def bert_adamw(bias_correction=False, weight_decay=0.01, b1=0.9, b2=0.999, eps=1e-6):
    def rule(p, g, memory, t, decays):
        m, v = moments(g, memory, b1, b2)
        step = t - 1
        lr = PEAK * step / WARMUP if step < WARMUP else PEAK * (1 - step / STEPS)
        c = np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0
        return p - lr * (c * m / (np.sqrt(v) + eps) + (weight_decay * p if decays else 0))

    return rule


def not_excluded(name: str) -> bool:
    return not any(part in name for part in ("LayerNorm", "layer_norm", "bias"))


if __name__ == "__main__":
    params, grads = problem()
    everything = lambda name: True  # noqa: E731
    golden = {
        "params": {name: value.tolist() for name, value in params.items()},
        "grads": [{name: value.tolist() for name, value in g.items()} for g in grads],
        "steps": STEPS,
        "warmup_steps": WARMUP,
        "peak": PEAK,
        "adam_warmup": [
            {"arguments": {}, "trajectory": run(adam_warmup(), everything)},
            {"arguments": {"amsgrad": True}, "trajectory": run(adam_warmup(amsgrad=True), everything)},
            {"arguments": {"weight_decay": 0.1}, "trajectory": run(adam_warmup(weight_decay=0.1), everything)},
            {
                "arguments": {"weight_decay": 0.1, "weight_decay_pattern": ["kernel"]},
                "trajectory": run(adam_warmup(weight_decay=0.1), lambda name: "kernel" in name),
            },
        ],
        "bert_adamw": [
            {"arguments": {}, "trajectory": run(bert_adamw(), not_excluded)},
            {"arguments": {"bias_correction": True}, "trajectory": run(bert_adamw(bias_correction=True), not_excluded)},
            {"arguments": {"exclude": []}, "trajectory": run(bert_adamw(), everything)},
        ],
    }
    Path(__file__).with_name("optimizers.json").write_text(json.dumps(golden) + "\n")
