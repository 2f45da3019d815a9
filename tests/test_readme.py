"""The Python of README.md runs as it stands."""

import re
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pytest

from jaxft import ulmfit

SMALL = {
    "model": {"embedding_size": 8, "hidden_size": 8, "num_layers": 1},
    "lm": {"epochs": 0},
    "text": {"min_count": 1},
    "classifier": {"epochs": 1, "phase_steps": 4, "max_length": 16},
}
"""settings that make the model of README.md quick to train"""
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = {"fit" if "fit(" in block else "loop": block for block in re.findall(r"```python\n(.*?)```", README, re.S)}


@pytest.mark.parametrize("name", ["loop", pytest.param("fit", marks=pytest.mark.slow)])
def test_a_block_of_python_runs(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    rows = [f"The film was {word} and number {i}.,{word}" for i in range(50) for word in ("lovely", "dull")]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ulmfit, "fit", partial(ulmfit.fit, **SMALL))
    mpl.use("agg")
    exec(compile(BLOCKS[name], "README.md", "exec"), {})
    if name == "fit":
        assert (tmp_path / "runs/reviews/model/README.md").is_file()
        assert capsys.readouterr().out.splitlines()[-1] in ("lovely", "dull")


def test_from_no_model_to_one_that_is_loaded_takes_ten_lines():
    assert len([line for line in BLOCKS["fit"].splitlines() if line]) == 10
