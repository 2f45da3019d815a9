"""Reads plain values from a pickle without running it.

A pickle is a program. `pickletools` parses it into instructions and runs none of them. A small stack machine follows
those that make containers, numbers and strings, and calls only the functions that its caller allows by name.
`jaxft.models.torch_file` reads tensors with it, and `jaxft.models.fastai` reads vocabularies.
"""

import io
import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxft.errors import InputError

Names = Mapping[tuple[str, str], Callable[..., Any] | None]

LARGEST_PICKLE = 64 << 20
"""bytes of the largest pickle without tensors that is read; the tokens of WikiText-103 take a hundredth"""
MOST_INSTRUCTIONS = 3_000_000
"""of one pickle; a vocabulary of 500,000 tokens has half as many"""


def read_pickle(content: bytes, name: str) -> Any:
    """The lists, tuples, dicts, strings and numbers that a pickle holds.

    Raises:
        InputError: the pickle refers to anything else, which the sentence names, or it is damaged or too large.

    Examples:
        >>> import pickle
        >>> read_pickle(pickle.dumps(["xxunk", "film"]), "itos.pkl")
        ['xxunk', 'film']
    """
    if len(content) > LARGEST_PICKLE:
        raise InputError(
            f"{name} has {len(content):,} bytes, more than a list of tokens takes ({LARGEST_PICKLE:,}): name the itos "
            "pickle that belongs to the weights"
        )
    return PickleMachine(name, PLAIN).run(io.BytesIO(content))


VALUES = frozenset(
    "BININT BININT1 BININT2 INT LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()  # noqa: SIM905
)
"""instructions that push their argument"""


@dataclass(frozen=True)
class Name:
    """An allowed name of a module that a pickle refers to."""

    module: str
    name: str


class Inert:
    """A placeholder for a value that no weight depends on."""


def inert(*_: Any) -> Inert:
    """A placeholder for the result of any call."""
    return Inert()


def ordered_dict(*arguments: Any) -> dict:
    """An empty dict in place of `OrderedDict()`, which a pickle calls without items.

    Raises:
        ValueError: the call has arguments.
    """
    if arguments:
        raise ValueError("an OrderedDict with arguments")
    return {}


PLAIN: Names = {("collections", "OrderedDict"): ordered_dict}
"""the names that a pickle of plain values may refer to"""


class PickleMachine:
    """A stack machine that follows the instructions of one pickle.

    Args:
        name: of the file, for errors.
        allowed: for each name that the pickle may refer to, the function that replaces it, or None to refuse a call.
        persistent: resolves a reference to data outside of the pickle; None refuses such references.
        limit: largest number of instructions.
    """

    def __init__(
        self,
        name: str,
        allowed: Names,
        persistent: Callable[[Any], Any] | None = None,
        limit: int = MOST_INSTRUCTIONS,
    ):
        self.name, self._allowed, self._persistent, self._limit = name, allowed, persistent, limit
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        """Reads one pickle from `file`, up to its end.

        Raises:
            InputError: the pickle is damaged, or needs anything that is not allowed.
        """
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
            raise InputError(
                f"{self.name} is damaged or not a pickle of plain values ({error}): download or save it again"
            ) from error

    def _step(self, opcode: str, argument: Any) -> None:
        stack = self._stack
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if opcode in VALUES:
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
                if self._persistent is None:
                    raise ValueError("a reference to something outside")
                stack.append(self._persistent(*self._pop(1)))
            case "BUILD":
                # torch sets version numbers on the OrderedDict of a model's weights.
                self._pop(1)
                if not isinstance(stack[-1], dict | Inert):
                    raise ValueError("the state of an object")
            case _:
                raise InputError(
                    f"{self.name} holds the pickle instruction {opcode}, which plain weights do not need: save the "
                    "model's state_dict alone"
                )

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
            raise ValueError("an append to something that is not a list")
        self._stack[-1].extend(values)

    def _update(self, target: Any, pairs: Sequence[Any]) -> dict:
        if not isinstance(target, dict) or len(pairs) % 2:
            raise ValueError("an item of something that is not a dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int | float | bool | None):
                raise ValueError(f"a dict with a {type(key).__name__} as its key")
            target[key] = value
        return target

    def _global(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a reference to something that is not a name")
        if (module, name) not in self._allowed:
            raise InputError(
                f"{self.name} refers to {module:.60}.{name:.60}, which is neither a tensor nor a plain container, "
                "so it is not read: save the model's state_dict alone (in fastai: with_opt=False)"
            )
        return Name(module, name)

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of something that is not a function")
        rebuild = self._allowed[function.module, function.name]
        if rebuild is None:
            raise ValueError(f"a call of {function.module}.{function.name}")
        return rebuild(*arguments)
