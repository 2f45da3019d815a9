"""Reads the files that `torch.save` writes, and pickles of plain lists, without torch and without running a pickle.

A pickle is a program. This one is parsed into its instructions by `pickletools`, which runs none, and a small stack
machine rebuilds containers, numbers, strings and tensors from them; every other name in it is refused. Sizes are
checked against the file before anything is allocated. `jaxft.models.fastai` reads weights through `read_tensors`, and
vocabularies through `read_pickle`.

References:
  `torch/serialization.py` (the zip format since PyTorch 1.6, and the older one) and `torch/_utils.py`, the functions
  that rebuild a tensor.
"""

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from jaxft.errors import InputError

DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
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
"""bytes of a weight file at most; fastai's published models, their optimizer included, have a tenth of it"""
LARGEST_PICKLE = 64 << 20
"""bytes of a pickle without tensors at most; the tokens of WikiText-103 have a hundredth of it"""
MOST_INSTRUCTIONS = 3_000_000
"""of one pickle"""
MOST_ROWS_OF_NOTHING = 2**31 - 1
"""size of a dimension of a tensor without elements at most"""


def read_tensors(content: bytes, name: str) -> Any:
    """What a file of `torch.save` holds, with NumPy arrays in the place of tensors.

    Args:
      content: the file, in the zip format or in the one before it.
      name: what to call it in errors.

    Raises:
      InputError: anything but tensors in plain containers, which is refused by its name; a damaged file; a tensor that
        reaches beyond its data.
    """
    if content.startswith(b"PK\x03\x04"):
        return _read_zip(content, name)
    if content.startswith(b"\x80"):
        return _read_legacy(content, name)
    raise InputError(f"{name} is not a file of torch.save: name a .pth file that fastai or torch has written")


def read_pickle(content: bytes, name: str) -> Any:
    """The lists, tuples, dicts, strings and numbers that a pickle holds.

    Raises:
      InputError: anything else in it, which is refused by its name; a damaged file, or one that is far too large.

    Examples:
      >>> import pickle
      >>> read_pickle(pickle.dumps(["xxunk", "film"]), "itos.pkl")
      ['xxunk', 'film']
    """
    if len(content) > LARGEST_PICKLE:
        raise InputError(f"{name} has {len(content):,} bytes: no list of tokens has more than {LARGEST_PICKLE:,}")
    return _Machine(name, {("collections", "OrderedDict"): _ordered_dict}).run(io.BytesIO(content))


@dataclass(frozen=True)
class _Storage:
    """A named piece of memory that tensors are views of, before its bytes are known."""

    key: str
    dtype: np.dtype
    size: int  # elements

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage: offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A name from a module that a pickle refers to and that is allowed."""

    module: str
    name: str


def _read_zip(content: bytes, name: str) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
                raise InputError(f"{name} is compressed inside, which torch.save never does: save the model again")
            roots = [path.removesuffix("data.pkl") for path in members if path.rpartition("/")[2] == "data.pkl"]
            if len(roots) != 1:
                raise InputError(f"{name} is a zip but not one of torch.save (no data.pkl): name a .pth file")
            order = roots[0] + "byteorder"
            if order in members and archive.read(order) != b"little":
                raise InputError(f"{name} was written on a big-endian machine: save the model again on another")

            def data(storage: _Storage) -> bytes:
                path = f"{roots[0]}data/{storage.key}"
                found = members[path].compress_size if path in members else 0
                if found != storage.nbytes or members[path].file_size != storage.nbytes:
                    raise InputError(
                        f"{name} is damaged: storage {storage.key} needs {storage.nbytes} bytes and has {found}"
                    )
                return archive.read(path)

            machine = _Machine(name, TENSOR_NAMES)
            tree = machine.run(io.BytesIO(archive.read(roots[0] + "data.pkl")))
            return _with_arrays(tree, data, machine, len(content))
    except InputError:
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InputError(f"{name} is damaged or cut off ({error}): download or save it again") from error


def _read_legacy(content: bytes, name: str) -> Any:
    file = io.BytesIO(content)
    magic, protocol = (_Machine(name, {}).run(file) for _ in range(2))
    if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL:
        raise InputError(f"{name} is not a file of torch.save: name a .pth file that fastai or torch has written")
    system = _Machine(name, {}).run(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise InputError(f"{name} was written on a big-endian machine: save the model again on another")
    machine = _Machine(name, TENSOR_NAMES)
    tree = machine.run(file)
    keys = _Machine(name, {}).run(file)
    pieces: dict[str, bytes] = {}
    for key in keys if isinstance(keys, list) else []:
        storage = machine.storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise InputError(f"{name} is damaged: it lists a storage that no tensor uses")
        header = file.read(8)
        size = struct.unpack("<q", header)[0] if len(header) == 8 else -1
        if size != storage.size or storage.nbytes > len(content) - file.tell():
            raise InputError(f"{name} is damaged or cut off at a storage: download or save it again")
        pieces[key] = file.read(storage.nbytes)

    def data(storage: _Storage) -> bytes:
        if storage.key not in pieces:
            raise InputError(f"{name} is damaged: the storage {storage.key} is missing")
        return pieces[storage.key]

    return _with_arrays(tree, data, machine, len(content))


def _with_arrays(tree: Any, data: Callable[[_Storage], bytes], machine: "_Machine", file_size: int) -> Any:
    """`tree` with a read-only array for each tensor; what a container holds twice stays one array.

    Raises:
      InputError: storages that together are larger than the file.
    """
    name = machine.name
    if sum(storage.nbytes for storage in machine.storages.values()) > file_size:
        raise InputError(f"{name} is damaged: it declares more data than it holds")
    seen: dict[int, Any] = {}
    storages: dict[str, np.ndarray] = {}

    def convert(node: Any) -> Any:
        if isinstance(node, _Storage | _Name):
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
        raise InputError(f"{name} nests its containers too deep: save the model's state_dict alone") from error


class _Inert:
    """What stands in the place of a value that no weight is made of."""


def _inert(*_: Any) -> _Inert:
    return _Inert()


def _natural(*numbers: Any) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


def _ordered_dict(*arguments: Any) -> dict:
    if arguments:
        raise ValueError("an OrderedDict with arguments")
    return {}


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Checks that the view lies within its storage; the other arguments are about gradients."""
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise ValueError("a tensor of something else than a storage")
    if len(shape) != len(strides) or len(shape) > 32 or not _natural(offset, *shape, *strides):
        raise ValueError("a tensor whose shape and strides are not two lists of natural numbers")
    count = math.prod(shape)
    if not count and max(shape) > MOST_ROWS_OF_NOTHING:
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


