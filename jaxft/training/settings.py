"""Settings that every training job has, and the check that each number is in its range. Imports nothing heavy."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from jaxft.base.limits import FLOAT32_MAX, FLOAT32_TINY, INT32_MAX
from jaxft.errors import InputError

Metric = Literal["accuracy", "macro-f1", "weighted-f1", "mcc", "roc-auc", "log-loss"]
"""scores of predicted classes that can choose among weights"""


Precision = Literal["auto", "f32", "bf16"]
Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that every training job has; the settings of a job inherit them."""

    out: Path = Path("runs/run")
    """folder of the run; must be new or empty, unless --resume is given"""
    resume: bool = False
    """continue the run in --out where it stopped"""
    precision: Precision = "auto"
    """operands of matrix products: f32, bf16 (weights and sums stay f32), or auto: bf16 where the hardware multiplies
    it faster, else f32; a resumed run keeps its own"""
    seed: int = 0
    """seed of splits, initial weights, batch order and dropout"""
    log_every: int = 20
    """steps between two lines of metrics.jsonl"""
    checkpoint_minutes: float = 5.0
    """minutes between two checkpoints"""
    keep_checkpoints: int = 2
    """checkpoints to keep; where the newest is damaged, --resume goes on from the one before"""
    track: tuple[Tracker, ...] = ()
    """also log to these trackers: tensorboard (in the folder of the run), wandb, trackio, mlflow"""
    devices: Literal["all"] | int = "all"
    """number of devices that share every batch, or all that there are, a CPU being one; batch sizes are those of the
    whole batch"""
    coordinator: str | None = None
    """address and port of the first of several processes that share the job, such as 10.0.0.1:1234; by default that of
    JAX_COORDINATOR_ADDRESS, or of Slurm or MPI, if any"""
    processes: int | None = None
    """number of the processes, with --coordinator; by default that of JAX_NUM_PROCESSES"""
    process_id: int | None = None
    """number of this process, from 0, with --coordinator; by default that of JAX_PROCESS_ID"""
    dry_run: bool = False
    """print the settings, the data and the plan, and train nothing"""


DEV_FRACTION = 0.1
MIN_DEV_TEXTS = 50
"""the fewest texts by which weights are chosen; fewer choose by chance"""


def dev_share(fraction: float | None, texts: int) -> float:
    """The share of so many labelled texts to hold out as dev; 0 for none.

    Args:
        fraction: the wanted share; None takes `DEV_FRACTION`, or none where that is too few texts to choose by.
        texts: number of labelled texts.

    Examples:
        >>> dev_share(None, 1000), dev_share(None, 100), dev_share(0.2, 100)
        (0.1, 0.0, 0.2)
    """
    if fraction is not None:
        return fraction
    return DEV_FRACTION if round(DEV_FRACTION * texts) >= MIN_DEV_TEXTS else 0.0


NO_EFFECT_ON_RESULT = (
    *("out", "resume", "dry_run", "checkpoint_minutes", "keep_checkpoints", "track"),
    *("devices", "coordinator", "processes", "process_id"),
)
"""settings that do not change the result, so that a resumed run may have others"""

Range = tuple[Callable[[Any], bool], str]
"""whether a number is allowed, and the allowed numbers in words"""
AT_LEAST_1: Range = (lambda x: x >= 1, "at least 1")
AT_LEAST_0: Range = (lambda x: 0 <= x < float("inf"), "at least 0")
WIDTH: Range = (lambda x: 1 <= x <= 2**16, f"from 1 to {2**16:,}")
"""sizes of layers; XLA ends the process where a product of sizes overflows"""
ROWS: Range = (lambda x: 1 <= x <= 2**20, f"from 1 to {2**20:,}")
"""numbers of rows and columns of a batch"""
POSITIVE: Range = (lambda x: 0 < x < float("inf"), "above 0")
BELOW_1: Range = (lambda x: 0 <= x < 1, "from 0 to below 1")
UP_TO_1: Range = (lambda x: 0 < x <= 1, "above 0 and at most 1")
FROM_0_TO_1: Range = (lambda x: 0 <= x <= 1, "from 0 to 1")
FRACTION: Range = (lambda x: 0 < x < 1, "between 0 and 1")

