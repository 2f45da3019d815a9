"""The cores of a CPU as devices of JAX, which share a batch.

XLA divides a matrix product among the cores, and waits for all of them before it goes on with the arithmetic between
two products, which it leaves to one. Where each core computes rows of its own through a whole step, none of them waits;
in return the gradients are summed, and every core updates all parameters and holds them, with the optimizer's state, in
memory of its own. That pays where a step reads long texts with a small recurrent model. The products of a large one, or
of an encoder, keep all cores busy.

The environment variable `JAX_NUM_CPU_DEVICES=1` turns it off.
"""

import math
import os
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import jax

from jaxft.base.machine import usable_cores
from jaxft.base.sharding import current_mesh, on_devices

MOST_CORES = 4
"""the most cores that share a batch, each of which adds to the memory"""
LEAST_ROWS = 8
"""the fewest rows of a batch with which a core's products are fast"""
MOST_PARAMETERS = 30_000_000
"""the most parameters of which each core has a copy: 0.5 GB with gradients and Adam's moments"""


def make_devices_of_cores() -> None:
    """Lets JAX take each core of the CPU for a device; call it before JAX computes anything.

    Where JAX has begun, or a number of devices has been chosen for the CPU, nothing changes.
    """
    if not _count_is_chosen():
        with suppress(RuntimeError):  # JAX has begun
            jax.config.update("jax_num_cpu_devices", _cores())


def devices_are_cores() -> bool:
    """Whether the devices of JAX are the cores of a CPU, which a user counts as one device."""
    return jax.default_backend() == "cpu" and not _count_is_chosen()


def on_cores(rows: int, params: Any) -> AbstractContextManager[None]:
    """Divides batches of `rows` rows among as many cores as share them evenly, with at least `LEAST_ROWS` rows each.

    Does nothing where devices share the batches already, where the cores are no devices, or where `params`, the arrays
    that a step updates, or their shapes, hold more than `MOST_PARAMETERS` numbers.

    Examples:
        >>> with on_cores(rows=1, params={}):
        ...     current_mesh() is None
        True
    """
    if current_mesh() is not None or not devices_are_cores() or _count(params) > MOST_PARAMETERS:
        return nullcontext()
    most = min(len(jax.local_devices()), rows // LEAST_ROWS)
    count = next((n for n in range(most, 1, -1) if rows % n == 0), 1)
    return on_devices(jax.local_devices()[:count])


def _count(params: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _count_is_chosen() -> bool:
    """Whether the environment or the program says how many devices the CPU has."""
    flags = os.environ.get("XLA_FLAGS", "")
    chosen = jax.config.values["jax_num_cpu_devices"] not in (-1, _cores())
    return chosen or "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in flags


def _cores() -> int:
    return min(usable_cores(), MOST_CORES)
