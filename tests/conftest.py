"""Strict settings for every test: no implicit dtype or rank promotion, and real data only where it is given."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that `JAXFT_DATA` names; the test is skipped where it is not set."""
    if not os.environ.get("JAXFT_DATA"):
        pytest.skip("JAXFT_DATA names no folder of real data")
    return Path(os.environ["JAXFT_DATA"])


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch) -> None:
    """Keeps the tests out of the user's own cache."""
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A BERT of two layers and 16 features without a head, and a tokenizer of 40 words."""
    from safetensors.numpy import load_file, save_file
    from transformers import BertTokenizer

    golden, folder = Path(__file__).parent / "golden/bert/bert", tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text((golden / "config.json").read_text())
    state = load_file(golden / "model.safetensors")
    base = {name: array for name, array in state.items() if not name.startswith("classifier")}
    save_file(base, folder / "model.safetensors", metadata={"format": "pt"})
    words = (
        "the a film was is good bad fine dull great poor i saw it and but not very so all of this one two three four"
    )
    words += " five six seven eight nine ten yes no"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split()]
    (folder / "vocab.txt").write_text("\n".join(tokens[:40]) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(str(folder))
    return folder
