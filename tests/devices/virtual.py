"""Programs in processes with virtual devices, which are threads of one CPU."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxft.base.files import cache_folder

ROOT = Path(__file__).parents[2]


def environment(devices: int, optimized: bool = False) -> dict[str, str]:
    """The environment of a process with so many virtual devices; `optimized` compiles as a user's process does."""
    return {
        **os.environ,
        "XLA_FLAGS": "" if optimized else os.environ.get("XLA_FLAGS", ""),
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0" if optimized else os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "0"),
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder() / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "PYTHONPATH": str(ROOT),
    }


def command(job: str, *flags: str, devices: int, optimized: bool = False) -> subprocess.CompletedProcess[str]:
    """The command of a job with so many virtual devices."""
    return _run(f"jaxft.{job}", flags, environment(devices, optimized))


def _run(module: str, arguments: Sequence[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *arguments], env=env, cwd=ROOT, capture_output=True, text=True)


def result_of(program: str, *arguments: str, devices: int, optimized: bool = False) -> Any:
    """What a program in `tests/devices/programs` prints last, as JSON."""
    ended = _run(f"tests.devices.programs.{program}", arguments, environment(devices, optimized))
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout.splitlines()[-1])
