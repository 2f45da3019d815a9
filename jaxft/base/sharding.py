"""The rows of a batch divided among devices: what a model asks about its rows, and functions computed by rows.

A function that is computed by rows sees those of one device, its shard, and runs as it would run alone. What depends on
a row's place in the whole batch, such as dropout, asks here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxft.errors import InputError

AXIS = "rows"
"""the mesh axis along which the rows of a batch are divided"""

_mesh: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


@contextmanager
def on_devices(devices: Sequence[Any]) -> Iterator[None]:
    """Divides batches among these devices of JAX in the `with` block; with a single one, nothing is divided.

    Examples:
        >>> with on_devices(jax.devices()[:1]):
        ...     current_mesh() is None
        True
    """
    token = _mesh.set(Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None)
    try:
        yield
    finally:
        _mesh.reset(token)


def current_mesh() -> Mesh | None:
    """The devices that share a batch; None where one device computes it."""
    return _mesh.get()


def mesh_size(mesh: Mesh | None) -> int:
    """The number of devices of a mesh; 1 where there is none."""
    return 1 if mesh is None else mesh.size


def mesh_for(rows: int, microbatches: int = 1) -> Mesh | None:
    """The devices that share so many rows: as many of those of `current_mesh` as share every microbatch evenly.

    A batch has fewer rows than its setting says where there are few texts.

    Raises:
        InputError: there are more processes than share the rows evenly.
    """
    mesh = current_mesh()
    if mesh is None:
        return None
    processes = jax.process_count()  # each of which keeps a device at least
    counts = range(mesh.size, 0, -processes)
    count = next((n for n in counts if rows % (n * microbatches) == 0 or n == 1), 0)
    if not count:
        raise InputError(
            f"a batch of {rows} rows cannot be shared evenly by {processes} processes: give a batch size that "
            f"{processes} divides, no larger than the number of training texts, or start fewer processes"
        )
    if count == mesh.size:
        return mesh
    chosen = mesh.devices.reshape(processes, -1)[:, : count // processes].reshape(-1)
    return None if count == 1 else Mesh(chosen, (AXIS,))


def shards() -> int:
    """The number of shards of the batch, in a function that is being traced; 1 where a device has all rows."""
    return 1 if axis_name() is None else jax.lax.axis_size(AXIS)


def axis_name() -> str | None:
    """The name of the axis to sum over, in a function that is being traced; None where a device has all rows."""
    return AXIS if AXIS in jax.sharding.get_abstract_mesh().manual_axes else None


def rows_before(rows: int) -> jax.Array | int:
    """The number of rows in the shards before this one, each of which has as many as this one."""
    return 0 if axis_name() is None else jax.lax.axis_index(AXIS) * rows


def own_rows(whole: jax.Array, axis: int = 0) -> jax.Array:
    """This shard's part of an array that has the rows of the whole batch along `axis`."""
    if axis_name() is None:
        return whole
    rows = whole.shape[axis] // shards()
    return jax.lax.dynamic_slice_in_dim(whole, rows_before(rows), rows, axis)


def sum_over_shards(tree: Any) -> Any:
    """The sums over all shards of every array."""
    return tree if axis_name() is None else jax.lax.psum(tree, AXIS)


def row_spec(x: Any, axis: int | None) -> PartitionSpec:
    """Divides an array along `axis`; one that does not reach to it, or None, is whole on every device."""
    return PartitionSpec() if axis is None or np.ndim(x) <= axis else PartitionSpec(*[None] * axis, AXIS)


def place(tree: Any, mesh: Mesh | None, axis: int | None = None) -> Any:
    """The arrays on the devices of a mesh, divided along `axis`, or whole on each; without a mesh, as they are."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda x: _placed(x, NamedSharding(mesh, row_spec(x, axis))), tree)


def _placed(x: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable or (isinstance(x, jax.Array) and x.sharding.device_set == sharding.device_set):
        return jax.device_put(x, sharding)
    x = gathered(x)
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_placed(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    whole = np.asarray(x)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def gathered(tree: Any) -> Any:
    """The arrays whole in every process, without a copy of those that are; all processes have to ask for them."""
    return jax.tree.map(_gathered, tree)


def _gathered(x: Any) -> Any:
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return x
    if not x.is_fully_replicated:
        assert isinstance(x.sharding, NamedSharding)
        x = jax.jit(lambda x: x, out_shardings=NamedSharding(x.sharding.mesh, PartitionSpec()))(x)
    return x.addressable_data(0)


def replicated(tree: Any) -> Any:
    """The arrays whole on each of the devices that share a batch, for the functions that `by_rows` makes."""
    return place(tree, current_mesh())


def by_rows(function: Callable[..., Any], row_arguments: int = 1, rows: int | None = None) -> Callable[..., Any]:
    """Jits a function of which each device computes its rows of the batch.

    Args:
        function: its last arguments are pytrees with the rows along the first axis, and so is its result; the others
            are whole on every device, best by `replicated`.
        row_arguments: how many arguments have rows.
        rows: how many rows there are at each call, for those devices that share them evenly. None is for any number and
            all devices: the rows are filled up with copies of the last one, whose results come at the end.

    Examples:
        >>> by_rows(lambda weight, rows: weight * rows)(2.0, jnp.arange(3.0)).tolist()
        [0.0, 2.0, 4.0]
    """
    mesh = current_mesh() if rows is None else mesh_for(rows)
    if mesh is None:
        return jax.jit(function)

    # Every process needs the results of all rows.
    shardings = {} if jax.process_count() == 1 else {"out_shardings": NamedSharding(mesh, PartitionSpec())}

    @partial(jax.jit, **shardings)
    def on_shards(whole: tuple[Any, ...], rows: tuple[Any, ...]) -> Any:
        specs = jax.tree.map(partial(row_spec, axis=0), rows)
        mapped = jax.shard_map(
            lambda whole, rows: function(*whole, *rows),
            mesh=mesh,
            in_specs=(PartitionSpec(), specs),
            out_specs=PartitionSpec(AXIS),
            check_vma=False,
        )
        return mapped(whole, rows)

    def on_rows(*arguments: Any) -> Any:
        whole, rows = arguments[:-row_arguments], arguments[-row_arguments:]
        return on_shards(place(whole, mesh), place(jax.tree.map(partial(_filled, mesh.size), rows), mesh, 0))

    return on_rows


def _filled(count: int, x: Any) -> Any:
    """The array with copies of its last row, so that `count` divides the rows."""
    if not np.ndim(x) or not (missing := -len(x) % count):
        return x
    fill = jnp.concatenate if isinstance(x, jax.Array) else np.concatenate
    return fill([x, *[x[-1:]] * missing])
