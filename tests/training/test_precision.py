"""What `--precision auto` stands for: bfloat16 where the hardware multiplies it, and on resume what the run had."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from jaxft.base.files import write_json
from jaxft.errors import InputError
from jaxft.training import precision
from jaxft.training.precision import choose_precision, chosen_precision
from jaxft.training.settings import RunSettings

detect = precision.multiplies_bfloat16  # the tests replace it


@pytest.mark.parametrize(
    ("flags", "multiplies"),
    [("fpu avx2 avx512_bf16", True), ("fpu amx_bf16 amx_tile", True), ("fpu avx512f avx512_bf16x", False), ("", False)],
)
def test_a_processor_tells_by_its_flags(flags, multiplies, monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: avx512_bf16\n")
    assert detect() == multiplies


@pytest.mark.parametrize(
    ("capability", "multiplies"), [("7.5", False), ("8.0", True), ("12.0", True), ("gfx942", True), (None, True)]
)
def test_a_gpu_tells_by_its_compute_capability(capability, multiplies, monkeypatch):
    device = SimpleNamespace() if capability is None else SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert detect() == multiplies


def test_a_processor_that_tells_nothing_computes_in_float32(monkeypatch):
    def refuse(path):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert not detect()


@pytest.mark.parametrize("multiplies", [True, False])
def test_auto_is_what_the_hardware_multiplies_and_what_is_given_stays(multiplies, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: multiplies)
    assert chosen_precision("auto") == ("bf16" if multiplies else "f32")
    assert (chosen_precision("f32"), chosen_precision("bf16")) == ("f32", "bf16")


def test_a_resumed_run_keeps_the_precision_that_it_began_with(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    write_json(tmp_path / "config.json", {"precision": "bf16"})
    resumed = RunSettings(out=tmp_path)
    settings, lines = choose_precision(resumed, has_begun=True)
    assert (settings.precision, lines) == ("bf16", ["precision: bf16, as the run began"])
    settings, lines = choose_precision(resumed, has_begun=False)
    assert (settings.precision, lines) == ("f32", ["precision: f32, because no instructions for bfloat16 were found"])
    assert choose_precision(replace(resumed, precision="f32"), has_begun=True)[1] == []


def test_a_precision_that_is_none_is_refused_on_resume(tmp_path):
    write_json(tmp_path / "config.json", {"precision": "f16"})
    with pytest.raises(InputError, match=r"config\.json holds the precision 'f16': put back an intact copy"):
        choose_precision(RunSettings(out=tmp_path), has_begun=True)
