"""The devices that share the batches of a job: which there are, which rows of a batch each gets, and a step on them.

A device computes the gradient of its own rows, with the program that one device would run, and the gradients are summed
once. Parameters and optimizer state are whole on every device.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxft.base.cores import devices_are_cores
from jaxft.base.sharding import on_devices, place, row_spec
from jaxft.errors import InputError
from jaxft.optim.whole_batch import GradFn
from jaxft.training.settings import flag

WISHES = "wish/"
"""prefix of the metrics that carry the wishes of all processes: to stop, and to write a checkpoint"""


@contextmanager
def sharing_devices(wanted: int | Literal["all"]) -> Iterator[int]:
    """Divides batches among so many devices in the `with` block, which gets their number; a CPU is one.

    Raises:
        InputError: there are fewer devices, or the processes do not have equally many.
    """
    devices, processes = jax.devices(), jax.process_count()
    most = processes if devices_are_cores() else len(devices)
    if wanted != "all" and wanted > most:
        raise InputError(f"--devices {wanted} is more than there are: give at most {most}, or all")
    if wanted != "all" and wanted % processes:
        raise InputError(
            f"--devices {wanted} cannot be shared evenly by {processes} processes: give a multiple, or all"
        )
    by_process = [[device for device in devices if device.process_index == n] for n in range(processes)]
    if len({len(own) for own in by_process}) > 1:
        counts = ", ".join(str(len(own)) for own in by_process)
        raise InputError(f"the processes have {counts} devices: start each of them with equally many")
    each = (most if wanted == "all" else wanted) // processes
    chosen = [device for own in by_process for device in own[:each]]
    with on_devices(chosen):
        yield len(chosen)


def check_batch_sizes(batch_sizes: Mapping[str, tuple[int, int]], devices: int) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Args:
        batch_sizes: by the name of the setting, the rows of a batch and the number of microbatches that it is split
            into.
        devices: how many share it.

    Raises:
        InputError: naming the flag and the nearest size that they can share.

    Examples:
        >>> check_batch_sizes({"train.batch_size": (18, 1)}, 4)
        Traceback (most recent call last):
        jaxft.errors.InputError: --train.batch-size 18 cannot be shared evenly by 4 devices: give 20, or fewer --devices
    """
    for name, (rows, microbatches) in batch_sizes.items():
        unit = devices * microbatches
        if rows % unit:
            nearest = max(unit, (rows + unit // 2) // unit * unit)
            parts = f" in {microbatches} microbatches" if microbatches > 1 else ""
            raise InputError(
                f"{flag(name)} {rows} cannot be shared evenly by {devices} devices{parts}: give {nearest}, or fewer "
                "--devices"
            )


def row_order(rows: int, devices: int, microbatches: int) -> np.ndarray:
    """The rows of a batch in the order in which the devices get them, so that each has its share of every microbatch.

    Examples:
        >>> row_order(8, 2, 2).tolist()
        [0, 1, 4, 5, 2, 3, 6, 7]
    """
    return np.arange(rows).reshape(microbatches, devices, -1).swapaxes(0, 1).reshape(-1)


def sharded(value_and_grad: GradFn, mesh: Mesh | None, batch_axis: int, carry_axis: int | None) -> GradFn:
    """The function with the batch, and the carry where it has rows, divided among the devices.

    Args:
        value_and_grad: returns loss, metrics and gradients of the whole batch, as those of `jaxft.optim` do.
        mesh: the devices; None for a single one.
        batch_axis: of the rows in the arrays of a batch.
        carry_axis: of the rows in the arrays of the carry; None where every device has all of it.
    """
    if mesh is None:
        return value_and_grad

    def on_devices(params: Any, carry: Any, batch: Any, key: jax.Array | None) -> Any:
        carries = jax.tree.map(lambda x: row_spec(x, carry_axis), carry)
        whole = PartitionSpec()
        mapped: Callable[..., Any] = jax.shard_map(
            value_and_grad,
            mesh=mesh,
            in_specs=(whole, carries, jax.tree.map(lambda x: row_spec(x, batch_axis), batch), whole),
            out_specs=((whole, (carries, whole)), whole),
            check_vma=False,
        )
        return mapped(params, carry, batch, key)

    return on_devices


def place_batch(batch: Any, mesh: Mesh | None, axis: int = 0, microbatches: int = 1) -> Any:
    """The batch on the devices, each with its share of the rows of every microbatch; without a mesh, as it is."""
    if mesh is None or microbatches == 1:
        return place(batch, mesh, axis)

    def ordered(x: Any) -> Any:
        rows = np.ndim(x) > axis
        return np.take(x, row_order(np.shape(x)[axis], mesh.size, microbatches), axis) if rows else x

    return place(jax.tree.map(ordered, batch), mesh, axis)


def rows_of_process(rows: int, mesh: Mesh, microbatches: int = 1) -> np.ndarray:
    """The rows of a batch that the devices of this process get, in their order."""
    own = [device.process_index == jax.process_index() for device in mesh.devices]
    return row_order(rows, mesh.size, microbatches).reshape(mesh.size, -1)[own].reshape(-1)


def place_part(part: Any, mesh: Mesh, axis: int = 0) -> Any:
    """A batch on the devices of all processes, from the rows of each; what has no rows is the same in all of them."""

    def placed(x: Any) -> jax.Array:
        return jax.make_array_from_process_local_data(NamedSharding(mesh, row_spec(x, axis)), np.asarray(x))

    return jax.tree.map(placed, part)


def with_wishes(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step of several processes, each of which hands in its wishes, (devices, N) in all, with its batch.

    The metrics have those of any process as `WISHES`, so that all of them do the same after the same step.
    """

    def step_with_wishes(state: Any, batch_and_wishes: tuple[Any, jax.Array]) -> Any:
        batch, wishes = batch_and_wishes
        state, metrics = step(state, batch)
        return state, {**metrics, **{f"{WISHES}{i}": wishes[:, i].max() for i in range(wishes.shape[1])}}

    return step_with_wishes
