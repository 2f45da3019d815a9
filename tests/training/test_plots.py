"""Pictures are drawn for every shape of run, keep their texts inside, and leave matplotlib's settings alone."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from jaxft.training import plots
from jaxft.training.comparison import comparison_row


def metrics(stage: str, phases: list[str], **scores: float) -> list[dict]:
    lines = []
    for epoch, phase in enumerate(phases):
        for step in range(epoch * 50, epoch * 50 + 50, 5):
            lines.append({"stage": stage, "step": step, "phase": phase, "loss": 1 / (step + 10), "lr/head": 0.1})
        lines.append(
            {"stage": stage, "step": epoch * 50 + 50, "phase": phase, "split": "held-out", "loss": 0.1, **scores}
        )
    return lines


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that a test saves."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args, **kwargs) -> None:
        save(figure, *args, **kwargs)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def assert_nothing_is_cut_off(figure: Figure, path: Path) -> None:
    """No ink at the rim of the picture, save for the white margin."""
    pixels = image.imread(path)[..., :3]
    rim = np.concatenate(
        [
            pixels[:2].reshape(-1, 3),
            pixels[-2:].reshape(-1, 3),
            pixels[:, :2].reshape(-1, 3),
            pixels[:, -2:].reshape(-1, 3),
        ]
    )
    assert (rim > 0.98).all()
    assert figure.get_size_inches().max() < 20


def test_training_curves_of_both_stages(tmp_path, drawn):
    lines = metrics("lm", ["all"] * 3, perplexity=70.0) + metrics(
        "classifier", ["head", "+ lstm 1", "all"], accuracy=0.9
    )
    plots.save(plots.plot_training(lines), tmp_path / "new" / "training.png")
    (figure,) = drawn
    assert_nothing_is_cut_off(figure, tmp_path / "new" / "training.png")
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["loss (nats per token)", "loss (nats)", "perplexity", "accuracy (%)"]
    accuracy = figure.axes[-1]
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), [90.0] * 3)
    assert [line.get_xdata()[0] for line in accuracy.lines[1:]] == [50, 100], "a boundary where each phase begins"  # pyright: ignore


def test_penalties_and_losses_that_are_not_finite_are_left_out_of_the_curve(tmp_path, drawn):
    lines = metrics("lm", ["all"])
    for line in lines[:-1]:
        line["cross_entropy"] = line["loss"] - 0.01
    lines[3] |= {"loss": None, "cross_entropy": None}
    plots.save(plots.plot_training(lines), tmp_path / "t.png")
    curve = drawn[0].axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(np.asarray(curve), [line["cross_entropy"] for line in lines[:-1] if line["loss"]])


def test_a_regression_and_a_run_without_evaluations(tmp_path, drawn):
    plots.save(plots.plot_training(metrics("regression", ["all"], pearson=0.9)), tmp_path / "a.png")
    plots.save(plots.plot_training(metrics("regression", ["all"])[:4]), tmp_path / "b.png")
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["loss", "pearson"]
    with pytest.raises(ValueError, match="no loss"):
        plots.save(plots.plot_training([{"stage": "lm", "step": 0, "split": "test"}]), tmp_path / "c.png")


def test_learning_rates_far_apart_get_a_log_axis_and_near_ones_a_linear_one(tmp_path, drawn):
    shape = np.concatenate([np.linspace(0, 1, 10), np.linspace(1, 0.1, 90)])
    frozen = np.full(100, np.nan)
    curves = {f"layer {i}": np.concatenate([frozen, 0.01 * 2.6 ** (i - 4) * shape]) for i in range(4)}
    curves["head"] = 0.01 * np.concatenate([shape, shape])
    plots.save(plots.plot_learning_rates(curves, [(0, "head"), (100, "all")]), tmp_path / "log.png")
    plots.save(
        plots.plot_learning_rates({"body": 0.005 * shape, "head": 0.01 * shape}, [(0, "all")]), tmp_path / "linear.png"
    )
    assert [figure.axes[0].get_yscale() for figure in drawn] == ["log", "linear"]
    assert_nothing_is_cut_off(drawn[0], tmp_path / "log.png")
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["head", "layer 3", "layer 2", "layer 1", "layer 0"]
    plots.save(
        plots.plot_learning_rates({"a": shape, "b": 2 * shape, "c": shape}, [(0, "all")]), tmp_path / "alike.png"
    )
    assert [text.get_text() for text in drawn[2].legends[0].get_texts()] == ["b", "c, a"]
    many = {f"layer {i}": shape for i in range(12)} | {"head": 2 * shape}
    plots.save(plots.plot_learning_rates(many, [(0, "all")]), tmp_path / "many.png")
    assert [text.get_text() for text in drawn[3].legends[0].get_texts()] == ["head", "layer 11 to layer 0"]
    with pytest.raises(ValueError, match="same number of steps"):
        plots.save(plots.plot_learning_rates({"a": [0.1], "b": [0.1, 0.2]}, []), tmp_path / "x.png")


def test_confusion_matrix_of_very_many_classes_stays_small(tmp_path, drawn):
    plots.save(plots.plot_confusion(np.eye(400, dtype=int), [f"class {i}" for i in range(400)]), tmp_path / "c.png")
    assert max(drawn[0].get_size_inches()) < 20
    assert not drawn[0].axes[0].texts
    assert (tmp_path / "c.png").stat().st_size < 500_000


@pytest.mark.parametrize("size", [2, 5, pytest.param(20, marks=pytest.mark.slow)])
def test_confusion_matrix_of_any_size(tmp_path, drawn, size):
    matrix = np.full((size, size), 1000) + 9000 * np.eye(size, dtype=int)
    classes = ["a class with quite a long name", *(f"class {i}" for i in range(1, size))]
    plots.save(plots.plot_confusion(matrix, classes), tmp_path / "c.png")
    assert_nothing_is_cut_off(drawn[0], tmp_path / "c.png")
    texts = [text.get_text().split("\n")[0] for text in drawn[0].axes[0].texts]
    assert texts == [f"{count:,}" for count in matrix.ravel()]
    with pytest.raises(ValueError, match="classes"):
        plots.save(plots.plot_confusion(matrix, ["one"]), tmp_path / "c.png")


def test_a_class_that_never_occurs_is_drawn(tmp_path):
    plots.save(plots.plot_confusion([[3, 1], [0, 0]], ["neg", "pos"]), tmp_path / "c.png")


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_comparison_shows_mean_and_repeats_of_every_row(tmp_path, drawn, repeats):
    names = ["one rate for all layers", "+ slower lower layers", "+ $averaging$"]
    rows = [
        comparison_row(
            name, "dev rmse", [0.5 + 0.1 * place + 0.01 * repeat for repeat in range(repeats)], [1] * repeats
        )
        for place, name in enumerate(names)
    ]
    plots.save(plots.plot_comparison(rows), tmp_path / "new" / "c.png")
    assert_nothing_is_cut_off(drawn[0], tmp_path / "new" / "c.png")
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == names
    assert axes.yaxis_inverted(), "the first row on top"
    marks = [line for line in axes.lines if line.get_marker() == "|" and len(np.asarray(line.get_xdata())) == repeats]
    assert sorted(float(np.mean(line.get_xdata())) for line in marks[-3:]) == pytest.approx([r["mean"] for r in rows])
    assert axes.get_xlabel() == "dev rmse" + ": 3 repeats, mean and standard deviation" * (repeats == 3)


def test_the_callers_settings_stay(tmp_path):
    before = dict(matplotlib.rcParams)
    plots.save(plots.plot_confusion([[3, 1], [0, 2]], ["neg", "pos"]), tmp_path / "c.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_importing_the_reports_loads_neither_matplotlib_nor_scikit_learn():
    code = (
        "import sys, jaxft.training.plots, jaxft.training.progress, jaxft.training.summary; "
        "print([m for m in ('matplotlib', 'sklearn', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("limits", [(3.0, 900.0), (40.0, 95.0), (1e-6, 2e-3)])
def test_numbers_on_a_logarithmic_axis_are_plain_text(limits):
    with plots._styled():
        figure = plots._figure(4, 3)
        axes = figure.subplots()
        axes.plot(limits)
        plots._logarithmic(axes)
        figure.draw_without_rendering()
        ticks = [*axes.yaxis.get_ticklabels(), *axes.yaxis.get_ticklabels(minor=True)]
        inside = [t.get_text() for t in ticks if t.get_text() and limits[0] <= t.get_position()[1] <= limits[1]]
    assert inside
    assert all(float(text.replace("\N{MINUS SIGN}", "-")) >= limits[0] * 0.9 for text in inside)