TENSOR_NAMES: Mapping[tuple[str, str], Callable[..., Any] | None] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", storage): None for storage in DTYPES},
    # what fastai 2 keeps of its optimizer beside the weights: its list class, and NumPy's numbers
    ("fastcore.foundation", "L"): _inert,
    ("numpy.core.multiarray", "scalar"): _inert,
    ("numpy._core.multiarray", "scalar"): _inert,
    ("numpy", "dtype"): _inert,
    ("_codecs", "encode"): _inert,
}
"""what stands for each name that a file of tensors may refer to; those with None are named, never called"""


class _Machine:
    """Rebuilds what the instructions of one pickle describe.

    Args:
      name: of the file, for errors.
      allowed: what stands for each name that may be called.
      limit: instructions at most; a vocabulary of 500,000 tokens has half as many.
    """

    def __init__(
        self, name: str, allowed: Mapping[tuple[str, str], Callable[..., Any] | None], limit: int = MOST_INSTRUCTIONS
    ):
        self.name, self._allowed, self._limit = name, allowed, limit
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}

    def run(self, file: io.BytesIO) -> Any:
        """Reads one pickle from `file` and stands behind it afterwards."""
        try:
            for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if number > self._limit:
                    raise ValueError("too many instructions")
                self._step(opcode.name, argument)
            (result,) = self._stack
            return result
        except InputError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
            raise InputError(f"{self.name} is damaged or not a pickle of plain values ({error})") from error

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case (
                "BININT"
                | "BININT1"
                | "BININT2"
                | "INT"
                | "LONG"
                | "LONG1"
                | "LONG4"
                | "FLOAT"
                | "BINFLOAT"
                | "UNICODE"
                | "BINUNICODE"
                | "SHORT_BINUNICODE"
                | "BINUNICODE8"
            ):
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
                stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[opcode]())
            case "MARK":
                self._marks.append(len(stack))
            case "LIST":
                stack.append(self._to_mark())
            case "TUPLE":
                stack.append(tuple(self._to_mark()))
            case "DICT":
                stack.append(self._update({}, self._to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(opcode[-1]))))
            case "APPEND":
                self._extend(self._pop(1))
            case "APPENDS":
                self._extend(self._to_mark())
            case "SETITEM":
                pair = self._pop(2)
                self._update(stack[-1], pair)
            case "SETITEMS":
                pairs = self._to_mark()
                self._update(stack[-1], pairs)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(self._global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                module, name = self._pop(2)
                stack.append(self._global(module, name))
            case "REDUCE" | "NEWOBJ":
                function, arguments = self._pop(2)
                stack.append(self._call(function, arguments))
            case "BINPERSID":
                stack.append(self._storage(*self._pop(1)))
            case "BUILD":
                # torch hangs version numbers on the OrderedDict of a model's weights
                self._pop(1)
                if not isinstance(stack[-1], dict | _Inert):
                    raise ValueError("the state of an object")
            case _:
                raise InputError(f"{self.name} holds the pickle instruction {opcode}, which plain weights do not need")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) - count < (self._marks[-1] if self._marks else 0):
            raise ValueError("an empty stack")
        values = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return values

    def _to_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _extend(self, values: Sequence[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("an append to what is no list")
        self._stack[-1].extend(values)

    def _update(self, target: Any, pairs: Sequence[Any]) -> dict:
        if not isinstance(target, dict) or len(pairs) % 2:
            raise ValueError("an item of what is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int | float | bool | None):
                raise ValueError(f"a dict with a {type(key).__name__} as its key")
            target[key] = value
        return target

    def _global(self, module: Any, name: Any) -> _Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a reference to what is no name")
        if (module, name) not in self._allowed:
            raise InputError(
                f"{self.name} refers to {module:.60}.{name:.60}, which is neither a tensor nor a plain container, "
                "so it is not read: save the model's state_dict alone (in fastai: with_opt=False)"
            )
        return _Name(module, name)

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        rebuild = self._allowed[function.module, function.name]
        if rebuild is None:
            raise ValueError(f"a call of {function.module}.{function.name}")
        return rebuild(*arguments)

    def _storage(self, identity: Any) -> _Storage:
        match identity:
            case ("storage", _Name(module="torch", name=kind), str(key), str(), int(size), *_) if kind in DTYPES:
                if len(identity) > 5 and identity[5] is not None:
                    raise ValueError("a view of a storage")
                storage = _Storage(key, DTYPES[kind], size)
                if not _natural(size) or self.storages.setdefault(key, storage) != storage:
                    raise ValueError("a storage that is declared in two ways")
                return storage
        raise ValueError("a reference to something else than a storage")
