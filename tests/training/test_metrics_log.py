"""A log survives kills and resumes."""

from pathlib import Path

import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxft.errors import InputError
from jaxft.training.metrics_log import MetricsLog, read_metrics, truncate_metrics


def write_steps(path: Path, steps: range) -> list[int]:
    """Logs a line per step; the size of the log before each."""
    sizes = []
    with MetricsLog(path) as log:
        for step in steps:
            sizes.append(log.size())
            log.write("lm", step, loss=1 / (step + 1), phase="tête")
    return sizes


@settings(deadline=None, max_examples=50)
@given(checkpoint=st.integers(0, 9), lost=st.integers(0, 60), extra=st.integers(0, 5))
def test_the_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path_factory, checkpoint, lost, extra):
    folder = tmp_path_factory.mktemp("log")
    write_steps(folder / "whole", range(10))
    sizes = write_steps(folder / "resumed", range(min(checkpoint + 1 + extra, 10)))
    content = (folder / "resumed").read_bytes()  # the kill may come in the middle of a line
    (folder / "resumed").write_bytes(content[: max(sizes[checkpoint], len(content) - lost)])
    truncate_metrics(folder / "resumed", sizes[checkpoint])
    write_steps(folder / "resumed", range(checkpoint, 10))
    assert (folder / "resumed").read_bytes() == (folder / "whole").read_bytes()


def test_a_log_that_is_not_the_checkpoints_own_is_refused(tmp_path):
    truncate_metrics(tmp_path / "none", 0)
    write_steps(tmp_path / "log", range(2))
    with pytest.raises(InputError, match="put back the whole folder of the run"):
        truncate_metrics(tmp_path / "log", 10_000)
    with pytest.raises(InputError, match="put back the whole folder of the run"):
        truncate_metrics(tmp_path / "none", 1)


def test_reading_passes_over_half_a_last_line_only(tmp_path):
    (tmp_path / "log").write_text('{"stage": "lm", "step": 1}\n{"stage": "lm", "st')
    assert read_metrics(tmp_path / "log") == [{"stage": "lm", "step": 1}]
    (tmp_path / "log").write_text('{"stage": "lm", "step": 1}\nnonsense\n{"stage": "lm", "step": 2}\n')
    with pytest.raises(InputError, match="log line 2 is not JSON"):
        read_metrics(tmp_path / "log")
    with pytest.raises(InputError, match="there is no metrics log"):
        read_metrics(tmp_path / "none")


def test_every_line_can_be_read_at_once(tmp_path):
    with MetricsLog(tmp_path / "log") as log:
        log.write("lm", 7, loss=jnp.float32(jnp.nan))
        assert read_metrics(tmp_path / "log") == [{"stage": "lm", "step": 7, "loss": None}]
