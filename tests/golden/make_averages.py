"""Writes averages.json: torch's averaged models over a walk of parameters, for tests/test_averaging.py.

Run with torch installed: python tests/golden/make_averages.py
"""

import json
from pathlib import Path

import torch  # pyright: ignore[reportMissingImports]
from torch.optim.swa_utils import AveragedModel  # pyright: ignore[reportMissingImports]

STEPS = 30


def walk() -> list[list[float]]:
    torch.manual_seed(0)
    return torch.randn(STEPS, 4).cumsum(0).tolist()


def averaged(start: int, every: int) -> list[list[float]]:
    """AveragedModel with its default, equal average, updated on every `every`-th step from `start` on."""
    model = torch.nn.Linear(4, 1, bias=False)
    average = AveragedModel(model)
    values = []
    for step, row in enumerate(walk()):
        model.weight.data = torch.tensor([row])
        if step >= start and (step - start) % every == 0:
            average.update_parameters(model)
        values.append(average.module.weight[0].tolist() if step >= start else row)
    return values


def averaged_sgd(start: int) -> list[list[float]]:
    """torch.optim.ASGD's `ax` with t0 and lambd 0, as AWD-LSTM runs it, from the step at which it takes over."""
    rows = walk()
    weight = torch.nn.Parameter(torch.tensor(rows[start - 1]))
    optimizer = torch.optim.ASGD([weight], lr=1.0, lambd=0.0, alpha=0.0, t0=0)
    values = list(rows[:start])
    for row in rows[start:]:
        weight.grad = weight.detach() - torch.tensor(row)  # with a rate of 1 this lands on the walk
        optimizer.step()
        values.append(optimizer.state[weight]["ax"].tolist())
    return values


if __name__ == "__main__":
    golden = {
        "torch": torch.__version__,
        "walk": walk(),
        "swa": [
            {"start_step": start, "every": every, "values": averaged(start, every)}
            for start, every in ((0, 1), (7, 1), (7, 5))
        ],
        "asgd": {"start": 9, "values": averaged_sgd(9)},
    }
    Path(__file__).with_name("averages.json").write_text(json.dumps(golden) + "\n")
