"""Converts weights of other libraries to our parameters, by a table of names.

Every key of a file and every parameter has to occur in the table; one error lists what does not.
`jaxft.models.fastai` and `jaxft.models.hugging_face` hold the tables.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxft.errors import InputError

Arrays = Mapping[str, np.ndarray]
MAX_LISTED = 6
"""number of problems that an error names"""


@dataclass(frozen=True)
class Row:
    """A row of the table: the keys of a file that match `pattern` hold our parameter `path`.

    Attributes:
        pattern: regular expression for a whole key.
        path: of our parameter, with references to the groups of the pattern.
        how: what to do with the array. "sum" adds two keys up, and "tie" checks that the array equals the parameter.
    """

    pattern: str
    path: str = ""
    how: Literal["same", "transpose", "sum", "tie", "ignore"] = "same"


def assemble(state: Arrays, rows: Sequence[Row]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Our parameters by path, float32, and a list of problems with the keys.

    Args:
        state: arrays of a file by key.
        rows: the table; the first row that matches a key counts.

    Examples:
        >>> state = {"rnn.weight": np.ones((3, 2), np.float16), "extra": np.ones(1)}
        >>> arrays, problems = assemble(state, [Row(r"(\\w+)\\.weight", r"\\1/kernel", "transpose")])
        >>> {path: array.shape for path, array in arrays.items()}, problems
        ({'rnn/kernel': (2, 3)}, ['extra is unknown'])
    """
    arrays: dict[str, np.ndarray] = {}
    ties: list[tuple[str, str]] = []
    parts: dict[str, int] = {}
    problems = []
    for key, array in state.items():
        row, match = next(((r, m) for r in rows if (m := re.fullmatch(r.pattern, key))), (None, None))
        if row is None or match is None:
            problems.append(f"{key} is unknown")
            continue
        path = match.expand(row.path)
        if row.how == "tie":
            ties.append((key, path))
        elif row.how != "ignore":
            if array.dtype.kind not in "fV" or (array.ndim != 2 and (array.ndim != 1 or row.how == "transpose")):
                # "V" is the kind of bfloat16.
                problems.append(f"{key} is {array.dtype} {array.shape}")
                continue
            with np.errstate(over="ignore"):  # `check_finite` tells of what becomes infinite
                value = array.astype(np.float32)
            if row.how == "sum":
                parts[path] = parts.get(path, 0) + 1
            if row.how == "sum" and path in arrays and arrays[path].shape == value.shape:
                value = arrays[path] + value
            elif path in arrays:
                problems.append(f"{key} comes twice or in two shapes")
            arrays[path] = value.T if row.how == "transpose" else value
    for key, path in ties:
        if path not in arrays or not np.array_equal(state[key].astype(np.float32), arrays[path]):
            problems.append(f"{key} differs from the {path} that it is tied to")
    problems += [f"{path} needs two parts and has {count}" for path, count in parts.items() if count != 2]
    return arrays, problems


def fill(arrays: Arrays, template: Any, problems: Sequence[str], complaint: str, remedy: str) -> dict[str, Any]:
    """`template` with the arrays in place of its leaves.

    Args:
        arrays: by path.
        template: nested dict whose leaves have shapes; the keys `params` and `statistics` are not part of the paths.
        problems: those of `assemble`.
        complaint, remedy: the parts of the error's sentence before and after the list of problems.

    Raises:
        InputError: lists the problems, and every parameter that is missing, superfluous or of another shape.
    """
    problems, filled, used = list(problems), {}, set()
    leaves: Any = traverse_util.flatten_dict(template)
    for keys, leaf in leaves.items():
        path = "/".join(key for key in keys if key not in ("params", "statistics"))
        used.add(path)
        array = arrays.get(path)
        if array is None:
            problems.append(f"nothing fills {path}")
        elif array.shape != leaf.shape:
            problems.append(f"{path} has the shape {array.shape} where {leaf.shape} fits")
        else:
            filled[keys] = jnp.asarray(array)
    problems += [f"nothing takes {path}" for path in arrays if path not in used]
    if problems:
        raise InputError(f"{complaint} ({some_of(problems)}): {remedy}")
    return traverse_util.unflatten_dict(filled)


def check_finite(arrays: Arrays, name: str) -> None:
    """Refuses weights that are NaN or infinite.

    Args:
        arrays: by path.
        name: of the file or folder, for the error.

    Raises:
        InputError: naming the weights.
    """
    if wrong := [path for path, array in arrays.items() if not np.isfinite(array).all()]:
        raise InputError(
            f"{name} holds numbers that are not finite (in {some_of(wrong, ', ')}): take another copy of it"
        )


def some_of(items: Sequence[str], separator: str = "; ") -> str:
    """The first of many items, and how many there are.

    Examples:
        >>> some_of(["a", "b"]), some_of([str(number) for number in range(200)], ", ")
        ('a; b', '0, 1, 2, 3, 4, 5, and 194 more of 200')
    """
    if len(items) <= MAX_LISTED + 2:
        return separator.join(items)
    return separator.join([*items[:MAX_LISTED], f"and {len(items) - MAX_LISTED:,} more of {len(items):,}"])
