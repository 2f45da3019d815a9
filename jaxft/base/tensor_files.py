"""Named arrays in safetensors files: parameters of models and checkpoints.

Every file is data only, never a pickle, and other tools open it; it is whole or absent, as `jaxft.base.files` says.
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxft.base.files import replacing, require_file
from jaxft.errors import InputError

FORMAT_VERSION = 1

# NumPy's name of a type (ml_dtypes' for bfloat16), and safetensors'.
_DTYPES = {"bool": "BOOL", "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64"}
_DTYPES |= {f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_REMEDY = "put back an intact copy, or delete it and start the run again"


def save_params(path: str | os.PathLike[str], params: Mapping[Any, Any], metadata: Mapping[str, Any]) -> None:
    """Writes a model's parameters for use elsewhere: a nested dict of arrays, named `encoder/0/kernel` and the like.

    Args:
        path: the file to write, atomically as in `save`.
        params: nested dictionaries with string or integer keys and arrays at the leaves.
        metadata: what a reader needs to rebuild the model, as JSON; `read_meta` returns it.

    Raises:
        InputError: a number is not finite, the disk is full, or the folder is not writable.
        TypeError: `params` holds anything but dictionaries and arrays, or `metadata` is not JSON.
        ValueError: two parameters have the same name.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/model.safetensors"
        ...     save_params(path, {"layers": {0: {"bias": jnp.ones(2)}}}, {"classes": ["neg", "pos"]})
        ...     print(load_params(path), read_meta(path))
        {'layers': {0: {'bias': Array([1., 1.], dtype=float32)}}} {'classes': ['neg', 'pos']}
    """
    arrays = {name: host_array(name, leaf) for name, leaf in named_leaves(params)}
    if bad := first_not_finite(arrays):
        raise InputError(
            f"{bad} would not be finite in {path}, which is not written: lower the learning rates, or start from other "
            "weights"
        )
    places = [
        [getattr(key, "key", None) for key in keys] for keys, _ in jax.tree_util.tree_flatten_with_path(params)[0]
    ]
    if not all(isinstance(key, str | int) for keys in places for key in keys):
        raise TypeError("parameters are nested dictionaries with string or integer keys, and nothing else")
    # The names alone would turn the integer keys of a list of layers into strings.
    paths = dict(zip(arrays, places, strict=True))
    write_arrays(Path(path), arrays, {"kind": "parameters", "meta": metadata, "paths": paths})


def load_params(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Reads what `save_params` wrote, as a nested dict of JAX arrays with the same keys, bit for bit.

    Raises:
        InputError: there is no such file, it is damaged or holds a number that is not finite, or it is not a model of
            jaxft.
    """
    arrays, record = read_arrays(Path(path), "parameters")
    if bad := first_not_finite(arrays):
        raise InputError(f"{path} holds {bad} with a number that is not finite: {_REMEDY}")
    params: dict[Any, Any] = {}
    for name, array in arrays.items():
        *parents, last = record["paths"][name]
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = jnp.array(array)
    return params


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The `meta` of a checkpoint, or the `metadata` of a model, without reading the arrays.

    Raises:
        InputError: there is no such file, its header is damaged, or jaxft did not write it.
    """
    path = Path(path)
    with _reading(path), safe_open(path, framework="np") as file:
        return _record(path, file.metadata())["meta"]


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf of a pytree by its path, such as `opt_state/0/mu/kernel`.

    Raises:
        ValueError: two leaves have the same path.
    """
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in paths]
    if twice := sorted(name for name, count in Counter(name for name, _ in named).items() if count > 1):
        raise ValueError(f"several leaves have the path {twice[0]}: rename one")
    return named


def host_array(name: str, leaf: Any) -> np.ndarray:
    """The leaf as a NumPy array in C order.

    Raises:
        TypeError: naming the leaf, where safetensors cannot hold its type.
    """
    array = np.asarray(leaf, order="C")
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"{name} is {array.dtype.name}, which a checkpoint cannot hold")
    return array


def first_not_finite(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The name of the first array with a number that is not finite; None if there is none.

    Examples:
        >>> first_not_finite({"a": np.ones(2), "b": np.array([1.0, np.nan])})
        'b'
    """
    return next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)


def write_arrays(path: Path, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
    """Writes arrays by name, and `record` (JSON, with the entry `kind`), in one step; checksums guard both.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    record = json.loads(json.dumps({"version": FORMAT_VERSION, "crc32": _checksum(arrays.items()), **record}))
    record["record_crc32"] = zlib.crc32(_canonical(record).encode())
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))  # so that all are aligned
    # Not by safetensors' own writer, which leaves a file under a random name when it is killed.
    with replacing(path, "wb") as file:
        # Other libraries read from "format" whose names and layouts these are.
        file.write(_safetensors_header(arrays, {"format": "pt", "jaxft": _canonical(record)}))
        for array in arrays.values():
            file.write(_bytes(array))


def read_arrays(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the record that `write_arrays` stored; `kind` is what the record has to say.

    Raises:
        InputError: there is no such file, it is damaged, or it holds another kind.
    """
    with _reading(path), safe_open(path, framework="np") as file:
        record = _record(path, file.metadata())
        if record["kind"] != kind:
            raise InputError(f"{path} holds {record['kind']}, not {kind}: name the other file of the run")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file handle is not a mapping)
    if _checksum(arrays.items()) != record["crc32"]:
        raise InputError(f"{path} is damaged (its arrays fail their checksum): {_REMEDY}")
    return arrays, record


def _checksum(arrays: Iterable[tuple[str, np.ndarray]]) -> int:
    crc = 0
    for name, array in sorted(arrays, key=lambda item: item[0]):
        crc = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc)
        crc = zlib.crc32(_bytes(array), crc)
    return crc


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _canonical(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, ensure_ascii=False)


def _safetensors_header(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The file up to the arrays: a length, then JSON with type, shape and place of each, padded to eight bytes."""
    if "__metadata__" in arrays:
        raise ValueError("safetensors keeps the name __metadata__ for itself: rename that leaf")
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns the errors of opening and parsing a file into the sentence that the user reads."""
    require_file(path)
    try:
        yield
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or not a safetensors file: {_REMEDY}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: check that it exists and that you may read it") from error


def _record(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    if not metadata or "jaxft" not in metadata:
        raise InputError(f"{path} was not written by jaxft: name a file of one of its runs")
    try:
        record = json.loads(metadata["jaxft"])
        crc = record.pop("record_crc32")
    except (ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is damaged (its header cannot be parsed): {_REMEDY}") from error
    if crc != zlib.crc32(_canonical(record).encode()):
        raise InputError(f"{path} is damaged (its header fails its checksum): {_REMEDY}")
    if record["version"] != FORMAT_VERSION:
        raise InputError(
            f"{path} has format {record['version']} and this version of jaxft reads format {FORMAT_VERSION}: "
            "use the version that wrote it, or start the run again"
        )
    return record
