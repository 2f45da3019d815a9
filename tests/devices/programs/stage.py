"""Trains a small stage on 1, 2 and 4 virtual devices, and prints how far the results differ.

The examples have weights, so that the devices have unequal shares of the loss, and dropout.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxft.base.sharding import by_rows, on_devices, replicated
from jaxft.models.dropout import dropout
from jaxft.optim.averaging import ema
from jaxft.optim.unfreezing import gradual_unfreezing
from jaxft.optim.whole_batch import value_and_grad
from jaxft.training.batches import Batches
from jaxft.training.run import Run, StageResult
from jaxft.training.stage import Stage, run_stage

FEATURES = 3


def loss_fn(params: Any, carry: Any, batch: Any, key: Any) -> Any:
    """A weighted regression, with a state that each row hands on."""
    hidden = dropout(batch["x"] * params["body"][None, :] + carry[:, None], 0.3, key)
    errors = (hidden @ params["head"] - batch["y"]) ** 2
    count = batch["weight"].sum()
    return (errors * batch["weight"]).sum() / count, (0.9 * carry + 0.1 * hidden.mean(axis=1), {"examples": count})


def batch(step: int, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    weight = np.arange(rows, dtype=np.float32)  # the first of four devices may have a share of 0
    weight[: rows // 4] = 0
    return {"x": rng.normal(size=(rows, FEATURES)).astype(np.float32), "y": np.ones(rows, np.float32), "weight": weight}


def toy_stage(rows: int) -> Stage:
    """A stage for the devices in whose `with` block it is made; they all evaluate, though fewer may train."""
    rng = np.random.default_rng(0)
    squares = by_rows(lambda params, x: (x @ params["body"]) ** 2)
    return Stage(
        name="toy",
        plan=gradual_unfreezing(["body", "head"], 0.1, epochs_per_phase=1, final_epochs=1),
        make_loss_fn=lambda phase: loss_fn,
        optimizer=optax.adam(1.0),
        labels={"body": "body", "head": "head"},
        clip_norm=1.0,
        params={name: jnp.asarray(rng.normal(size=FEATURES), jnp.float32) for name in ("body", "head")},
        carry=jnp.zeros(rows),
        carry_axis=0,
        key=jax.random.key(0),
        batches=Batches(lambda step: batch(step, rows), 4, tokens_per_epoch=4 * rows, rows=rows),
        evaluate=lambda params, carry: {"loss": float(squares(replicated(params), batch(0, 8)["x"]).mean())},
        average=ema(0.5),
        value_and_grad=lambda loss_fn: value_and_grad(loss_fn, "examples"),
    )


def train(devices: int, rows: int = 8) -> StageResult:
    with on_devices(jax.devices()[:devices]), Run(None) as run:
        return run_stage(run, toy_stage(rows))


if __name__ == "__main__":
    results = {"1": train(1), "2": train(2), "4": train(4), "4 again": train(4), "4 with 6 rows": train(4, 6)}
    wanted = {"2": "1", "4": "1", "4 again": "4", "4 with 6 rows": "1 with 6 rows"}
    others = {**results, "1 with 6 rows": train(1, 6)}

    def difference(one: str, two: str) -> float:
        pairs = zip(*(jax.tree.leaves((others[n].params, others[n].carry)) for n in (one, two)), strict=True)
        return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)

    devices = {name: result.report["devices"] for name, result in results.items()}
    distances = {one: difference(one, two) for one, two in wanted.items()}
    with on_devices(jax.devices()):
        doubled = by_rows(lambda weight, rows: weight * rows)(2.0, np.arange(5, dtype=np.float32)).tolist()
    print(json.dumps({"devices": devices, "difference": distances, "doubled": doubled}))
