"""Every notebook runs from top to bottom on small data, in a folder of its own."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import jaxft

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    if path.stem == "finetune" and "JAXFT_MINILM" not in os.environ:
        pytest.skip("JAXFT_MINILM names the folder of the MiniLM checkpoint")
    monkeypatch.setenv(
        "PYTHONPATH", str(Path(jaxft.__file__).parents[1])
    )  # the kernel tests the package these tests do
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
