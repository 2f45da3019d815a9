"""The parts of `summary.json` that all jobs share (versions, memory, times of stages), and a summary as a table."""

import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import jax

from jaxft.base.machine import usable_cores
from jaxft.training.progress import format_number
from jaxft.training.scores import PERCENT_SCORES, score_words

MOST_THRESHOLDS = 8
"""thresholds of labels that are printed"""


def environment(devices: int = 1) -> dict[str, Any]:
    """Versions, devices and processor cores, for a summary; the first call starts JAX's backend.

    Args:
        devices: how many have computed.

    Examples:
        >>> sorted(environment())
        ['cores', 'device', 'device_count', 'platform', 'system', 'versions']
    """
    versions = {"python": platform.python_version()}
    for package in ("jaxft", "jax", "jaxlib", "flax", "optax"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            versions[package] = "not installed"
    device = jax.devices()[0]
    return {
        "versions": versions,
        "platform": device.platform,
        "device": device.device_kind,
        "device_count": devices,
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def peak_memory_mb() -> dict[str, float]:
    """The largest memory so far, in megabytes (10^6 bytes).

    Returns:
        `process`, this process's resident set; `children`, that of its largest finished child, which counts the memory
        of this process as its own until it starts a program; and `device`, the allocations on the first accelerator,
        where its driver tells. Windows tells neither of the first two.
    """
    peak: dict[str, float] = {}
    with suppress(ImportError):  # on Windows, which has no such module
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        usage = {"process": resource.RUSAGE_SELF, "children": resource.RUSAGE_CHILDREN}
        peak = {name: round(resource.getrusage(who).ru_maxrss * unit / 1e6, 1) for name, who in usage.items()}
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage remembers the size of the program that started this one
        lines = status.read_text(encoding="utf-8").splitlines()
        for kilobytes in [line.split()[1] for line in lines if line.startswith("VmHWM")]:  # sandboxes may not tell it
            peak["process"] = round(int(kilobytes) * 1024 / 1e6, 1)
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        peak["device"] = round(stats["peak_bytes_in_use"] / 1e6, 1)
    return peak


def stage_row(name: str, seconds: float, tokens: int) -> dict[str, Any]:
    """A row of the summary's table of stages."""
    return {"name": name, "seconds": seconds, "tokens": tokens, "tokens_per_s": tokens / seconds if seconds else None}


def trained_row(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a stage of training, from the report of its result.

    It has `devices` and `rows_per_device` where the report has them, and `skipped_steps` if there were any.
    """
    shared = {key: report[key] for key in ("devices", "rows_per_device") if key in report}
    skipped = {"skipped_steps": report["skipped_steps"]} if report.get("skipped_steps") else {}
    return {**stage_row(name, report["seconds"], report["tokens"]), **shared, **skipped}


def summary_table(summary: Mapping[str, Any]) -> str:
    """A summary as text to print at the end of a run; what is absent is left out.

    Args:
        summary: the content of `summary.json`. Of its entries this reads `data` (`name`, `sizes`, `classes`,
            `transductive`), `language_model` (`valid_loss`, `perplexity`), `dev`, `test` and `baseline` (from
            `classification_scores`, or any other numbers by name; `baseline` with its `method`), `weights` (how they
            were chosen), `thresholds` (by label), `stages` (rows of `stage_row` and `trained_row`), `peak_memory_mb`
            (from that function) and `environment` (likewise).

    Examples:
        >>> from jaxft.training.scores import classification_scores
        >>> test = classification_scores([0, 0, 1, 1], [0, 1, 1, 1], ["neg", "pos"])
        >>> stages = [{"name": "classifier", "seconds": 83.2, "tokens": 41000, "tokens_per_s": 492.8}]
        >>> print(summary_table({"data": {"name": "demo", "classes": ["neg", "pos"]}, "test": test, "stages": stages}))
        data            demo
        test            n 4, accuracy 75.00 % (95 % interval 30.06 to 95.44), macro-F1 73.33 %
        <BLANKLINE>
        true \\ predicted  neg  pos
        neg                 1    1
        pos                 0    2
        <BLANKLINE>
        stage       time  tokens  tokens/s
        classifier  1:23  41,000       493
        total       1:23
    """
    blocks = [_overview(summary)]
    test, classes = summary.get("test", {}), summary.get("data", {}).get("classes", [])
    if "confusion_matrix" in test and len(classes) <= 10:  # a wider matrix is for the plot
        head = ["true \\ predicted", *classes]
        blocks.append(
            _columns([head, *([name, *row] for name, row in zip(classes, test["confusion_matrix"], strict=True))])
        )
    elif "per_class" in test:
        rows = [[r["class"], *(f"{100 * r[k]:.2f}" for k in PERCENT_SCORES), r["support"]] for r in test["per_class"]]
        blocks.append(_columns([["test", *(f"{k} %" for k in PERCENT_SCORES), "support"], *rows]))
    if summary.get("stages"):
        rows = [[r["name"], _clock(r["seconds"]), r.get("tokens"), r.get("tokens_per_s")] for r in summary["stages"]]
        rows.append(["total", _clock(sum(r["seconds"] for r in summary["stages"])), None, None])
        blocks.append(_columns([["stage", "time", "tokens", "tokens/s"], *rows]))
        blocks += _skipped_steps(summary["stages"])
    return "\n\n".join(blocks)


def _skipped_steps(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """At most one line, which names the stages that skipped steps."""
    skipped = [f"{stage['name']} {stage['skipped_steps']:,}" for stage in stages if stage.get("skipped_steps")]
    return [f"steps skipped, because their gradient was not finite: {', '.join(skipped)}"] if skipped else []


def _overview(summary: Mapping[str, Any]) -> str:
    rows: list[tuple[str, str]] = []
    if data := summary.get("data"):
        sizes = ", ".join(f"{count:,} {name}" for name, count in data.get("sizes", {}).items() if count)
        note = "the language model has read the test texts" if data.get("transductive") else ""
        rows.append(("data", "; ".join(filter(None, [data.get("name", ""), sizes, note]))))
    rows += [
        (name.replace("_", " "), _scores(summary[name]))
        for name in summary
        if name.startswith(("language_model", "dev", "test"))
    ]
    if weights := summary.get("weights"):
        rows.append(("weights kept", weights))
    if thresholds := summary.get("thresholds"):
        shown = [f"{label} {value:.2f}" for label, value in islice(thresholds.items(), MOST_THRESHOLDS)]
        more = [f"{len(thresholds) - MOST_THRESHOLDS:,} more"] * (len(thresholds) > MOST_THRESHOLDS)
        rows.append(("thresholds", ", ".join([*shown, *more])))
    if baseline := summary.get("baseline"):
        rows.append(("baseline", f"{baseline['method']}: {_scores(baseline) or 'no text has a word'}"))
    if peak := summary.get("peak_memory_mb"):
        parts = {
            "process": "{:,.0f} MB",
            "children": "{:,.0f} MB in a worker process",
            "device": "{:,.0f} MB on the device",
        }
        rows.append(("peak memory", ", ".join(parts[name].format(peak[name]) for name in parts if peak.get(name))))
    if machine := summary.get("environment"):
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        products = f", matrix products in {machine['precision']}" if "precision" in machine else ""
        hardware = f"{machine['device_count']} x {machine['device']}, {machine['cores']} cores{products}"
        rows.append(("run on", f"{hardware}; {versions}"))
    width = max(16, 2 + max((len(name) for name, _ in rows), default=0))
    return "\n".join(f"{name:<{width}}{text}" for name, text in rows)


def _scores(numbers: Mapping[str, Any]) -> str:
    """One line of whatever numbers a job reports; shares of right answers in per cent, with their interval."""
    parts = []
    for name, value in numbers.items():
        if name == "accuracy":
            interval = numbers.get("accuracy_interval")
            interval_text = f" (95 % interval {100 * interval[0]:.2f} to {100 * interval[1]:.2f})" if interval else ""
            parts.append(f"accuracy {100 * value:.2f} %{interval_text}")
        elif name.split("_")[-1] in PERCENT_SCORES:
            parts.append(f"{score_words(name)} {100 * value:.2f} %")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            parts.append(f"{score_words(name)} {format_number(value)}")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    """As 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _columns(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of cells as aligned text, the first column to the left and numbers to the right; None is an empty cell."""
    cells = [["" if c is None else c if isinstance(c, str) else f"{c:,.0f}" for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))] for row in cells
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)
