"""What a fine-tuning job reads: splits and folds, word pieces, and the checkpoint with a new head."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from jaxft.data.document import DEV, TRAIN
from jaxft.data.pieces import load_tokenizer
from jaxft.errors import InputError
from jaxft.finetune.__main__ import main
from jaxft.finetune.inputs import read_inputs, split_examples
from jaxft.finetune.job import prepare
from jaxft.finetune.settings import parse
from jaxft.inference.encoder import EncoderModel
from jaxft.models.encoders import open_checkpoint
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


def test_a_head_that_transformers_does_not_have_is_named_before_training(tiny_checkpoint, reviews):
    def line(pooling: str) -> str:
        lines = prepare(settings(tiny_checkpoint, reviews, "--pooling", pooling)).lines
        return next(line for line in lines if line.startswith("the head reads"))

    assert line("cls") == "the head reads the first token"
    loaded = "transformers cannot load this head, as it can with --pooling cls"
    assert line("mean") == f"the head reads the mean over the tokens; {loaded}"


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """A table of 60 rows: 15 texts in four copies, and one of the copies has another label."""
    words = ("good", "bad", "fine", "dull", "great")
    lines = [f"the film was {words[i % 5]} and {('one', 'two', 'three')[i % 3]},{i % 5 % 2}" for i in range(15)] * 4
    lines[-1] = lines[-1][:-1] + str(1 - int(lines[-1][-1]))
    path = tmp_path_factory.mktemp("copies") / "copies.csv"
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return str(path)


@pytest.mark.parametrize("flags", [[], ["--folds", "3"], ["--limit-labels", "40"]])
def test_copies_of_a_text_are_in_one_split_and_their_number_is_said(tiny_checkpoint, copies, flags):
    prepared = prepare(settings(tiny_checkpoint, copies, *flags))
    inputs, splits, _ = prepared.inputs
    for split in splits.values():
        parts = [set(inputs.examples.keys[rows]) for rows in (split.train, split.dev, split.test) if len(rows)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert len(split.dev)
    counts = prepared.data["duplicates"]
    assert counts["repeated"] >= 12
    assert not counts.get("dev_in_train")
    assert not counts.get("test_in_train")
    (line,) = (line for line in prepared.lines if "occur more than once" in line)
    assert line.endswith("equal texts share a fold") == ("--folds" in flags)


def test_more_folds_than_different_texts_are_refused(tiny_checkpoint, copies):
    for folds in ("20", str(2**31 - 1)):
        many = settings(tiny_checkpoint, copies, "--folds", folds)
        with pytest.raises(InputError, match="has 15 different texts, too few to split"):
            split_examples(read_inputs(many).examples, many)


def test_test_texts_in_train_are_counted_and_not_moved(tiny_checkpoint, tmp_path, capsys):
    lines = [f"the film was {word},{label},train" for word, label in (("good", 1), ("bad", 0), ("fine", 1))]
    lines += ["the film was  good,1,test", "the film was dull,0,test", "the film was bad,0,dev", "so bad,0,train"]
    (tmp_path / "own.csv").write_text("\n".join(["text,label,split", *lines]) + "\n")
    data = str(tmp_path / "own.csv")
    main(["--model", str(tiny_checkpoint), "--data", data, "--max-length", "20", "--dry-run"])
    assert "2 texts occur more than once; also in train: 1 of 1 dev, 1 of 2 test texts" in capsys.readouterr().out
    inputs = read_inputs(settings(tiny_checkpoint, data))
    assert inputs.examples.splits.tolist() == [TRAIN, TRAIN, TRAIN, 1, 1, DEV, TRAIN]


def test_rows_beyond_the_limit_serve_as_labels_nowhere(tiny_checkpoint, tmp_path):
    lines = [f"the film was {word} {i},{word}" for i in range(60) for word in ("good", "good", "good", "bad")]
    (tmp_path / "many.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    whole = prepare(settings(tiny_checkpoint, str(tmp_path / "many.csv"), "--limit-labels", "24"))
    inputs, splits, _ = whole.inputs
    split = splits["train"]
    assert len(split.train) + len(split.dev) == 24
    assert len(inputs.examples.texts) == len(inputs.examples.targets) == 24 + len(split.test)
    assert whole.data["sizes"]["train"] + whole.data["sizes"]["dev"] == 24


def test_long_texts_are_read_in_windows_and_pairs_are_cut(tiny_checkpoint, tmp_path):
    lines = [f"w{i} {'good film ' * 20},{'so bad ' * 20},{i % 2}" for i in range(40)]
    (tmp_path / "long.csv").write_text("\n".join(["text,second,label", *lines]) + "\n")
    data = str(tmp_path / "long.csv")
    read = read_inputs(settings(tiny_checkpoint, data))
    assert (read.long_texts, read.max_length, read.pieces.truncated) == ("windows", 20, 0)
    assert len(read.pieces.texts) > 80
    pairs = read_inputs(settings(tiny_checkpoint, data, "--pair-column", "second"))
    assert (pairs.long_texts, pairs.pieces.truncated) == ("cut", 40)


def test_a_checkpoint_that_reads_less_than_the_default_is_given_what_it_reads(tiny_checkpoint, reviews):
    read = read_inputs(parse(["--model", str(tiny_checkpoint), "--data", reviews]))
    assert read.max_length == read.encoder.config.longest < 256
