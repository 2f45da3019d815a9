"""Progress is one bar in a terminal and a few lines elsewhere."""

import io

from jaxft.training.progress import progress_bar, show


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_outside_a_terminal_progress_is_a_few_plain_lines(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    with progress_bar("classifier", total=30_000, initial=10_000) as bar:
        for _ in range(20_000):
            show(bar, loss=0.25, tokens_per_s=12345.6)
            bar.update()
        bar.write("epoch 1: accuracy 0.9", file=bar.fp)
    text = stderr.getvalue()
    lines = text.splitlines()
    assert len(lines) <= 4
    assert "\r" not in text
    assert lines[0].startswith("classifier: 10000/30000 steps")
    assert "epoch 1: accuracy 0.9" in lines
    assert lines[-1].startswith("classifier: 30000/30000 steps")
    assert lines[-1].endswith("loss=0.25, tokens_per_s=12,346")


def test_in_a_terminal_progress_is_one_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("lm", total=10) as bar:
        bar.update(10)
    assert "\r" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
