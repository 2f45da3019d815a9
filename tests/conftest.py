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
