"""Prints the collectives in the compiled train steps of a job on all virtual devices.

Its arguments are the name of a job and its flags.
"""

import json
import math
import re
import sys
from importlib import import_module
from typing import Any

import jax
from jax.sharding import NamedSharding

from jaxft.base.sharding import on_devices, row_spec
from jaxft.language_model.both_directions import _stacked_stage
from jaxft.training.stage import Stage
from jaxft.training.train_step import TrainState

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"
BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "bf16": 2, "f16": 2, "s8": 1, "u8": 1}


def stages_of(job: str, flags: list[str]) -> list[Stage]:
    """The stages that the job would train; of language models of both directions the stage that trains both."""
    settings = import_module(f"jaxft.{job}.{'presets' if job == 'ulmfit' else 'settings'}").COMMAND.parse(flags)
    prepared = import_module(f"jaxft.{job}.job").JOB.prepare(settings, None)
    if job == "pretrain" and settings.direction == "both":
        return [_stacked_stage(prepared.inputs, prepared.settings, ("forward", "backward"), {})[0]]
    return list(prepared.stages())


def compiled(stage: Stage) -> str:
    """The text of the compiled step of the last phase, in which everything trains."""
    mesh, index = stage.batches.mesh(), len(stage.plan) - 1
    assert mesh is not None
    tx = stage.transformation(index)
    state = jax.eval_shape(
        lambda params, carry, key: TrainState.create(params, tx, key=key, carry=carry, average=stage.average),
        stage.params,
        stage.carry,
        stage.key,
    )

    def placed(x: Any, axis: int | None = None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, row_spec(x, axis)))

    carry = jax.tree.map(lambda x: placed(x, stage.carry_axis), state.carry)
    batch = jax.tree.map(lambda x: placed(x, stage.batches.axis), stage.batches.batch(0))
    state = jax.tree.map(placed, state)
    state = TrainState(state.step, state.params, state.opt_state, carry, state.average, state.key)
    return str(jax.jit(stage.train_step(index), donate_argnums=0).lower(state, batch).compile().as_text())


def collectives(text: str) -> list[dict[str, Any]]:
    """Kind and size in bytes of every collective, and whether a loop runs it."""
    called: dict[str, set[str]] = {}
    loops: set[str] = set()
    found: list[tuple[str, str, int]] = []
    name = ""
    for line in text.splitlines():
        if head := re.match(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            name = head[1]
            called[name] = set()
        called.setdefault(name, set()).update(re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", line))
        for branches in re.findall(r"branch_computations=\{([^}]*)\}", line):
            called[name] |= set(re.findall(r"[\w.\-]+", branches))
        loops |= set(re.findall(r"(?:body|condition)=%?([\w.\-]+)", line))
        if match := re.search(rf"= (.*?) ({KINDS})(?:-start)?\(", line):
            shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            size = sum(BYTES[dtype] * math.prod(map(int, filter(None, s.split(",")))) for dtype, s in shapes)
            found.append((name, match[2], size))
    waiting = list(loops)
    while waiting:
        new = called.get(waiting.pop(), set()) - loops
        loops |= new
        waiting += new
    return [{"kind": kind, "bytes": size, "in_loop": place in loops} for place, kind, size in found]


if __name__ == "__main__":
    job, *flags = sys.argv[1:]
    with on_devices(jax.devices()):
        print(json.dumps({stage.name: collectives(compiled(stage)) for stage in stages_of(job, flags)}))
