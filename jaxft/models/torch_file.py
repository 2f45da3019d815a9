"""Reads the files that `torch.save` writes without torch, and without running the pickles in them.

`jaxft.models.pickle_machine` reads the pickles; the names allowed here are those that make a tensor. Sizes are checked
against the file before memory is allocated. `jaxft.models.fastai` and `jaxft.models.hugging_face` read weights with it.

References:
    `torch/serialization.py` (the zip format since PyTorch 1.6, and the older one) and `torch/_utils.py`, the functions
    that rebuild a tensor.
"""

import io
import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.models.pickle_machine import PLAIN, Name, Names, PickleMachine, inert

DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
LARGEST_FILE = 4 << 30
"""bytes of the largest weight file that is read; fastai's published models with their optimizer take a tenth"""
LARGEST_EMPTY_DIMENSION = 2**31 - 1
"""largest dimension of a tensor without elements"""


def read_tensors(content: bytes, name: str) -> Any:
    """The content of a file of `torch.save`, with NumPy arrays in place of tensors.

    Args:
        content: bytes of the file, in the zip format or in the older one.
        name: of the file, for errors.

    Raises:
        InputError: the file refers to anything but tensors and plain containers, which the sentence names; it is
            damaged; or a tensor reaches beyond its data.
    """
    if content.startswith(b"PK\x03\x04"):
        return _read_zip(content, name)
    if content.startswith(b"\x80"):
        return _read_legacy(content, name)
    raise InputError(f"{name} is not a file of torch.save: name a .pth file that fastai or torch has written")


def is_state(tree: Any) -> TypeGuard[dict[str, np.ndarray]]:
    """Whether the content of a file is a dict of tensors by name."""
    return isinstance(tree, dict) and all(isinstance(k, str) and isinstance(v, np.ndarray) for k, v in tree.items())


