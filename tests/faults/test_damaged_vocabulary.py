"""A vocabulary that is damaged or lost while a run is stopped: `--resume` writes it anew, in every job."""

import importlib
from pathlib import Path

import pytest

import jaxft
from tests.test_fit import CASES

NAMES = ("vocabulary.json", "tokenizer.json", "tokenizer_config.json")


def vocabularies(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*.json") if path.name in NAMES}


@pytest.mark.slow
@pytest.mark.parametrize("job", CASES)
def test_a_damaged_or_lost_vocabulary_is_written_anew_on_resume(job, tmp_path, tiny_checkpoint):
    _, data, settings = CASES[job](tmp_path, tiny_checkpoint)
    fit = importlib.import_module(f"jaxft.{job}").fit
    run = tmp_path / "run"
    fit(data, out=run, **settings)
    written = vocabularies(run)
    assert written
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-9] + b"?"), Path.unlink):
        (run / "summary.json").unlink()
        stages = sorted(run.glob("stage-*"), key=lambda path: path.stat().st_mtime_ns)
        stages[-1].unlink()  # so that the run has still to train
        for path in written:
            damage(path)
        fit(data, out=run, resume=True, **settings)
        assert vocabularies(run) == written
        jaxft.load(run)
