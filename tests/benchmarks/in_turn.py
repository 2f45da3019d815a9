"""Runs a benchmark and its peer in turn, each in a fresh Python, and prints their medians side by side.

Whatever else the machine does meets both, and the peak memory is that of one.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any


def compare(ours: Mapping[str, Sequence[str]], peer: Sequence[str] | None, rounds: int) -> None:
    """Prints a markdown table.

    Each of ours is run once before, uncounted, and leaves its program in the cache: the process that compiles it is
    slower to the end.

    Args:
        ours: commands by the name of their row; each prints a JSON object with `tokens_per_s` and `peak_mb`, and
            perhaps `share` of the rate of a large matrix product and that rate as `product_gflops`.
        peer: a command that prints "N tokens/s" and "peak N MB".
        rounds: how often each is run.
    """
    for command in ours.values():
        _output(command)
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name, command in ours.items():
            results.setdefault(name, []).append(json.loads(_output(command).splitlines()[-1]))
        if peer:
            answer = _output(peer)
            speed, peak = (float(re.findall(p, answer)[0]) for p in (r"(\d+) tokens/s", r"peak (\d+) MB"))
            results.setdefault("peer", []).append({"tokens_per_s": speed, "peak_mb": peak})
    print("| | tokens/s | of the peer's | peak MB | of the peer's | of the product rate | product GF/s |")
    print("|---" * 7 + "|")
    theirs = {name: median(run[name] for run in results["peer"]) for name in results["peer"][0]} if peer else {}
    for name, runs in results.items():
        middle = {key: median(run[key] for run in runs) for key in runs[0]}
        ratios = {key: f"{middle[key] / theirs[key]:.2f}" if theirs else "" for key in ("tokens_per_s", "peak_mb")}
        share = f"{100 * middle['share']:.0f} % | {middle['product_gflops']:.0f}" if "share" in middle else " | "
        speed, peak = f"{middle['tokens_per_s']:,.0f}", f"{middle['peak_mb']:,.0f}"
        print(f"| {name} | {speed} | {ratios['tokens_per_s']} | {peak} | {ratios['peak_mb']} | {share} |")


def median_seconds(step: Callable[[Any, Any], tuple[Any, Any]], state: Any, batch: Any, steps: int) -> float:
    """The median of so many steps, after a first one that compiles; each is given the state of the one before."""
    import jax

    times = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        state, metrics = step(state, batch)
        jax.block_until_ready((state.params, metrics))
        times.append(time.perf_counter() - started)
    return median(times[1:])


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
