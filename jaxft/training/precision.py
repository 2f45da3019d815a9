"""The precision that `--precision auto` stands for: bfloat16 where the hardware multiplies it faster, else float32."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxft.errors import InputError
from jaxft.training.run_folder import read_run_config
from jaxft.training.settings import Precision

PROCESSOR_FLAGS = {"avx512_bf16", "amx_bf16"}
"""what Linux calls the instructions of a processor that multiply bfloat16"""
LEAST_COMPUTE_CAPABILITY = 8.0
"""of the NVIDIA GPUs that multiply bfloat16"""
REASONS = {
    "f32": "because no instructions for bfloat16 were found",
    "bf16": "which this hardware multiplies faster (--precision f32 turns it off)",
}
"""why "auto" stands for a precision"""


def multiplies_bfloat16() -> bool:
    """Whether the hardware has instructions that multiply bfloat16, as TPUs, most GPUs and newer processors have.

    On processors without them such a product takes longer than one of float32. Of processors, only those of Linux tell.
    """
    if jax.default_backend() != "cpu":
        with suppress(AttributeError, ValueError):  # AMD's GPUs have names in its place, and TPUs have none
            return float(jax.devices()[0].compute_capability) >= LEAST_COMPUTE_CAPABILITY
        return True
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


def choose_precision(settings: Any, has_begun: bool) -> tuple[Any, list[str]]:
    """The settings of a job with a precision in place of "auto", and a line that says which and why, if it was "auto".

    Args:
        settings: of the job.
        has_begun: whether the folder of the run holds its config.json, whose precision the run keeps.

    Raises:
        InputError: the config.json of the run holds no settings, or another precision.
    """
    if settings.precision != "auto":
        return settings, []
    if has_begun:
        precision = read_run_config(settings.out).get("precision")
        if precision not in REASONS:
            raise InputError(
                f"{settings.out / 'config.json'} holds the precision {precision!r}: put back an intact copy, or start "
                "the run again"
            )
        reason = "as the run began"
    else:
        precision = chosen_precision("auto")
        reason = REASONS[precision]
    return replace(settings, precision=precision), [f"precision: {precision}, {reason}"]
