"""What a fine-tuning job reads: splits and folds, word pieces, and the checkpoint with a new head."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.data.pieces import load_tokenizer
from jaxft.errors import InputError
from jaxft.finetune.inputs import read_inputs, split_examples
from jaxft.inference.encoder import EncoderModel
from jaxft.models.bert import open_checkpoint
from tests.finetune.toy import graded, settings, table


def test_every_example_is_in_the_test_of_one_fold(tiny_checkpoint, reviews):
    fold_settings = settings(tiny_checkpoint, reviews, "--folds", "3")
    splits = split_examples(read_inputs(fold_settings).examples, fold_settings)
    assert sorted(np.concatenate([split.test for split in splits.values()]).tolist()) == list(range(400))
    for split in splits.values():
        examples = np.concatenate([split.train, split.dev, split.test])
        assert sorted(examples.tolist()) == list(range(400))
        assert 20 <= len(split.dev) <= 35


def test_a_checkpoint_without_its_own_tokenizer_is_refused(tiny_checkpoint, reviews, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_checkpoint / name, bare)
    with pytest.raises(InputError, match="holds no tokenizer"):
        read_inputs(settings(bare, reviews))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(60)), "good", "film"]
    (bare / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(InputError, match="has the piece 'w35' with the number 40 and the model only 40"):
        read_inputs(settings(bare, reviews))


def test_training_starts_with_a_new_head_whatever_the_checkpoint_has(tiny_checkpoint, tmp_path):
    encoder = open_checkpoint(tiny_checkpoint, 2)
    EncoderModel(encoder, load_tokenizer(tiny_checkpoint), "classification", ("neg", "pos"), 20).save(tmp_path)
    data = table(tmp_path / "graded.csv", 60, graded)
    stored = open_checkpoint(tmp_path).params["head"]["out"]["kernel"]
    assert stored.shape == (16, 2)
    for flags, outputs in (([], 4), (["--task", "regression"], 1)):
        kernel = read_inputs(settings(tmp_path, data, *flags)).encoder.params["head"]["out"]["kernel"]
        assert kernel.shape == (16, outputs)
        assert float(jnp.abs(kernel).max()) < 0.1
