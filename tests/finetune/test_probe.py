"""Fine-tuning starts from a head that is solved on the features of the frozen encoder."""

import jax
import numpy as np
import pytest

from jaxft.finetune.inputs import read_inputs, split_examples
from jaxft.finetune.stages import as_model, predict_examples, with_probe
from tests.finetune.toy import review, settings, table


@pytest.mark.parametrize("pooling", ["cls", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mean", "max"))])
def test_the_head_of_a_run_is_the_solved_one_and_nothing_else_changes(tiny_checkpoint, tmp_path, pooling):
    data = table(tmp_path / "reviews.csv", 120, review)
    run_settings = settings(tiny_checkpoint, data, "--pooling", pooling)
    inputs = read_inputs(run_settings)
    split = split_examples(inputs.examples, run_settings)["train"]
    params = with_probe(inputs, split.train, inputs.examples.targets, inputs.encoder.params, run_settings)
    rest = {name: value for name, value in params.items() if name != "head"}
    jax.tree.map(np.testing.assert_array_equal, rest, {name: inputs.encoder.params[name] for name in rest})
    outputs = predict_examples(as_model(inputs, run_settings, params), inputs, split.train)
    assert np.mean(outputs.argmax(axis=1) == inputs.examples.targets[split.train]) > 0.6
