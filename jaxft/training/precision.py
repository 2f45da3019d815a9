"""The precision that `--precision auto` stands for: bfloat16 products where the hardware multiplies it faster."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxft.training.run_folder import read_run_config
from jaxft.training.settings import Precision

PROCESSOR_FLAGS = {"avx512_bf16", "amx_bf16"}
"""what Linux calls the instructions of a processor that multiply bfloat16"""
LEAST_COMPUTE_CAPABILITY = 8.0
"""of the NVIDIA GPUs that multiply bfloat16"""


def multiplies_bfloat16() -> bool:
    """Whether the hardware has instructions that multiply bfloat16, as TPUs, most GPUs and newer processors have.

    On processors without them such a product takes longer than one of float32.
    """
    if jax.default_backend() != "cpu":
        capability = getattr(jax.devices()[0], "compute_capability", None)
        return capability is None or float(capability) >= LEAST_COMPUTE_CAPABILITY
    with suppress(OSError):
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return flags is not None and not PROCESSOR_FLAGS.isdisjoint(flags[1].split())
    return False


def chosen_precision(precision: Precision) -> Any:
    """The precision of the products: the given one, and in place of "auto" that of this machine.

    Examples:
        >>> chosen_precision("f32")
        'f32'
    """
    if precision != "auto":
        return precision
    return "bf16" if multiplies_bfloat16() else "f32"


def with_chosen_precision(settings: Any) -> Any:
    """The settings of a job with a precision in place of "auto"; a run that is resumed keeps its own.

    Raises:
        InputError: the config.json of the run holds no settings.
    """
    if settings.precision != "auto":
        return settings
    has_begun = settings.resume and (settings.out / "config.json").exists()
    kept = read_run_config(settings.out).get("precision") if has_begun else None
    return replace(settings, precision=kept or chosen_precision("auto"))


def describe_precision(precision: str) -> str:
    """The line that a run prints of what "auto" stands for.

    Examples:
        >>> describe_precision("f32")
        'precision: f32, because this machine has no instructions that multiply bfloat16'
    """
    if precision == "f32":
        return "precision: f32, because this machine has no instructions that multiply bfloat16"
    return "precision: bf16, which this machine multiplies faster than float32 (--precision f32 for exact products)"
