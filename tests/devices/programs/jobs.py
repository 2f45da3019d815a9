"""Runs a job with several numbers of devices, in a folder for each, and prints the entries of their summaries.

Its arguments are a folder, the numbers with commas between them, the name of the job and its flags. A number such as
`4:resumed` names a folder too; `stop=N` after it stops the run with SIGTERM in step N.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxft.errors import Stopped
from jaxft.training.run import Run


class Stopping(Run):
    """A run that asks itself to stop in a step."""

    step: int | None = None

    def write(self, stage: str, step: int, **values: Any) -> None:
        super().write(stage, step, **values)
        if step == self.step and "split" not in values:
            os.kill(os.getpid(), signal.SIGTERM)


def run(job: str, devices: str, flags: list[str], stop: int | None = None) -> dict[str, Any]:
    settings = import_module(f"jaxft.{job}.{'presets' if job == 'ulmfit' else 'settings'}").COMMAND.parse(
        [*flags, "--devices", devices, "--log-every", "1"]
    )
    Stopping.step = stop
    with suppress(Stopped):
        return import_module(f"jaxft.{job}.job").JOB.run(settings)
    return {}


if __name__ == "__main__":
    folder, runs, job, *flags = sys.argv[1:]
    import_module("jaxft.training.job").__dict__["Run"] = Stopping
    summaries = {}
    for name in runs.split(","):
        where, _, stop = name.partition("=")
        devices = where.partition(":")[0]
        out = Path(folder) / where
        resume = ["--resume"] if out.exists() else []
        summaries[where] = run(job, devices, [*flags, "--out", str(out), *resume], int(stop) if stop else None)
    print(json.dumps({name: summary.get("stages", []) for name, summary in summaries.items()}))