RUN_RANGES: dict[str, Range] = {
    "seed": (lambda x: 0 <= x < 2**32, f"from 0 to {2**32 - 1:,}"),
    "log_every": AT_LEAST_1,
    "checkpoint_minutes": AT_LEAST_0,
    "keep_checkpoints": AT_LEAST_1,
    "devices": (lambda x: x == "all" or x >= 1, "at least 1, or all"),
    "processes": AT_LEAST_1,
    "process_id": AT_LEAST_0,
}
"""ranges of `RunSettings`"""


def ranges_of(stage: str, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges of a stage's settings under their dotted names.

    Examples:
        >>> list(ranges_of("lm", {"epochs": AT_LEAST_0}))
        ['lm.epochs']
    """
    return {f"{stage}.{name}": allowed for name, allowed in ranges.items()}


def check_ranges(settings: Any, ranges: Mapping[str, Range]) -> None:
    """Refuses a number that is out of its range; None is allowed everywhere.

    Args:
        settings: a dataclass, nested ones in it.
        ranges: by dotted name.

    Raises:
        InputError: naming the flag and the range.

    Examples:
        >>> check_ranges(RunSettings(seed=-1), RUN_RANGES)
        Traceback (most recent call last):
        jaxft.errors.InputError: --seed -1 is out of its range: give a number from 0 to 4,294,967,295
    """
    values = flatten(asdict(settings))
    for name, (allows, words) in ranges.items():
        if values.get(name) is not None and not allows(values[name]):
            raise InputError(f"{flag(name)} {values[name]} is out of its range: give a number {words}")
    for name, value in values.items():
        _check_size(name, value)


def _check_size(name: str, value: Any) -> None:
    """Refuses a number that float32 cannot hold, or a whole number that no count reaches."""
    if isinstance(value, float) and value and not FLOAT32_TINY <= abs(value) <= FLOAT32_MAX:
        raise InputError(f"{flag(name)} {value} is no number that 32 bits hold: give 0, or 1.2e-38 to 3.4e38")
    if isinstance(value, int) and name != "seed" and abs(value) > INT32_MAX:
        raise InputError(f"{flag(name)} {value} is out of its range: give at most {INT32_MAX:,}")


def enough_epochs(epochs: int, min_steps: int, steps_per_epoch: int) -> int:
    """The epochs, or as many as reach `min_steps` steps where they give fewer.

    Examples:
        >>> enough_epochs(3, 100, steps_per_epoch=200), enough_epochs(3, 100, steps_per_epoch=7)
        (3, 15)
    """
    return max(epochs, -(-min_steps // steps_per_epoch))


def check_steps(epochs: int, steps_per_epoch: int, *names: str) -> None:
    """Refuses more steps than 32 bits count.

    Args:
        epochs: of all phases.
        steps_per_epoch: steps of training in each.
        names: the settings that ask for the epochs.

    Raises:
        InputError: naming the flags.

    Examples:
        >>> check_steps(2_000_000_000, 2, "lm.epochs")
        Traceback (most recent call last):
        jaxft.errors.InputError: 4,000,000,000 steps are more than the 2,147,483,647 that are counted: lower --lm.epochs
    """
    if epochs * steps_per_epoch > INT32_MAX:
        raise InputError(
            f"{epochs * steps_per_epoch:,} steps are more than the {INT32_MAX:,} that are counted: lower "
            f"{' or '.join(map(flag, names))}"
        )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names.

    Examples:
        >>> flatten({"seed": 0, "lm": {"epochs": 3}})
        {'seed': 0, 'lm.epochs': 3}
    """
    flat = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def flag(name: str) -> str:
    """The command line's spelling of a dotted name.

    Examples:
        >>> flag("lm.peak_rate")
        '--lm.peak-rate'
    """
    return "--" + name.replace("_", "-")
