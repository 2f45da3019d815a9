"""The settings of a job from Python arguments, as `fit` takes them: the preset's values, changed by name."""

import json
import operator
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, SupportsIndex, TypeVar, Union, get_args, get_origin, get_type_hints

from jaxft.errors import InputError, Stopped
from jaxft.training.command_line import Command
from jaxft.training.settings import check_ranges, flatten

S = TypeVar("S")


def settings_from(command: Command[S], given: Mapping[str, Any]) -> S:
    """The settings that a command line with the same values makes.

    Args:
        command: of the job.
        given: values by name; those of a stage are a mapping, such as `{"train": {"epochs": 3}}`, or the stage's
            dataclass. `preset` names the preset whose values the others have.

    Raises:
        TypeError: a name that is no setting; the message names the nearest.
        InputError: a value of another type, one out of its range, or settings that contradict each other.

    Examples:
        >>> from jaxft.ner.settings import COMMAND
        >>> settings_from(COMMAND, {"data": "conll", "train": {"epochs": 3}}).train.epochs
        3
        >>> settings_from(COMMAND, {"data": "conll", "trian": {"epochs": 3}})
        Traceback (most recent call last):
        TypeError: 'trian' is not a setting: do you mean 'train'?
    """
    start: Any = next(iter(command.presets.values()))
    asked = _changed(command, replace(start, preset=type(start)().preset), given)
    name = command.choose_preset(asked)
    chosen: Any = command.presets[name]
    settings = replace(_changed(command, chosen, given), preset=name)
    check_ranges(settings, command.ranges)
    command.check(settings)
    return settings


@contextmanager
def speaking_of_arguments() -> Iterator[None]:
    """Names arguments instead of flags in the errors of the `with` block.

    Examples:
        >>> with speaking_of_arguments():
        ...     raise InputError("--train.peak-rate 0 is out of its range: give a number above 0")
        Traceback (most recent call last):
        jaxft.errors.InputError: train.peak_rate 0 is out of its range: give a number above 0
    """
    try:
        yield
    except (InputError, Stopped) as error:
        raise type(error)(re.sub(r"--([a-z][\w.-]*\w)", _argument, str(error))) from error.__cause__


def _argument(flag: re.Match[str]) -> str:
    name = flag[1].replace("-", "_")
    if name.startswith("no_"):
        return f"{name[3:]}=False"
    return "resume=True" if name == "resume" else name


def _changed(command: Command[Any], default: Any, given: Mapping[str, Any], stage: str = "") -> Any:
    hints = get_type_hints(type(default))
    changes = {}
    for name, value in given.items():
        if name not in hints:
            raise TypeError(f"{stage + name!r} is not a setting{_suggestion(command, stage + name)}")
        before = getattr(default, name)
        if is_dataclass(before) and isinstance(value, Mapping):
            changes[name] = _changed(command, before, value, f"{stage}{name}.")
        else:
            changes[name] = _converted(value, hints[name], stage + name)
    return replace(default, **changes)


def _suggestion(command: Command[Any], name: str) -> str:
    """What to write instead of a name that is no setting, as the end of a sentence."""
    *stages, last = name.split(".")
    usual = command.usual_flags.get(last.replace("_", "-"))
    if usual and not stages:
        return f": give {' or '.join(map(_nested, [usual] if isinstance(usual, str) else usual))}"
    settings = next(iter(command.presets.values()))
    names = list(flatten(asdict(settings)))
    if name in names:
        return f": give {_nested(name)}"
    names += {name.rpartition(".")[0] for name in names} - {""}
    by_last = {full.rpartition(".")[2]: full for full in reversed(names)}
    near = get_close_matches(name, names, 1) or [by_last[n] for n in get_close_matches(last, by_last, 1)]
    return f": do you mean {near[0]!r}?" if near else ""


def _nested(name: str) -> str:
    """A dotted name as an argument.

    Examples:
        >>> _nested("train.epochs"), _nested("seed")
        ("train={'epochs': ...}", 'seed=...')
    """
    stage, _, last = name.rpartition(".")
    return f"{stage}={{{last!r}: ...}}" if stage else f"{last}=..."


def _converted(value: Any, hint: Any, name: str) -> Any:
    """The value as the command line would read it.

    Raises:
        InputError: it has another type, or is none of the choices.
    """
    if get_origin(hint) in (Union, UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        *choices, hint = (kind for kind in get_args(hint) if kind is not type(None))
        if any(get_origin(choice) is Literal and value in get_args(choice) for choice in choices):
            return value
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise InputError(f"{name} {value!r} is none of its choices: give {', '.join(map(repr, get_args(hint)))}")
    if get_origin(hint) is tuple:
        return tuple(_converted(item, get_args(hint)[0], name) for item in _listed(value))
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, SupportsIndex) and not isinstance(value, bool):
        return operator.index(value)
    if hint is float and isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, Mapping):  # a JSON object on the command line
        return json.dumps({str(name): item for name, item in value.items()}, default=float)
    if hint in (str, Path) and isinstance(value, str | os.PathLike):
        return hint(os.fspath(value))
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, hint):  # of a stage
        return value
    kinds = {bool: "True or False", int: "a whole number", float: "a number", str: "a string", Path: "a path"}
    raise InputError(f"{name} {value!r} has the wrong type: give {kinds.get(hint, 'a mapping of settings')}")


def _listed(value: Any) -> Sequence[Any]:
    return [value] if isinstance(value, str | os.PathLike) or not isinstance(value, Sequence) else value
