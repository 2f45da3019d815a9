"""The pictures of a run: training curves, learning rates over the plan, confusion matrix, comparison.

Matplotlib loads inside the functions, so importing this module is cheap. Figures are drawn without pyplot, so they
depend neither on a display nor on the settings of a notebook. Colours are those of Okabe & Ito, which readers with any
colour vision can tell apart; groups that have an order get an ordered scale.
"""

import io
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxft.base.files import replacing, writing
from jaxft.optim.phases import Plan, learning_rates
from jaxft.training.scores import PERCENT_SCORES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6b6b6b"


MAX_READABLE = 30
"""largest number of classes of a confusion matrix whose names and counts are written"""


def plot_training(metrics: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draws the loss of every stage over its steps, and below it what else was measured on held-out data.

    Args:
        metrics: the lines of a metrics log (`read_metrics`): those with `split` are evaluations, the others training.
            `loss` is drawn for both (of training, `cross_entropy` where a line has it), each further score of an
            evaluation in a panel of its own, and where `phase` changes, a boundary with the phase's name.

    Raises:
        ValueError: no line has a loss.
    """
    stages = {
        stage: [m for m in metrics if m["stage"] == stage] for stage in dict.fromkeys(m["stage"] for m in metrics)
    }
    stages = {stage: lines for stage, lines in stages.items() if any("loss" in m for m in lines)}
    if not stages:
        raise ValueError("the metrics have no loss: give lines with the key 'loss'")
    scores = {stage: _scores(lines) for stage, lines in stages.items()}
    rows = 1 + max(map(len, scores.values()))
    figure = _figure(5.6 * len(stages), 0.6 + 2.6 * rows)
    with _styled():
        grid = figure.subplots(rows, len(stages), squeeze=False)
        pad = 22 if any(map(_phases, stages.values())) else 6  # room for the names of phases
        for column, (stage, lines) in enumerate(stages.items()):
            _draw_curve(grid[0, column], lines, "loss", _loss_label(scores[stage]))
            grid[0, column].set_title(stage.replace("_", " "), pad=pad)
            _name_spans(grid[0, column], _phases(lines), max(m["step"] for m in lines) + 1)
            for row, score in enumerate(scores[stage], start=1):
                _draw_curve(grid[row, column], lines, score, score.replace("_", " ") + " (%)" * _is_share(score))
            for axes in grid[1 + len(scores[stage]) :, column]:
                axes.remove()
            grid[len(scores[stage]), column].set_xlabel("step of the stage")
    return figure


def plot_learning_rates(curves: Mapping[str, Any], boundaries: Sequence[tuple[int, str]]) -> "Figure":
    """Draws the learning rate of every group over a whole plan.

    Args:
        curves: for every group, bottom to top, its rate at each step, (steps,) floats; nan while it is frozen.
        boundaries: the first step of every phase and its name, in order.

    Raises:
        ValueError: there are no curves, or their lengths differ.
    """
    import matplotlib

    rates = {group: np.asarray(curve, np.float64) for group, curve in curves.items()}
    alike: dict[bytes, list[str]] = {}  # groups of the same rates share a line, which would hide the others
    for group, curve in rates.items():
        alike.setdefault(curve.tobytes(), []).append(group)
    names = list(curves)
    rates = {_listed(groups, names): rates[groups[0]] for groups in alike.values()}
    if len({len(curve) for curve in rates.values()}) != 1:
        raise ValueError(
            "there are no curves, or they differ in length: give at least one, all with the same number of steps"
        )
    steps = len(next(iter(rates.values())))
    peaks = [np.nanmax(curve) for curve in rates.values() if np.isfinite(curve).any()]
    # Rates that are powers of a divisor lie on top of each other near zero on a linear axis.
    logarithmic = bool(peaks) and min(peaks) > 0 and max(peaks) / min(peaks) > 8
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.84, len(rates)))
    figure = _figure(10, 4.4)
    with _styled():
        axes = figure.subplots()
        # Lower groups over higher ones: they start later, so that where rates are equal each one's start is seen.
        for (group, curve), colour in reversed(list(zip(rates.items(), colours, strict=True))):
            axes.plot(np.where(curve > 0, curve, np.nan) if logarithmic else curve, color=colour, label=group)
        if logarithmic:
            _logarithmic(axes)
            axes.set_ylim(min(peaks) / 50, max(peaks) * 1.5)
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlim(0, max(steps - 1, 1))
        axes.set(xlabel="step", ylabel="learning rate (log scale)" if logarithmic else "learning rate")
        _name_spans(axes, boundaries, steps)
        for start, _ in boundaries[1:]:
            _draw_boundary(axes, start)
        figure.legend(loc="outside right center", title="group, top first\n(lower groups on top)")
    return figure


def plot_confusion(matrix: Any, classes: Sequence[str]) -> "Figure":
    """Draws a confusion matrix: counts, shaded by their share of the true class; of many classes the shades alone.

    Args:
        matrix: (C, C) counts, rows true and columns predicted.
        classes: (C,) names.

    Raises:
        ValueError: the matrix is not C x C.
    """
    counts = np.asarray(matrix)
    size = len(classes)
    if counts.shape != (size, size):
        raise ValueError(
            f"the matrix has the shape {counts.shape} for {size} classes: give {size} rows and {size} columns"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    readable = size <= MAX_READABLE
    side = max(3.0, 1.6 + 0.42 * min(size, MAX_READABLE))  # inches
    margin = 0.08 * max(map(len, classes)) * readable
    font = 12 if size <= 4 else 9 if size <= 12 else 7
    figure = _figure(side + margin + 1.4, side + 0.7 * margin)
    with _styled():
        axes = figure.subplots()
        axes.grid(False)
        image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
        for row, column in np.ndindex(counts.shape) if readable else ():
            if size > 12 and not counts[row, column]:
                continue  # zeros would drown the rest
            text = f"{counts[row, column]:,}"
            text += f"\n{100 * shares[row, column]:.1f} %" if size <= 6 else ""
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=font)
        upright = size <= 4 and max(map(len, classes)) <= 12
        if readable:
            axes.set_xticks(range(size), classes, rotation=0 if upright else 45, ha="center" if upright else "right")
            axes.set_yticks(range(size), classes)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="predicted class", ylabel="true class")
        figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class (%)").outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return figure


_NO_SCORES = {"stage", "step", "epoch", "phase", "split", "loss", "seconds"}


def plot_comparison(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draws the score of every row of a comparison: mean, standard deviation and the single repeats.

    Args:
        rows: as `jaxft.training.comparison.comparison_row` makes them.
    """
    figure = _figure(8, 1.4 + 0.45 * len(rows))
    with _styled():
        axes = figure.subplots()
        for place, row in enumerate(rows):
            axes.errorbar(row["mean"], place, xerr=row["sd"], fmt="o", color=BLUE, capsize=4, markersize=7)
            axes.plot(row["scores"], [place] * len(row["scores"]), "|", color=GREY, markersize=9)
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.invert_yaxis()
        count = len(rows[0]["scores"])
        shown = f": {count} repeats, mean and standard deviation" if count > 1 else ""
        axes.set(xlabel=f"{rows[0]['score']}{shown}")
    return figure


def _listed(groups: Sequence[str], names: Sequence[str]) -> str:
    """Groups that share a line, top first; where more than three follow one another the ends stand for all."""
    first = names.index(groups[0])
    if len(groups) > 3 and list(groups) == list(names[first : first + len(groups)]):
        return f"{groups[-1]} to {groups[0]}"
    return ", ".join(groups[::-1])


def _scores(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The numbers that evaluations report beside the loss, in their order."""
    evaluations = [m for m in lines if "split" in m]
    names = dict.fromkeys(name for m in evaluations for name in m if name not in _NO_SCORES)
    return [name for name in names if all(isinstance(m.get(name, 0), int | float) for m in evaluations)]


def _is_share(score: str) -> bool:
    return score.split("_")[-1] in ("accuracy", *PERCENT_SCORES)


def _loss_label(scores: Sequence[str]) -> str:
    """The axis label of a loss; beside these scores it is a cross-entropy."""
    return "loss (nats per token)" if "perplexity" in scores else "loss (nats)" if "accuracy" in scores else "loss"


def _draw_curve(axes: "Axes", lines: Sequence[Mapping[str, Any]], name: str, unit: str) -> None:
    scale = 100.0 if _is_share(name) else 1.0
    training = [m for m in lines if "split" not in m]
    # Held-out losses are plain cross-entropies, and training adds penalties and reports both.
    plain = "cross_entropy" if any("cross_entropy" in m for m in training) else "loss"
    train = _points(training, plain if name == "loss" else name)
    if name == "perplexity" and not len(train):
        train = _points(training, plain)
        train[:, 1] = np.exp(train[:, 1])
    held_out = _points((m for m in lines if "split" in m), name)
    if len(train):
        half_window = len(train) // 40
        if half_window:
            axes.plot(train[:, 0], scale * train[:, 1], color=BLUE, alpha=0.25, linewidth=0.9)
        label = "training, smoothed" if half_window else "training"
        axes.plot(train[:, 0], scale * _smooth(train[:, 1], half_window), color=BLUE, label=label)
    if len(held_out):
        axes.plot(held_out[:, 0], scale * held_out[:, 1], color=ORANGE, marker="o", markersize=4.5, label="held out")
    if name == "perplexity":
        _logarithmic(axes)
    axes.set_ylabel(unit)
    axes.set_xlim(left=0)
    axes.legend(loc="best")
    for start, _ in _phases(lines)[1:]:
        _draw_boundary(axes, start)


def _logarithmic(axes: "Axes") -> None:
    """A logarithmic axis whose numbers are plain text, since the usual ones are formulas, which `_styled` turns off."""
    from matplotlib.ticker import LogFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))


def _points(lines: Iterable[Mapping[str, Any]], name: str) -> np.ndarray:
    """Steps and values of one number, (N, 2); what was not finite is null in the log and left out here."""
    return np.array([(m["step"], m[name]) for m in lines if m.get(name) is not None], np.float64).reshape(-1, 2)


def _smooth(values: np.ndarray, half_window: int) -> np.ndarray:
    """A centred moving average, its window shorter at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half_window, 0)
    high = np.minimum(np.arange(len(values)) + half_window + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _phases(lines: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """First step and name of each phase; none where a stage has only one."""
    runs = groupby((m for m in lines if "phase" in m), key=lambda m: m["phase"])
    phases = [(next(group)["step"], str(name)) for name, group in runs]
    return phases if len(phases) > 1 else []


def _draw_boundary(axes: "Axes", step: int) -> None:
    axes.axvline(step, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)


def _name_spans(axes: "Axes", starts: Sequence[tuple[int, str]], end: int) -> None:
    """Writes the name of each phase above its span."""
    if not starts:
        return
    edges = [start for start, _ in starts] + [end]
    names = axes.secondary_xaxis("top")
    names.set_xticks([(a + b) / 2 for a, b in pairwise(edges)], [name for _, name in starts])
    # A name as wide as its span, at about 90 characters to the width of a figure, would run into its neighbour.
    crowded = any(len(name) * end > 90 * (b - a) for (_, name), (a, b) in zip(starts, pairwise(edges), strict=True))
    names.tick_params(length=0, labelsize=8, labelcolor=GREY, labelrotation=25 if crowded else 0)
    for text in names.get_xticklabels():
        text.set_horizontalalignment("left" if crowded else "center")
    names.spines["top"].set_visible(False)


def plot_plan(plan: Plan, steps_per_epoch: int) -> "Figure":
    """Draws the learning rates of a plan, with the names of its phases."""
    starts = np.cumsum([0, *(phase.epochs * steps_per_epoch for phase in plan[:-1])])
    boundaries = [(int(start), phase.name) for start, phase in zip(starts, plan, strict=True)]
    return plot_learning_rates(learning_rates(plan, steps_per_epoch), boundaries)


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Writes a figure as a PNG file in one step; its folder is made.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        file.write(_png(figure))


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    class Drawing(Figure):
        """A figure that a notebook shows, without pyplot."""

        def _repr_png_(self) -> bytes:
            return _png(self)

    return Drawing(figsize=(width, height), layout="constrained")


def _png(figure: "Figure") -> bytes:
    content = io.BytesIO()
    with _styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # no font of this machine has it, which is no error
        figure.savefig(content)
    return content.getvalue()


FALLBACK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic"),
    *("SimHei", "WenQuanYi Zen Hei", "Noto Sans Thai", "Noto Sans Devanagari", "Arial Unicode MS"),
)
"""fonts for the scripts that Matplotlib's own font lacks; those that the machine has are used"""


def _styled() -> AbstractContextManager[None]:
    """The style of every figure while it is drawn and saved; the caller's settings stay as they are."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return matplotlib.rc_context(
        {
            "font.family": ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)],
            "font.size": 10,
            "text.parse_math": False,  # a class may be called $a_$
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "axes.axisbelow": True,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "savefig.dpi": 150,
        }
    )
