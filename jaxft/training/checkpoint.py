"""Saves a run so that it can be resumed, and a model so that it can be used: one file each, always whole or absent.

The jobs call `save` and `restore` for the state of training, `save_params` and `load_params` for a finished model, and
`read_meta` to look at either without reading its arrays. Every file is safetensors: data only, never pickle, open to
other tools. One file and not an Orbax folder, because a single `os.replace` swaps a file atomically, while Orbax
overwrites a checkpoint by deleting the old folder first, and a kill in between leaves neither.
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxft.errors import InputError

FORMAT_VERSION = 1

# NumPy's name of a type (ml_dtypes' for bfloat16), and safetensors'.
_DTYPES = {"bool": "BOOL", "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64", "complex64": "C64"}
_DTYPES |= {f"{kind}{bits}": f"{kind[0].upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_REMEDY = "put back an intact copy, or delete it and start the run again"


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
    for name, leaf in _named_leaves(tree):
        if _is_key(leaf):
            key_types[name] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        arrays[name] = _host_array(name, leaf)
    _write(Path(path), arrays, {"kind": "checkpoint", "meta": meta, "keys": key_types})


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
    arrays, record = _read(path, "checkpoint")
    key_types: dict[str, str] = record["keys"]
    named = _named_leaves(template)
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


def save_params(path: str | os.PathLike[str], params: Mapping[Any, Any], metadata: Mapping[str, Any]) -> None:
    """Writes a model's parameters for use elsewhere: a nested dict of arrays, named `encoder/0/kernel` and the like.

    Args:
        path: the file to write, atomically as in `save`.
        params: nested dictionaries with string or integer keys and arrays at the leaves.
        metadata: what a reader needs to rebuild the model, as JSON; `read_meta` returns it.

    Raises:
        InputError: the disk is full or the folder is not writable.
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
    arrays = {name: _host_array(name, leaf) for name, leaf in _named_leaves(params)}
    places = [
        [getattr(key, "key", None) for key in keys] for keys, _ in jax.tree_util.tree_flatten_with_path(params)[0]
    ]
    if not all(isinstance(key, str | int) for keys in places for key in keys):
        raise TypeError("parameters are nested dictionaries with string or integer keys, and nothing else")
    # The names alone would turn the integer keys of a list of layers into strings.
    paths = dict(zip(arrays, places, strict=True))
    _write(Path(path), arrays, {"kind": "parameters", "meta": metadata, "paths": paths})


def load_params(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """Reads what `save_params` wrote, as a nested dict of JAX arrays with the same keys, bit for bit.

    Raises:
        InputError: there is no such file, it is damaged, or it is not a model of jaxft.
    """
    arrays, record = _read(Path(path), "parameters")
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


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in paths]
    if twice := sorted(name for name, count in Counter(name for name, _ in named).items() if count > 1):
        raise ValueError(f"several leaves have the path {twice[0]}")
    return named


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _host_array(name: str, leaf: Any) -> np.ndarray:
    array = np.asarray(leaf, order="C")
    if array.dtype.name not in _DTYPES:
        raise TypeError(f"{name} is {array.dtype.name}, which a checkpoint cannot hold")
    return array


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


def _write(path: Path, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
    record = json.loads(json.dumps({"version": FORMAT_VERSION, "crc32": _checksum(arrays.items()), **record}))
    record["record_crc32"] = zlib.crc32(_canonical(record).encode())
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])))  # so that all are aligned
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # Not by safetensors' own writer: when killed it leaves a file under a random name, for ever.
        with open(temporary, "wb") as file:
            # Others tell by "format" whose names and layouts these are.
            file.write(_safetensors_header(arrays, {"format": "pt", "jaxft": _canonical(record)}))
            for array in arrays.values():
                file.write(_bytes(array))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error}): free some space or name a writable folder") from error
    finally:
        with suppress(OSError):  # it has its new name, or never came to be
            temporary.unlink()


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
    try:
        yield
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or not a safetensors file ({error}): {_REMEDY}") from error
    except OSError as error:
        raise InputError(f"cannot read {path} ({error}): check the path of the run") from error


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


def _read(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with _reading(path), safe_open(path, framework="np") as file:
        record = _record(path, file.metadata())
        if record["kind"] != kind:
            raise InputError(f"{path} holds {record['kind']}, not {kind}: name the other file of the run")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file handle is not a mapping)
    if _checksum(arrays.items()) != record["crc32"]:
        raise InputError(f"{path} is damaged (its arrays fail their checksum): {_REMEDY}")
    return arrays, record
