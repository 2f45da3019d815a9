"""Progress bars on standard error or in a notebook, and the numbers beside them."""

import sys

import jax
from tqdm import tqdm
from tqdm.auto import tqdm as automatic_tqdm


def in_notebook() -> bool:
    """Whether `tqdm.auto` draws its bars as widgets of a notebook."""
    return any(kind.__module__ == "tqdm.notebook" for kind in automatic_tqdm.__mro__)


def progress_bar(stage: str, total: int, initial: int = 0, unit: str = "step") -> tqdm:
    """A progress bar: a widget in a notebook, redrawn in a terminal, a plain line now and then in a file or a CI log.

    Call `bar.update()` per step and `show` for the numbers beside it; use it as a context manager.

    Args:
        stage: the name at its left.
        total: steps in the whole stage, those before a resume included.
        initial: steps already done, on resume.
        unit: what is counted.
    """
    if in_notebook():
        bar = automatic_tqdm(total=total, initial=initial, desc=stage, unit=unit)
        _, widget, _ = bar.container.children  # pyright: ignore[reportAttributeAccessIssue]
        widget.layout.min_width = "10em"  # the numbers at its right would leave it no room
        return bar
    terminal = sys.stderr.isatty()
    shown = sys.stderr if terminal else _Lines()
    return tqdm(
        total=total,
        initial=initial,
        desc=stage,
        unit=unit,
        file=shown if jax.process_index() == 0 else _Nothing(),
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 15.0,
        maxinterval=10.0 if terminal else 60.0,
        bar_format=None if terminal else "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed}<{remaining}{postfix}",
    )


def show(bar: tqdm, **values: float | str) -> None:
    """Puts numbers beside a bar, to be drawn at its next turn.

    Examples:
        >>> with progress_bar("classifier", total=10) as bar:
        ...     show(bar, loss=0.123456, lr=0.00004, tokens_per_s=51234.6)
        ...     bar.postfix
        'loss=0.1235, lr=4e-05, tokens_per_s=51,235'
    """
    texts = (f"{name}={value if isinstance(value, str) else format_number(value)}" for name, value in values.items())
    bar.set_postfix_str(", ".join(texts), refresh=False)


def format_number(value: float) -> str:
    """Four significant digits, and grouped thousands for whole numbers and from 10,000.

    Examples:
        >>> print(format_number(0.123456), format_number(51234.6), format_number(2500))
        0.1235 51,235 2,500
    """
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1e4 else f"{value:.4g}"


class _Nothing:
    """The bar of a process that is not the first."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass


class _Lines:
    """Standard error for a bar outside a terminal: each drawing is a line of its own, and none is repeated."""

    def __init__(self) -> None:
        self.last = ""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line and line != self.last:
            self.last = line
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()
