"""The cores of a CPU as devices of JAX, which share a batch.

XLA divides a matrix product among the cores, and waits for all of them before it goes on with the arithmetic between
two products, which it leaves to one. Where each core computes rows of its own through a whole step, none of them waits;
in return the gradients are summed and every core updates all parameters, which pays where a step reads long texts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import jax

from jaxft.base.sharding import current_mesh, on_devices

LEAST_ROWS = 16
"""the fewest rows of a batch with which a core's products are fast"""


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_devices_of_cores() -> None:
    """Lets JAX take each core of the CPU for a device; call it before JAX computes anything.

    Where JAX has begun, or the environment says how many devices the CPU is, nothing changes.
    """
    if not _are_chosen():
        with suppress(RuntimeError):  # JAX has begun
            jax.config.update("jax_num_cpu_devices", usable_cores())


def devices_are_cores() -> bool:
    """Whether the devices of JAX are the cores of a CPU, which a user counts as one device."""
    return jax.default_backend() == "cpu" and not _are_chosen()


def _are_chosen() -> bool:
    return "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


@contextmanager
def on_cores(rows: int) -> Iterator[None]:
    """Divides batches of so many rows among the cores of a CPU in the `with` block, where no devices share them.

    Examples:
        >>> with on_cores(rows=1):
        ...     current_mesh() is None
        True
    """
    count = 1
    if current_mesh() is None and devices_are_cores():
        most = min(len(jax.local_devices()), rows // LEAST_ROWS)
        count = next((n for n in range(most, 1, -1) if rows % n == 0), 1)
    with nullcontext() if count == 1 else on_devices(jax.local_devices()[:count]):
        yield
