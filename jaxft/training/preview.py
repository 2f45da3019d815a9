"""What `--dry-run` prints: the settings, what was read, and the phases of every stage with their rates and steps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jaxft.base.files import to_json
from jaxft.optim.phases import Plan, format_plan

Plans = Mapping[str, tuple[Plan, int]]
"""the phases of each stage, and its steps per epoch"""


def preview(settings: Any, lines: Sequence[str], plans: Plans, seconds: Mapping[str, float] | None = None) -> str:
    """The text of a dry run.

    Args:
        settings: of the job.
        lines: what was read.
        plans: the phases of each stage, and its steps per epoch.
        seconds: estimated time of each stage, and of what else the job does; None prints no times.
    """
    blocks = [json.dumps(to_json(asdict(settings)), indent=2), "\n".join(lines)]
    for stage, (plan, steps_per_epoch) in plans.items():
        title = stage if seconds is None else f"{stage}: about {_clock(seconds[stage])}"
        blocks.append(f"{title}\n{format_plan(plan, steps_per_epoch)}")
    if seconds is not None:
        total = _clock(sum(seconds.values()))
        blocks.append(f"in total about {total} on this machine, and some seconds per phase for the first compilation")
    return "\n\n".join([*blocks, "nothing was trained"])


def _clock(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
