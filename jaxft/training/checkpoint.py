"""The state of a training run in one file, from which the run resumes bit for bit.

`jaxft.training.run` calls `save` and `restore`. A checkpoint is one safetensors file and not an Orbax folder: a single
`os.replace` swaps a file atomically, while Orbax deletes the old folder before it writes the new one, and a kill in
between leaves neither.
"""

import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.base.tensor_files import host_array, named_leaves, read_arrays, write_arrays
from jaxft.errors import InputError
from jaxft.optim.flax_serialization import is_key


def save(path: str | os.PathLike[str], tree: Any, meta: Mapping[str, Any]) -> None:
    """Writes a pytree and what belongs to it into one file, replacing the file of that name in a single step.

    The new file is complete and on the disk before it takes the old one's name: a crash at any moment leaves one of
    the two whole. What a killed save leaves behind, `.<name>.tmp`, is overwritten by the next.

    Args:
        path: the file to write; its folder exists.
        tree: any pytree of JAX or NumPy arrays, typed PRNG keys, and Python numbers, in dictionaries, tuples,
            NamedTuples, registered dataclasses; a leaf is stored under its path, such as `opt_state/0/mu/kernel`.
        meta: what else a resumed run needs to know, as JSON: position, settings, size of the log.

    Raises:
        InputError: the disk is full or the folder is not writable.
        TypeError: a leaf is of a type that safetensors does not hold, or `meta` is not JSON.
        ValueError: two leaves have the same path.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/state.safetensors", {"w": jnp.arange(3), "key": jax.random.key(7)}, {"epoch": 2})
        ...     like = {"w": jnp.zeros(3, jnp.int32), "key": jax.random.key(0)}
        ...     tree, meta = restore(f"{folder}/state.safetensors", like)
        >>> print(tree["w"], jax.random.key_data(tree["key"]), meta)
        [0 1 2] [0 7] {'epoch': 2}
    """
    arrays: dict[str, np.ndarray] = {}
    key_types: dict[str, str] = {}
    for name, leaf in named_leaves(tree):
        if is_key(leaf):
            key_types[name] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        arrays[name] = host_array(name, leaf)
    write_arrays(Path(path), arrays, {"kind": "checkpoint", "meta": meta, "keys": key_types})


def restore(path: str | os.PathLike[str], template: Any) -> tuple[Any, dict[str, Any]]:
    """Reads what `save` wrote into the structure of `template`, bit for bit.

    Args:
        path: a file written by `save`.
        template: a pytree with the structure, shapes and dtypes that the file must have: the freshly initialised
            state, or its `jax.eval_shape`; its values are not read. Where it holds a JAX array or a
            `jax.ShapeDtypeStruct`, the result is a JAX array in memory of its own on the default device; where it
            holds a NumPy array or a Python number, the result is one too.

    Returns:
        The restored tree, and the `meta` it was saved with.

    Raises:
        InputError: there is no such file, it is damaged, it has another format, or it does not fit the template; the
            message then lists every leaf that differs.
    """
    path = Path(path)
    arrays, record = read_arrays(path, "checkpoint")
    key_types: dict[str, str] = record["keys"]
    named = named_leaves(template)
    wanted = {name for name, _ in named}
    problems = [f"{name} is not in the file" for name, _ in named if name not in arrays]
    problems += [f"{name} is only in the file" for name in arrays if name not in wanted]
    for name, leaf in named:
        if name in arrays:
            stored, expected = _describe_stored(arrays[name], key_types.get(name)), _describe(leaf)
            if stored != expected:
                problems.append(f"{name} is {stored} in the file and {expected} here")
    if problems:
        raise InputError(
            f"checkpoint {path} does not fit this run ({'; '.join(problems)}): "
            "resume with the settings it was saved with, or start a new run in another folder"
        )
    leaves = [_as_in_template(leaf, arrays[name], key_types.get(name)) for name, leaf in named]
    return jax.tree.unflatten(jax.tree.structure(template), leaves), record["meta"]


def rotate(path: Path, keep: int) -> None:
    """Makes room for a new checkpoint beside the last ones; the newest keeps its name until the new one takes it.

    Args:
        path: of the newest checkpoint; the one before is called `<stem>-1`, the one before that `<stem>-2`.
        keep: checkpoints to keep, the new one included.
    """
    if keep == 1 or not path.exists():
        return
    older = older_checkpoints(path, keep)
    if older[0].exists() and older[0].samefile(path):  # a kill came before the new checkpoint
        return
    for newer, name in reversed(list(pairwise(older))):
        if newer.exists():
            os.replace(newer, name)
    link = path.with_name(f".{older[0].name}.tmp")
    link.unlink(missing_ok=True)  # which a killed process has left
    try:
        os.link(path, link)
        os.replace(link, older[0])
    except OSError:  # the file system has no links
        os.replace(path, older[0])


def older_checkpoints(path: Path, keep: int) -> list[Path]:
    """The names of the checkpoints before the newest, the younger first."""
    return [path.with_name(f"{path.stem}-{age}{path.suffix}") for age in range(1, keep)]


def stored_checkpoints(path: Path) -> list[Path]:
    """The checkpoints that there are, by the path of the newest, the newest first."""
    ages = [(age, file) for file in path.parent.glob(f"{path.stem}-*") if (age := _age(file, path)) is not None]
    return [path] * path.exists() + [file for _, file in sorted(ages)]


def newest_whole(path: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint that is not damaged, and the damaged ones that are newer.

    Raises:
        InputError: there are some, and all are damaged.

    Examples:
        >>> newest_whole(Path("no/checkpoint.safetensors"))
        (None, [])
    """
    damaged: list[Path] = []
    reason: InputError | None = None
    for candidate in stored_checkpoints(path):
        try:
            read_arrays(candidate, "checkpoint")
        except InputError as error:
            reason = reason or error
            damaged.append(candidate)
        else:
            return candidate, damaged
    if reason is not None:
        raise reason
    return None, []


def _age(file: Path, path: Path) -> int | None:
    """How many checkpoints are newer than a file, by its name; None if it is no checkpoint."""
    match = re.fullmatch(rf"{re.escape(path.stem)}-(\d+){re.escape(path.suffix)}", file.name)
    return None if match is None else int(match[1])


def _describe(leaf: Any) -> str:
    """The dtype and shape of a leaf of the template, in the words of `_describe_stored`."""
    if not hasattr(leaf, "dtype"):
        leaf = np.asarray(leaf)
    return f"{leaf.dtype} {tuple(leaf.shape)}"


def _describe_stored(array: np.ndarray, key_type: str | None) -> str:
    if key_type is None:
        return f"{array.dtype} {array.shape}"
    return _describe(jax.eval_shape(lambda data: jax.random.wrap_key_data(data, impl=key_type), array))


def _as_in_template(leaf: Any, array: np.ndarray, key_type: str | None) -> Any:
    if key_type is not None:
        return jax.random.wrap_key_data(jnp.array(array), impl=key_type)
    if isinstance(leaf, bool | int | float):
        return type(leaf)(array.item())
    if isinstance(leaf, np.ndarray | np.generic):
        return array if isinstance(leaf, np.ndarray) else array[()]
    if array.ndim == 0 and getattr(leaf, "weak_type", False):
        return jax.lax.full_like(
            leaf, array.item()
        )  # a strong type would compile the step again, and promote otherwise
    return jnp.array(array)
