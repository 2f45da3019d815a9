"""Writes tensors in the zip format of `torch.save` without torch, for `jaxft.export`.

References:
    `torch/serialization.py`, and `pickletools` for the instructions.
"""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxft.base.files import replacing

STORAGES = {"float32": b"FloatStorage", "int64": b"LongStorage"}


def write_state(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict that `torch.load` reads, whole or not at all.

    Args:
        path: the `.pth` file.
        state: float32 or int64 arrays by name; an array under two names, as of tied weights, is stored once.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    with replacing(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in _members(state):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)  # whose date is always the same


def _members(state: Mapping[str, np.ndarray]) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files in the archive, one array after another."""
    yield from (("data.pkl", pickled_state(state)), ("byteorder", b"little"), ("version", b"3\n"))
    for key, array in _storages(state).values():
        yield f"data/{key}", array.astype(array.dtype.newbyteorder("<")).tobytes()


def pickled_state(state: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of a dict of tensors, each of which views a whole storage.

    It is assembled from instructions, because `pickle` writes names from torch only where torch is installed.
    """
    storages = _storages(state)
    items = b"".join(_plain(name) + _tensor(storages[id(array)][0], array) for name, array in state.items())
    return pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def _storages(state: Mapping[str, np.ndarray]) -> dict[int, tuple[str, np.ndarray]]:
    """Key and content of the storage of each array, by its identity: an array under two names is stored once."""
    arrays = {id(array): array for array in state.values()}
    return {identity: (str(key), array) for key, (identity, array) in enumerate(arrays.items())}


def _tensor(key: str, array: np.ndarray) -> bytes:
    kind = pickle.GLOBAL + b"torch\n" + STORAGES[array.dtype.name] + b"\n"
    storage = pickle.MARK + _plain("storage") + kind + _plain(key) + _plain("cpu") + _plain(array.size) + pickle.TUPLE
    strides = tuple(int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim))
    hooks = pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
    view = _plain(0) + _plain(array.shape) + _plain(strides) + _plain(False) + hooks
    function = pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"
    return function + pickle.MARK + storage + pickle.BINPERSID + view + pickle.TUPLE + pickle.REDUCE


def _plain(value: Any) -> bytes:
    """The instructions for a string, a number or a tuple of numbers, without the frame of a whole pickle."""
    return pickle.dumps(value, 2)[2:-1]
