"""Other people's weights as ours, by a table of names in which every key of a file and every parameter must occur.

The readers `fastai` and `hugging_face` hold the tables. All that is wrong comes in one message.
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


@dataclass(frozen=True)
class Row:
    """Where the keys that match `pattern` go: `ours` is a path, into which the groups of the pattern are filled.

    A "sum" adds two keys up, and a "tie" has to hold the same numbers as the parameter that it is tied to.
    """

    pattern: str
    ours: str = ""
    how: Literal["same", "transpose", "sum", "tie", "ignore"] = "same"


def assemble(state: Arrays, rows: Sequence[Row]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Our parameters by path, float32, and what is wrong with the names.

    Args:
        state: arrays of a file by their names there.
        rows: the table; the first full match of a key counts.

    Examples:
        >>> state = {"rnn.weight": np.ones((3, 2), np.float16), "extra": np.ones(1)}
        >>> found, problems = assemble(state, [Row(r"(\\w+)\\.weight", r"\\1/kernel", "transpose")])
        >>> {path: array.shape for path, array in found.items()}, problems
        ({'rnn/kernel': (2, 3)}, ['extra is unknown'])
    """
    found: dict[str, np.ndarray] = {}
    ties: list[tuple[str, str]] = []
    parts: dict[str, int] = {}
    problems = []
    for key, array in state.items():
        row, match = next(((r, m) for r in rows if (m := re.fullmatch(r.pattern, key))), (None, None))
        if row is None or match is None:
            problems.append(f"{key} is unknown")
            continue
        path = match.expand(row.ours)
        if row.how == "tie":
            ties.append((key, path))
        elif row.how != "ignore":
            if array.dtype.kind not in "fV" or (array.ndim != 2 and (array.ndim != 1 or row.how == "transpose")):
                problems.append(f"{key} is {array.dtype} {array.shape}")  # bfloat16 calls its kind V
                continue
            value = array.astype(np.float32)
            if row.how == "sum":
                parts[path] = parts.get(path, 0) + 1
            if row.how == "sum" and path in found and found[path].shape == value.shape:
                value = found[path] + value
            elif path in found:
                problems.append(f"{key} comes twice or in two shapes")
            found[path] = value.T if row.how == "transpose" else value
    for key, path in ties:
        if path not in found or not np.array_equal(state[key].astype(np.float32), found[path]):
            problems.append(f"{key} differs from the {path} that it is tied to")
    problems += [f"{path} needs two parts and has {count}" for path, count in parts.items() if count != 2]
    return found, problems


def fill(found: Arrays, template: Any, problems: Sequence[str], complaint: str, remedy: str) -> dict[str, Any]:
    """`template` with the arrays found in the places of its leaves.

    Args:
        found: arrays by path.
        template: nested dict with leaves that have shapes; its own branches `params` and `statistics` are not part of
            the paths.
        problems: what was wrong before.
        complaint, remedy: what the error says before and after it has listed the problems.

    Raises:
        InputError: naming everything that is missing, superfluous or of another shape.
    """
    problems, filled, used = list(problems), {}, set()
    leaves: Any = traverse_util.flatten_dict(template)
    for keys, wanted in leaves.items():
        path = "/".join(key for key in keys if key not in ("params", "statistics"))
        used.add(path)
        array = found.get(path)
        if array is None:
            problems.append(f"nothing fills {path}")
        elif array.shape != wanted.shape:
            problems.append(f"{path} has the shape {array.shape} where {wanted.shape} fits")
        else:
            filled[keys] = jnp.asarray(array)
    problems += [f"nothing takes {path}" for path in found if path not in used]
    if problems:
        raise InputError(f"{complaint} ({'; '.join(problems)}): {remedy}")
    return traverse_util.unflatten_dict(filled)
