"""The command line of a training job: a preset, changed by flags, checked. It imports nothing heavy: help is fast."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import tyro

from jaxft.errors import InputError
from jaxft.training.settings import Range, check_ranges, flag

S = TypeVar("S")


@dataclass(frozen=True)
class Command(Generic[S]):
    """What the command line of a job accepts.

    Attributes:
        job: name of the job, as in `python -m jaxft.<job>`.
        presets: complete settings by name, each with the field `preset`; help shows the values of the first.
        choose_preset: gives the name of the preset for settings as they are asked for, whose `preset` may be "auto".
        ranges: allowed numbers by dotted name of the setting.
        check: raises `InputError` for settings that contradict each other.
        examples: arguments of two commands, for the help.
        required: names of settings that have no default.
        usual_flags: what other trainers call a setting -> its dotted name here, or the names to choose from.
        advice: what to do instead of a usual flag that no setting is like.
    """

    job: str
    presets: Mapping[str, S]
    choose_preset: Callable[[S], str]
    ranges: Mapping[str, Range]
    check: Callable[[S], None]
    examples: tuple[str, str]
    required: tuple[str, ...] = ()
    usual_flags: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    advice: Mapping[str, str] = field(default_factory=dict)

    def parse(self, arguments: Sequence[str] | None = None) -> S:
        """Reads a command line: the preset that it names, changed by its other flags.

        The arguments are read twice, first to learn which preset they mean, then to change the values of that preset.

        Args:
            arguments: of the command line; None takes those of this process.

        Returns:
            The settings; their `preset` is the one that was chosen.

        Raises:
            InputError: a value out of its range, flags that contradict each other, or a usual flag of several stages.
            SystemExit: with status 2, for a flag that does not exist, a missing one, or a value of another type.
        """
        arguments = sys.argv[1:] if arguments is None else arguments
        arguments = [_usual_flag(self, argument) for argument in arguments]
        start: Any = next(iter(self.presets.values()))
        asked = _read(self, arguments, replace(start, preset=type(start)().preset))
        name = self.choose_preset(asked)
        chosen: Any = self.presets[name]
        settings = replace(_read(self, arguments, replace(chosen, preset=asked.preset)), preset=name)
        check_ranges(settings, self.ranges)
        self.check(settings)
        return settings


def usual_flags(*stages: str) -> dict[str, str | tuple[str, ...]]:
    """The usual flags of every job, for the settings of its training stages.

    Examples:
        >>> usual_flags("train")["lr"], usual_flags("lm", "classifier")["epochs"]
        ('train.peak_rate', ('lm.epochs', 'classifier.epochs'))
    """
    names = {
        "learning-rate": "peak_rate",
        "lr": "peak_rate",
        "batch-size": "batch_size",
        "epochs": "epochs",
        "weight-decay": "weight_decay",
    }
    meant: dict[str, str | tuple[str, ...]] = {"output-dir": "out"}
    for usual, name in names.items():
        choices = tuple(f"{stage}.{name}" for stage in stages)
        meant[usual] = choices[0] if len(choices) == 1 else choices
    return meant


def _read(command: Command[Any], arguments: Sequence[str], default: Any) -> Any:
    prog = f"python -m jaxft.{command.job}"
    lines = [str(type(default).__doc__), "", "Examples:", *(f"  {prog} {example}" for example in command.examples)]
    default = replace(default, **dict.fromkeys(command.required, tyro.MISSING))
    return tyro.cli(type(default), prog=prog, description="\n".join(lines), args=arguments, default=default)


def _usual_flag(command: Command[Any], argument: str) -> str:
    """The argument, with a flag that other trainers have replaced by the one that is meant.

    Raises:
        InputError: several flags may be meant.
    """
    match = re.fullmatch(r"--([\w-]+)(=.*)?", argument, re.DOTALL)
    if match is None:
        return argument
    name, value = match[1].replace("_", "-"), match[2] or ""
    meant = command.usual_flags.get(name)
    if isinstance(meant, str):
        return flag(meant) + value
    if meant is None and name not in command.advice:
        return argument
    remedy = f"give {' or '.join(map(flag, meant))}" if meant else command.advice[name]
    raise InputError(f"--{match[1]} is not a flag of jaxft.{command.job}: {remedy}")
