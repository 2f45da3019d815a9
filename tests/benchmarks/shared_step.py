"""The training step of a job that shares its batches among the cores of a CPU; it imports jaxft where it is called."""

from collections.abc import Callable
from typing import Any


def shared_step(loss_fn: Any, tx: Any, params: Any, rows: int, carry: Any = ()) -> tuple[Callable[..., Any], Any]:
    """The jitted step on batches of so many rows, as a job divides them, and the state that it begins with.

    Call `jaxft.base.cores.make_devices_of_cores` first, as a job does.
    """
    import jax

    from jaxft import TrainState, make_train_step
    from jaxft.base.cores import on_cores
    from jaxft.base.sharding import mesh_for, place
    from jaxft.optim.whole_batch import value_and_grad
    from jaxft.training.devices import sharded

    with on_cores(rows, params):
        mesh = mesh_for(rows)

    def shared(loss_fn: Any) -> Any:
        return sharded(value_and_grad(loss_fn), mesh, 0, None)

    step = jax.jit(make_train_step(loss_fn, tx, None, shared), donate_argnums=0)
    state = place(TrainState.create(params, tx, key=jax.random.key(0), carry=carry), mesh)
    return lambda state, batch: step(state, place(batch, mesh, 0)), state
