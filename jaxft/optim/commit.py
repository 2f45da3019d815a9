"""A state that moves on only where a condition holds, without copies of it: how `discriminative` skips a bad step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

PyTree = Any


def commit_if(
    condition: jax.Array, move: Callable[[PyTree], tuple[PyTree, PyTree]], state: PyTree
) -> tuple[PyTree, PyTree]:
    """The state that `move` makes where the condition holds, the old one where it does not, and what came with it.

    To choose between the two states at the end takes both at once, and a copy of one where `state` is donated; a branch
    copies as well. Here each part of the new state is chosen as soon as it is made, and what `move` makes of it
    afterwards, as Adam makes its updates of the new moments, reads the choice: one pass over memory, in place. (A part
    that comes out of a nested program with several results, such as a loop, is chosen at the end all the same.) Meant
    for compiled programs: outside `jax.jit` what `move` does besides making the state is done twice.

    Args:
        condition: () bool.
        move: a pure function of the state, which returns a new one of the same structure, shapes and dtypes, and any
            other result.
        state: a pytree of arrays.

    Returns:
        The chosen state, and the result, which means nothing where the condition does not hold.

    Raises:
        ValueError: where the new state differs from the old one in structure, shapes or dtypes.

    Examples:
        >>> def move(count):
        ...     return count + 1, 10 * (count + 1)
        >>> [int(commit_if(jnp.array(condition), move, jnp.array(4))[0]) for condition in (True, False)]
        [5, 4]
    """
    old, structure = jax.tree.flatten(state)
    program, (moved, result) = jax.make_jaxpr(move, return_shape=True)(state)
    jaxpr, size = program.jaxpr, len(old)
    if jax.tree.structure(moved) != structure or _kinds(jax.tree.leaves(moved)) != _kinds(old):
        raise ValueError("the new state differs from the old one in structure, shapes or dtypes")
    # Equations with one output can be left out of a second program that takes their output from outside.
    makers = {equation.outvars[0]: equation for equation in jaxpr.eqns if len(equation.outvars) == 1}
    parts = {}  # variable -> position in the state, the first if it stands there twice
    for position, variable in enumerate(jaxpr.outvars[:size]):
        if not isinstance(variable, core.Literal) and variable in makers:
            parts.setdefault(variable, position)
    made = {id(makers[variable]) for variable in parts}
    new = core.jaxpr_as_fun(program)(*old)[:size]
    chosen = [jnp.where(condition, *pair) for pair in zip(new, old, strict=True)]
    after = jaxpr.replace(
        constvars=[*jaxpr.constvars, *parts],
        eqns=[equation for equation in jaxpr.eqns if id(equation) not in made],
    )
    consts = [*program.consts, *(chosen[position] for position in parts.values())]
    results = core.jaxpr_as_fun(core.ClosedJaxpr(after, consts))(*old)[size:]
    return structure.unflatten(chosen), jax.tree.structure(result).unflatten(results)


def _kinds(leaves: list[jax.Array]) -> list[tuple[tuple[int, ...], Any]]:
    return [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