@dataclass(frozen=True)
class _Storage:
    """A piece of memory that tensors view, by its key in the file, before its bytes are read."""

    key: str
    dtype: np.dtype
    size: int  # elements

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class _Storages:
    """The storages that the pickle of a file declares."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def declare(self, identity: Any) -> _Storage:
        """The storage that a persistent reference of torch means.

        Raises:
            ValueError: the reference is not one to a whole storage, or contradicts an earlier one.
        """
        match identity:
            case ("storage", Name(module="torch", name=kind), str(key), str(), int(size), *_) if kind in DTYPES:
                if len(identity) > 5 and identity[5] is not None:
                    raise ValueError("a view of a storage")
                storage = _Storage(key, DTYPES[kind], size)
                if not _natural(size) or self.by_key.setdefault(key, storage) != storage:
                    raise ValueError("a storage that is declared in two ways")
                return storage
        raise ValueError("a reference to something else than a storage")


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage: offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _read_zip(content: bytes, name: str) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
                raise InputError(f"{name} is compressed inside, which torch.save never does: save the model again")
            roots = [path.removesuffix("data.pkl") for path in entries if path.rpartition("/")[2] == "data.pkl"]
            if len(roots) != 1:
                raise InputError(f"{name} is a zip file but not one of torch.save (no data.pkl): name a .pth file")
            order = roots[0] + "byteorder"
            if order in entries and archive.read(order) != b"little":
                raise InputError(f"{name} was written on a big-endian machine: save the model again on another")

            def data(storage: _Storage) -> bytes:
                path = f"{roots[0]}data/{storage.key}"
                stored = entries[path].compress_size if path in entries else 0
                if stored != storage.nbytes or entries[path].file_size != storage.nbytes:
                    raise InputError(
                        f"{name} is damaged (storage {storage.key} needs {storage.nbytes} bytes and has {stored}): "
                        "download or save it again"
                    )
                return archive.read(path)

            storages = _Storages()
            machine = PickleMachine(name, TENSOR_NAMES, storages.declare)
            tree = machine.run(io.BytesIO(archive.read(roots[0] + "data.pkl")))
            return _with_arrays(tree, data, storages, name, len(content))
    except InputError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"{name} is damaged or cut off: download or save it again") from error


def _read_legacy(content: bytes, name: str) -> Any:
    file = io.BytesIO(content)
    magic, protocol = (PickleMachine(name, {}).run(file) for _ in range(2))
    if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL:
        raise InputError(f"{name} is not a file of torch.save: name a .pth file that fastai or torch has written")
    system = PickleMachine(name, {}).run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InputError(f"{name} was written on a big-endian machine: save the model again on another")
    storages = _Storages()
    tree = PickleMachine(name, TENSOR_NAMES, storages.declare).run(file)
    keys = PickleMachine(name, {}).run(file)
    pieces: dict[str, bytes] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = storages.by_key.get(key) if isinstance(key, str) else None
        if storage is None:
            raise InputError(f"{name} is damaged (it lists a storage that no tensor uses): download or save it again")
        header = file.read(8)
        size = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        if size != storage.size or storage.nbytes > len(content) - file.tell():
            raise InputError(f"{name} is damaged or cut off at a storage: download or save it again")
        pieces[key] = file.read(storage.nbytes)

    def data(storage: _Storage) -> bytes:
        if storage.key not in pieces:
            raise InputError(f"{name} is damaged (the storage {storage.key} is missing): download or save it again")
        return pieces[storage.key]

    return _with_arrays(tree, data, storages, name, len(content))


def _with_arrays(tree: Any, data: Callable[[_Storage], bytes], declared: "_Storages", name: str, file_size: int) -> Any:
    """`tree` with a read-only array for each tensor, and one array for each tensor that occurs twice.

    Raises:
        InputError: the storages together are larger than the file, or `tree` holds anything but tensors and plain
            containers.
    """
    if sum(storage.nbytes for storage in declared.by_key.values()) > file_size:
        raise InputError(f"{name} is damaged (it declares more data than it holds): download or save it again")
    seen: dict[int, Any] = {}
    storages: dict[str, np.ndarray] = {}

    def convert(node: Any) -> Any:
        if isinstance(node, _Storage | Name):
            raise InputError(f"{name} holds {node} outside of a tensor: save the model's state_dict alone")
        if not isinstance(node, _Tensor | list | tuple | dict):
            return node
        if id(node) in seen:
            if seen[id(node)] is None:
                raise InputError(f"{name} holds a container inside itself: save the model's state_dict alone")
            return seen[id(node)]
        seen[id(node)] = None
        match node:
            case _Tensor():
                result: Any = array(node)
            case dict():
                result = {key: convert(value) for key, value in node.items()}
            case _:
                result = type(node)(convert(value) for value in node)
        seen[id(node)] = result
        return result

    def array(tensor: _Tensor) -> np.ndarray:
        storage = tensor.storage
        if storage.key not in storages:
            storages[storage.key] = np.frombuffer(data(storage), storage.dtype, storage.size)
        base = storages[storage.key]
        strides = [stride * storage.dtype.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(base[tensor.offset :], tensor.shape, strides, writeable=False)

    try:
        return convert(tree)
    except RecursionError as error:
        raise InputError(f"{name} nests its containers too deeply: save the model's state_dict alone") from error


def _natural(*numbers: Any) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """A view, checked to lie within its storage; the other arguments concern gradients."""
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor of something else than a storage")
    if len(shape) != len(strides) or len(shape) > 32 or not _natural(offset, *shape, *strides):
        raise ValueError("a tensor whose shape and strides are not two lists of natural numbers")
    count = math.prod(shape)
    if not count and max(shape) > LARGEST_EMPTY_DIMENSION:
        raise ValueError("an empty tensor of too large a shape")
    strides = tuple(stride if count and size > 1 else 0 for size, stride in zip(shape, strides, strict=True))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count and (count > storage.size or last >= storage.size):
        raise ValueError("a tensor that is larger than its storage")
    return _Tensor(storage, offset if count else 0, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise ValueError("a parameter of something else than a tensor")
    return tensor


TENSOR_NAMES: Names = {
    **PLAIN,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", storage): None for storage in DTYPES},
    # fastai 2 saves its optimizer beside the weights, with its list class and numbers of NumPy.
    ("fastcore.foundation", "L"): inert,
    ("numpy.core.multiarray", "scalar"): inert,
    ("numpy._core.multiarray", "scalar"): inert,
    ("numpy", "dtype"): inert,
    ("_codecs", "encode"): inert,
}
"""for each name that a file of tensors may refer to, the function that replaces it, or None to refuse a call"""
