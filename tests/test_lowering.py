"""The programs of every job, with their first shapes, are lowered for GPUs and TPUs, which takes no accelerator."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest

from jaxft.models import awd_lstm, bert_layers, encoder_layers, products, tied_softmax
from tests.test_fit import CASES

PLATFORMS = ("cuda", "tpu")
TEXTS: dict[str, Any] = {"ner": ["ada byron left paris"], "ulmfit": ["a fine film"], "finetune": ["a fine film"]}


class LoweringJit:
    """`jax.jit`, whose functions are lowered for other platforms when they are first called, and then run here.

    Attributes:
        lowered: the names of the functions so far.
    """

    def __init__(self) -> None:
        self.jit, self.lowered = jax.jit, list[str]()

    def __call__(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        jitted, is_new = self.jit(function, **options), True

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal is_new
            if is_new:
                exported = jax.export.export(jitted, platforms=PLATFORMS)(*arguments, **named)
                assert exported.platforms == PLATFORMS
                self.lowered.append(exported.fun_name)
                is_new = False
            return jitted(*arguments, **named)

        return call


@pytest.fixture
def any_promotion() -> Iterator[None]:
    """JAX's own attention promotes the dtypes of its arguments."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.mark.slow
@pytest.mark.usefixtures("any_promotion")
@pytest.mark.parametrize("job", CASES)
def test_training_evaluation_and_prediction_lower_for_accelerators(job, tmp_path, tiny_checkpoint, monkeypatch):
    _, data, settings = CASES[job](tmp_path, tiny_checkpoint)
    jit = LoweringJit()
    monkeypatch.setattr(jax, "jit", jit)
    for module in (products, encoder_layers, bert_layers, tied_softmax, awd_lstm):
        monkeypatch.setattr(module, "on_accelerator", lambda: True)
    model = importlib.import_module(f"jaxft.{job}").fit(data, precision="bf16", **settings)
    trained = len(jit.lowered)
    if job == "pretrain":
        model.generate("the film", words=3)
    else:
        model.predict(TEXTS[job])
    assert trained >= 2, "a step of training, and one of evaluation"
    assert len(jit.lowered) > trained, "of prediction"
