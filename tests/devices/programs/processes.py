"""Trains the small stage in processes of two devices each, and prints the weights and the steps of the checkpoints.

Its arguments are the folder of the run and the rows of a batch.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.training.devices import sharing_devices
from jaxft.training.processes import connect, ending_together, own_folder
from jaxft.training.run import Run
from jaxft.training.settings import RunSettings
from jaxft.training.stage import run_stage
from tests.devices.programs.stage import toy_stage


class CountingRun(Run):
    """A run that knows at which steps it has written checkpoints."""

    def __init__(self, folder: Path):
        super().__init__(folder, checkpoint_seconds=0.0)
        self.saved: list[int] = []

    def save(self, tree: Any, position: Mapping[str, Any]) -> None:
        self.saved.append(int(np.asarray(tree[0].step)))
        super().save(tree, position)


if __name__ == "__main__":
    out, rows = Path(sys.argv[1]), int(sys.argv[2])
    connect(RunSettings())
    with ending_together(), own_folder(out) as folder, sharing_devices("all"):
        folder.mkdir(parents=True, exist_ok=True)
        with CountingRun(folder) as run:
            result = run_stage(run, toy_stage(rows))
    weights = {name: np.asarray(x).tolist() for name, x in result.params.items()}
    print(json.dumps({"devices": result.report["devices"], "saved": run.saved, "weights": weights}))
