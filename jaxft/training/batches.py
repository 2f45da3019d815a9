"""The batches of a stage, and how the devices that share them get their rows. Jobs give them to `Stage`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxft.base.sharding import mesh_for, mesh_size
from jaxft.training.devices import place_batch, place_part, rows_of_process


@dataclass(frozen=True)
class Batches:
    """The batches of a stage.

    Attributes:
        batch: makes the batch of step i, counted from the start of the stage.
        steps_per_epoch: batches in an epoch.
        tokens_per_epoch: tokens in an epoch, for reports.
        part: makes some rows of the batch of a step, given their numbers, for processes that share it; None takes
            them from the whole batch.
        rows: rows of a batch, which several devices may share; None for a batch that one device computes.
        axis: along which the arrays of a batch have its rows; those with fewer axes have none.
        microbatches: into how many a step splits the batch, in the order of its rows.
    """

    batch: Callable[[int], Any]
    steps_per_epoch: int
    tokens_per_epoch: int
    part: Callable[[int, np.ndarray], Any] | None = None
    rows: int | None = None
    axis: int = 0
    microbatches: int = 1

    def mesh(self) -> Mesh | None:
        """The devices that share a batch; None for a single one."""
        return None if self.rows is None else mesh_for(self.rows, self.microbatches)

    def placed(self, step: int, mesh: Mesh | None) -> Any:
        """The batch of a step on the devices of a mesh; a process makes the rows of its own devices."""
        if mesh is None or jax.process_count() == 1 or self.rows is None:
            return place_batch(self.batch(step), mesh, self.axis, self.microbatches)
        own = rows_of_process(self.rows, mesh, self.microbatches)
        if self.part is not None:
            return place_part(self.part(step, own), mesh, self.axis)
        taken = jax.tree.map(lambda x: np.take(x, own, self.axis) if np.ndim(x) > self.axis else x, self.batch(step))
        return place_part(taken, mesh, self.axis)

    def shares(self) -> dict[str, int]:
        """How many `devices` or cores share a batch, and the `rows_per_device`; empty where that is not known."""
        size = mesh_size(self.mesh())
        return {} if self.rows is None else {"devices": size, "rows_per_device": self.rows // size}
