"""Every notebook runs from top to bottom on small data, in a folder of its own, and stores what it printed and drew."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import jaxft

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_stores_its_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    if path.stem == "finetune" and "JAXFT_MINILM" not in os.environ:
        pytest.skip("JAXFT_MINILM names the folder of the MiniLM checkpoint")
    if path.stem in ("finetune", "pretrain", "ulmfit"):  # take so many or so large steps that optimizing them pays
        monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS", raising=False)
        monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=1")  # quicker to compile, as fast to run
    monkeypatch.setenv(
        "PYTHONPATH", str(Path(jaxft.__file__).parents[1])
    )  # the kernel tests the package these tests do
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
