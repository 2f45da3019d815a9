"""What several tests of fine-tuning read: a table of reviews, and a finished run on it."""

from pathlib import Path
from typing import Any

import pytest

from tests.finetune.toy import review, run_job, table


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> str:
    return table(tmp_path_factory.mktemp("data") / "reviews.csv", 400, review)


@pytest.fixture(scope="module")
def classified(
    tiny_checkpoint: Path, reviews: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder and the summary of a run."""
    out = tmp_path_factory.mktemp("runs") / "reviews"
    return out, run_job(tiny_checkpoint, reviews, out, "--train.epochs", "16")
