"""Checkpoints of others: heads of other tasks, names with prefixes, shards, and folders that are no checkpoint."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxft.errors import InputError
from jaxft.models import checkpoint_files, encoders
from jaxft.models.bert_config import BertConfig
from jaxft.models.checkpoint_files import OTHER_FILES
from jaxft.models.torch_file import read_tensors
from jaxft.models.torch_writer import write_state
from tests.checkpoints import (
    ARCHITECTURES,
    WITHOUT_POOLER,
    class_of,
    config_of,
    prefix_of,
    weights_of,
    write_checkpoint,
    write_json,
)


def write(folder: Path, state: dict[str, np.ndarray], architecture: str = "bert", **config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config_of(architecture, **config))
    save_file(state, folder / "model.safetensors")
    return folder


def assert_same(ours, theirs) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("head", ["masked", "token", "question", "pretraining"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_of_another_task_is_left_out_and_named(architecture, head, tmp_path):
    pooler = architecture not in WITHOUT_POOLER
    folder = write(tmp_path, weights_of(architecture, head, pooler), architecture)
    tops = {name.split(".")[0] for name in weights_of(architecture, head)} - {*map(prefix_of, ARCHITECTURES)}
    modern = architecture == "modernbert"  # whose pooler transformers calls the head
    tops -= {"head"} if modern else set()
    encoder = encoders.open_checkpoint(folder, new_head=True)
    assert encoder.notes[0] == f"the head of the checkpoint ({', '.join(sorted(tops))}) is left out"
    shares = architecture == "albert"
    assert encoder.notes[1:] == ("the 2 layers share one set of weights, which has one rate",) * shares
    layers = {"layer_0"} if shares else {"layer_0", "layer_1"}
    assert encoder.params.keys() == {
        "embeddings",
        *layers,
        *(["pooler"] if pooler else []),
        *(["final_norm", "pooler"] if modern else []),
    }


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_classifier_of_tokens_is_not_read_as_one_of_texts(architecture, tmp_path):
    folder = write(tmp_path, weights_of(architecture, "token"), architecture)
    assert encoders.open_checkpoint(folder).config.num_labels is None
    assert encoders.open_checkpoint(folder, 2, pooling=None).config.pooling == "mean"
    state = weights_of(architecture, "sequence", architecture in ("bert", "albert"))
    # In ModernBERT, only the class tells both tasks apart.
    task = {"architectures": [class_of(architecture, "SequenceClassification")]} if architecture == "modernbert" else {}
    folder = write(tmp_path, state, architecture, **task)
    assert encoders.open_checkpoint(folder).config.num_labels == 3
    pooling = encoders.open_checkpoint(folder, 2, new_head=True, pooling=None).config.pooling
    assert pooling == ("mean" if architecture == "modernbert" else "cls")


@pytest.mark.parametrize("pooling", [None, "cls", "mean"])
def test_only_the_configuration_tells_that_a_modernbert_classifies_texts(pooling, tmp_path):
    folder = write(tmp_path, weights_of("modernbert", "sequence"), "modernbert")

    def doors():
        named = encoders.open_checkpoint(folder, pooling=pooling)
        return named, {"head" in params for params in (named.params, encoders.load(folder)[1])}

    encoder, has_head = doors()
    assert has_head == {False}
    assert encoder.notes == ("the head of the checkpoint (classifier) is left out",)
    for changes in (
        {"architectures": [class_of("modernbert", "SequenceClassification")]},
        {"problem_type": "single_label_classification"},
    ):
        write_json(folder / "config.json", config_of("modernbert", **changes))
        assert doors()[1] == {True}


@pytest.mark.parametrize("scaling", [{"rope_type": "default"}, {"type": "default"}, {}, None])
def test_rotations_that_are_scaled_by_nothing_are_read(scaling, tmp_path):
    encoders.load(write(tmp_path, weights_of("modernbert"), "modernbert", rope_scaling=scaling))


def test_a_pooling_that_the_caller_gives_makes_that_of_the_configuration_irrelevant(tmp_path):
    folder = write(tmp_path, weights_of("modernbert"), "modernbert", classifier_pooling="max")
    assert encoders.open_checkpoint(folder, 2, pooling="mean").config.pooling == "mean"
    with pytest.raises(InputError, match="classifier_pooling 'max': correct it to one of cls, mean"):
        encoders.open_checkpoint(folder, 2, pooling=None)


@pytest.mark.parametrize("task", ["TokenClassification", "MultipleChoice", "NextSentencePrediction"])
def test_the_class_in_the_configuration_says_the_task(task, tmp_path):
    state = weights_of("bert", "sequence", pooler=True)  # which has the names of all of them
    assert encoders.open_checkpoint(write(tmp_path, state, architectures=["BertForSequenceClassification"]))
    encoder = encoders.open_checkpoint(write(tmp_path, state, architectures=[f"BertFor{task}"]))
    assert (encoder.config.num_labels, encoder.notes) == (
        None,
        ("the head of the checkpoint (classifier) is left out",),
    )


def test_what_stands_beside_a_prefixed_encoder_is_a_head(tmp_path):
    state = weights_of("bert", "question") | {"crf.transitions": np.ones((3, 3), np.float32)}
    encoder = encoders.open_checkpoint(write(tmp_path, state))
    assert encoder.notes == ("the head of the checkpoint (crf, qa_outputs) is left out",)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module.", "base_model.model.", "0.auto_model."]
)
@pytest.mark.parametrize("head", ["none", "sequence"])
def test_prefixes_of_training_code_are_left_out(prefix, head, tmp_path):
    state = weights_of("bert", head, pooler=True)
    plain = encoders.load(write(tmp_path / "plain", state))[1]
    assert_same(encoders.load(write(tmp_path, {prefix + name: array for name, array in state.items()}))[1], plain)


def test_a_compiled_module_inside_another_is_read(tmp_path):
    state = weights_of("roberta", "sequence")
    inside = {name.replace("roberta.", "roberta._orig_mod."): array for name, array in state.items()}
    plain = encoders.load(write(tmp_path / "plain", state, "roberta"))[1]
    assert_same(encoders.load(write(tmp_path, inside, "roberta"))[1], plain)
    twice = {"lm_head.bias": np.ones(1, np.float32), "module.lm_head.bias": np.ones(1, np.float32)}
    write(tmp_path, state | twice, "roberta")
    with pytest.raises(InputError, match=r"holds lm_head\.bias twice"):
        encoders.load(tmp_path)


def test_shards_of_pickled_weights_are_read_without_running_them(tmp_path):
    state = weights_of("bert", pooler=True)
    plain = encoders.load(write(tmp_path, state))[1]
    (tmp_path / "model.safetensors").unlink()
    parts = {f"pytorch_model-0000{i + 1}-of-00002.bin": sorted(state)[i::2] for i in range(2)}
    for file, names in parts.items():
        write_state(tmp_path / file, {name: state[name] for name in names})
    index = {"weight_map": {name: part for part, names in parts.items() for name in names}}
    write_json(tmp_path / "pytorch_model.bin.index.json", index)
    assert_same(encoders.load(tmp_path)[1], plain)
    part = max(parts)
    (tmp_path / part).write_bytes(b"\x80\x02cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(InputError, match=rf"{part}"):
        encoders.load(tmp_path)
    (tmp_path / part).unlink()
    with pytest.raises(InputError, match=rf"lacks the shard {part} that pytorch_model\.bin\.index\.json names"):
        encoders.load(tmp_path)


@pytest.mark.parametrize("place", ["0_Transformer", "model", "model/encoder", "model/fold_1", "checkpoint-500"])
def test_a_folder_around_a_checkpoint_is_refused_with_the_name_of_the_right_one(place, tmp_path):
    write_checkpoint(tmp_path / place)
    write_json(tmp_path / "config.json", {"seed": 1})
    with pytest.raises(InputError, match=rf"is no checkpoint and holds one in {place}: name {tmp_path / place}$"):
        encoders.load(tmp_path)


def test_an_early_checkpoint_of_sentence_transformers_keeps_its_pooling(tmp_path):
    folder = write(tmp_path / "0_Transformer", weights_of("bert", pooler=True))
    assert encoders.open_checkpoint(folder, 2, pooling=None).config.pooling == "cls"
    (tmp_path / "1_Pooling").mkdir()
    write_json(tmp_path / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    assert encoders.open_checkpoint(folder, 2, pooling=None).config.pooling == "mean"


@pytest.mark.parametrize("name", ["tf_model.h5", "flax_model.msgpack", "model.onnx", "a.gguf", "adapter_config.json"])
def test_weights_of_other_libraries_are_refused_each_with_its_remedy(name, tmp_path):
    write_json(tmp_path / "config.json", config_of("bert"))
    (tmp_path / name).write_bytes(b"{}")
    content, remedy = next(row for pattern, row in OTHER_FILES.items() if Path(name).match(pattern))
    with pytest.raises(InputError) as caught:
        encoders.load(tmp_path)
    assert str(caught.value).endswith(f"holds {content} ({name}), which jaxft does not read: {remedy}")


def test_an_adapter_beside_its_weights_is_refused(tmp_path):
    state = weights_of("bert") | {"encoder.layer.0.attention.self.query.lora_A.default.weight": np.ones((2, 2))}
    with pytest.raises(InputError, match=r"holds an adapter .*: merge it into its encoder with merge_and_unload"):
        encoders.load(write(tmp_path, state))


@pytest.mark.parametrize("place", ["", "model"])
def test_a_model_of_jaxft_without_an_encoder_is_refused(place, tmp_path):
    (tmp_path / place).mkdir(exist_ok=True)
    write_json(tmp_path / place / "model.json", {"kind": "classifier"})
    save_file({"x": np.ones(1)}, tmp_path / place / "model.safetensors")
    with pytest.raises(InputError, match="a model of jaxft that has no encoder: name a checkpoint of BERT"):
        encoders.load(tmp_path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_a_model_type_the_class_says_it_and_else_nothing_is_guessed(architecture, tmp_path):
    folder = write(tmp_path, weights_of(architecture), architecture, model_type=None)
    with pytest.raises(InputError, match=r"config\.json in .* names no model_type: add what the model is, one of"):
        encoders.load(folder)
    write_json(
        folder / "config.json",
        config_of(architecture, model_type=None, architectures=[class_of(architecture, "MaskedLM")]),
    )
    assert encoders.open_checkpoint(folder).settings["model_type"] == architecture


def test_of_hundreds_of_unknown_names_the_first_and_the_number_are_said(tmp_path):
    state = weights_of("bert") | {f"encoder.extra.{i}": np.ones(1, np.float32) for i in range(300)}
    with pytest.raises(InputError, match=r"encoder\.extra\.\d+ is unknown; and 294 more of 300\)") as caught:
        encoders.load(write(tmp_path, state))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_weights_that_are_not_finite_are_refused_and_named(value, tmp_path):
    state = weights_of("bert", "sequence", pooler=True)
    state["bert.embeddings.word_embeddings.weight"] = state["bert.embeddings.word_embeddings.weight"].astype(np.float64)
    state["bert.embeddings.word_embeddings.weight"][7] = value
    with pytest.raises(InputError, match=r"numbers that are not finite \(in embeddings/word/embedding\)"):
        encoders.load(write(tmp_path, state))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_decoder": True}, "is_decoder true, and jaxft trains encoders"),
        ({"add_cross_attention": True}, "add_cross_attention true"),
        ({"position_embedding_type": "relative_key"}, "positions of the type 'relative_key'"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob 1.0: correct it to a number from 0, below 1"),
        ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob -0.1"),
        ({"classifier_dropout": 7}, "classifier_dropout 7"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob nan"),
        ({"layer_norm_eps": 0}, "layer_norm_eps 0, which divides by 0"),
        ({"layer_norm_eps": -1e-12}, "layer_norm_eps -1e-12"),
        ({"pad_token_id": 320}, "pad_token_id 320 and 320 pieces: correct it"),
        ({"pad_token_id": -1}, "pad_token_id -1"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers 1000000000000"),
        ({"hidden_size": 0}, "hidden_size 0: correct it to a number from 1"),
    ],
)
def test_a_configuration_that_no_encoder_has_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError) as caught:
        encoders.load(write(tmp_path, weights_of("bert"), **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size 3, a convolution that jaxft does not have: name a checkpoint of"),
        ({"relative_attention": False}, "without relative_attention true: name a checkpoint of DeBERTa with it"),
        ({"relative_attention": 1}, "relative_attention 1: correct it to true or false"),
        ({"pos_att_type": "p2c|p2p"}, "pos_att_type 'p2c|p2p': name a checkpoint of DeBERTa with parts among c2p, p2c"),
        ({"position_buckets": 2}, "position_buckets 2 for max_relative_positions 40: download config.json and"),
        ({"position_buckets": 16, "max_relative_positions": 9}, "position_buckets 16 for max_relative_positions 9"),
        ({"position_buckets": 2**20}, "the shape (8, 8) where (2097152, 8) fits"),
        ({"position_buckets": -2}, "position_buckets -2: correct it to a number from -1"),
        ({"norm_rel_ebd": 1}, "norm_rel_ebd 1: download it again"),
        ({"embedding_size": 4}, "embedding_size 4 where 8 fits the layers"),
        ({"pooler_hidden_act": "mish"}, "uses the activation 'mish'"),
        ({"pooler_dropout": 1.5}, "pooler_dropout 1.5: correct it to a number from 0, below 1"),
        ({"model_type": "deberta"}, "is of type 'deberta': name a checkpoint of a type among"),
    ],
)
def test_a_deberta_that_jaxft_does_not_have_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError) as caught:
        encoders.load(write(tmp_path, weights_of("deberta-v2"), "deberta-v2", **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_types": ["full_attention"]}, "layer_types are not 2 times full_attention or sliding_attention"),
        ({"layer_types": ["full_attention", {}]}, "layer_types are not 2 times"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers 0: correct it to a number from 1"),
        ({"local_attention": 1}, "local_attention 1: correct it to a number from 2"),
        ({"local_rope_theta": 0}, "local_rope_theta 0: correct it to a number from 1"),
        ({"rope_scaling": {"type": "linear"}}, "rotations of the type {'type': 'linear'}"),
        ({"rope_scaling": {"rope_type": "default", "factor": 2}}, "rotations of the type {'rope_type': 'default', "),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rotations of the type 'yarn'"),
        ({"rope_parameters": {"full_attention": {"rope_theta": "x"}}}, "global_rope_theta 'x'"),
        ({"classifier_pooling": "max"}, "classifier_pooling 'max': correct it to one of cls, mean"),
        ({"norm_bias": "no"}, "norm_bias 'no': correct it to true or false"),
        ({"norm_eps": 0}, "norm_eps 0, which divides by 0"),
        ({"num_attention_heads": 8}, "8 heads of 1 features, which cannot be rotated in pairs"),
        ({"hidden_activation": "mish"}, "uses the activation 'mish'"),
        ({"pad_token_id": 320}, "pad_token_id 320 and 320 pieces"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers 1000000000000"),
    ],
)
def test_a_modernbert_that_jaxft_does_not_have_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError) as caught:
        encoders.load(write(tmp_path, weights_of("modernbert"), "modernbert", **changes))
    assert message in str(caught.value)


def test_the_head_of_a_masked_modernbert_stays_below_a_new_one_as_in_transformers(tmp_path):
    state = weights_of("modernbert", "masked")
    params = encoders.open_checkpoint(write(tmp_path, state, "modernbert"), 2, new_head=True, pooling=None).params
    np.testing.assert_array_equal(params["pooler"]["dense"]["kernel"], state["head.dense.weight"].T)
    params = encoders.open_checkpoint(tmp_path, 2, new_head=True, pooling="max").params
    assert "pooler" not in params


def test_positions_that_deberta_does_not_add_may_stand_in_the_file(tmp_path):
    state = weights_of("deberta-v2", "pretraining")
    more = {"deberta.embeddings.position_embeddings.weight": np.ones((40, 8), np.float32)}
    plain = encoders.load(write(tmp_path, state, "deberta-v2"))[1]
    assert_same(encoders.load(write(tmp_path, state | more, "deberta-v2"))[1], plain)


@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_embeddings_of_another_size_than_the_layers_are_of_electra_and_albert_alone(architecture, tmp_path):
    folder = write(tmp_path, weights_of(architecture), architecture, embedding_size=4)
    assert encoders.open_checkpoint(folder).params["embeddings"]["word"]["embedding"].shape == (320, 8)


def test_the_usual_dropout_of_distilberts_head_is_that_of_transformers(tmp_path):
    config = encoders.open_checkpoint(write(tmp_path, weights_of("distilbert"), "distilbert")).config
    assert isinstance(config, BertConfig)
    assert (config.hidden_dropout, config.head_dropout) == (0.1, 0.2)


@pytest.mark.parametrize("changes", [{"dropout": 1.5}, {"attention_dropout": 1.0}, {"seq_classif_dropout": -1}])
def test_distilbert_is_checked_by_its_own_names(changes, tmp_path):
    with pytest.raises(InputError, match=rf"{next(iter(changes))} .*below 1"):
        encoders.load(write(tmp_path, weights_of("distilbert"), "distilbert", **changes))


def test_a_head_that_a_finished_model_lacks_is_not_drawn(tmp_path):
    folder = write(tmp_path, weights_of("roberta", "sequence"), "roberta")
    state = {name: array for name, array in load_file(folder / "model.safetensors").items() if "classifier" not in name}
    write(folder, state, "roberta")
    assert encoders.open_checkpoint(folder, 3).config.num_labels == 3
    with pytest.raises(InputError, match="nothing fills head/out/kernel"):
        encoders.open_checkpoint(folder, 3, draw_missing=False)


def test_a_config_that_is_nested_too_deeply_is_refused(tmp_path):
    folder = write(tmp_path, weights_of("bert"))
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        encoders.load(folder)
    (folder / "config.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="is not a JSON object"):
        encoders.load(folder)


def test_a_pointer_of_git_lfs_is_refused_as_such(tmp_path):
    write_json(tmp_path / "config.json", config_of("bert"))
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(InputError, match=rf"{name} is a pointer of Git LFS .*: fetch them with git lfs pull"):
            encoders.load(tmp_path)


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict"])
def test_weights_among_other_things_of_a_training_program_are_read(name, tmp_path, monkeypatch):
    state = weights_of("bert", "sequence", pooler=True)
    plain = encoders.load(write(tmp_path / "plain", state))[1]
    write_json(tmp_path / "config.json", config_of("bert"))
    write_state(tmp_path / "pytorch_model.bin", state)
    monkeypatch.setattr(checkpoint_files, "read_tensors", lambda *file: {name: read_tensors(*file), "epoch": 3})
    assert_same(encoders.load(tmp_path)[1], plain)
