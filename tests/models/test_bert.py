"""Encoders of Hugging Face checkpoints: outputs of transformers, the loop over layers, frozen layers, and refusals."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params
from safetensors.numpy import load_file, save_file

from jaxft.errors import InputError
from jaxft.models import bert_layers, deberta, encoders, load_encoder, modernbert
from jaxft.models.attention import attention
from jaxft.models.bert_config import BertConfig, bert_config
from jaxft.models.bert_layers import Attention
from jaxft.models.hugging_face import to_checkpoint
from jaxft.models.modernbert import near_attention
from jaxft.models.modernbert_config import GLOBAL, LOCAL, ModernBertConfig
from jaxft.models.torch_writer import write_state
from jaxft.models.transformer import Transformer
from jaxft.optim.groups import label_params

GOLDEN = Path(__file__).parents[1] / "golden" / "bert"
NAMES = ["bert", "roberta", "electra", "distilbert", "albert", "mpnet", "deberta", "modernbert"]
OPTIONS = ["deberta-own-keys", "deberta-c2p", "deberta-p2c", "modernbert-biases"]
"""checkpoints with options that change the arithmetic of an architecture"""


def expected(name: str) -> dict:
    return json.loads((GOLDEN / name / "expected.json").read_text())


def inputs(name: str) -> list:
    answer = expected(name)
    return [jnp.array(answer[key]) for key in ("input_ids", "attention_mask", "token_type_ids") if key in answer]


@pytest.mark.parametrize("name", [*NAMES, *OPTIONS])
def test_answers_as_transformers_with_padding(name: str):
    apply, params = load_encoder(GOLDEN / name)
    outputs, answer = jax.jit(apply)(params, *inputs(name)), expected(name)
    real = np.array(answer["attention_mask"], bool)
    assert len(outputs["hidden_states"]) == len(answer["hidden_states"])
    for ours, theirs in zip(outputs["hidden_states"], answer["hidden_states"], strict=True):
        np.testing.assert_allclose(np.asarray(ours)[real], np.array(theirs)[real], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs["pooled"], answer["pooled"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], answer["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["modernbert", "modernbert-biases"])
def test_older_files_of_modernbert_name_layers_and_rotations_otherwise(name, tmp_path):
    folder = Path(shutil.copytree(GOLDEN / name, tmp_path / name))
    settings = json.loads((folder / "config.json").read_text())
    rotations = settings.pop("rope_parameters")
    thetas = [rotations[kind]["rope_theta"] for kind in (GLOBAL, LOCAL)]
    every = settings.pop("layer_types").index(GLOBAL, 1)
    old = {"global_attn_every_n_layers": every, "global_rope_theta": thetas[0], "local_rope_theta": thetas[1]}
    (folder / "config.json").write_text(json.dumps(settings | old))
    apply, params = load_encoder(folder)
    logits = jax.jit(apply)(params, *inputs(name))["logits"]
    np.testing.assert_allclose(logits, expected(name)["logits"], rtol=1e-5, atol=1e-5)


def test_the_rotations_of_mmbert_have_one_base_in_all_layers(tmp_path):
    def config(**changes) -> ModernBertConfig:
        folder = Path(shutil.copytree(GOLDEN / "modernbert", tmp_path, dirs_exist_ok=True))
        set_config(folder, **changes)
        config = encoders.open_checkpoint(folder).config
        assert isinstance(config, ModernBertConfig)
        return config

    usual = {"rope_type": "default", "rope_theta": 160_000.0}
    new = config(rope_parameters={GLOBAL: usual, LOCAL: usual})
    assert (new.global_theta, new.local_theta) == (160_000.0, 160_000.0)
    assert config(rope_parameters=None, global_rope_theta=160_000.0, local_rope_theta=160_000) == new


@pytest.mark.parametrize(
    "name",
    ["deberta", "modernbert", *(pytest.param(name, marks=pytest.mark.slow) for name in [*NAMES[:-2], *OPTIONS])],
)
def test_gradients_are_those_of_torch(name: str):
    encoder = encoders.open_checkpoint(GOLDEN / name, dropout=0.0, pooling=None)
    golden = json.loads((GOLDEN / "gradients.json").read_text())[name]

    @jax.jit
    @jax.grad
    def gradient(params):
        # With a key, so that attention is the one of training.
        return jnp.sum(encoder.apply(params, *inputs(name), key=jax.random.key(0))["logits"] ** 2)

    gradients = to_checkpoint(gradient(encoder.params), encoder.config.kind, encoder.config.pooling)
    largest = max(norm for norm, _ in golden.values())
    for weight, array in gradients.items():
        norm, product = golden.pop(weight, (0.0, 0.0))  # transformers does not make poolers that no head reads
        flat, tolerance = array.astype(np.float64).ravel(), 1e-4 * norm + 1e-6 * largest
        assert abs(np.linalg.norm(flat) - norm) < tolerance, weight
        assert abs(flat @ np.cos(np.arange(flat.size)) - product) < tolerance, weight
    assert not golden


@pytest.mark.parametrize("name", NAMES)
def test_neither_padding_nor_batch_mates_matter(name: str):
    apply, params = encoders.load(GOLDEN / name)
    whole = inputs(name)
    logits = jax.jit(apply)(params, *whole)["logits"]
    short = [x[1:2, :7] for x in whole]  # the second text without its padding
    np.testing.assert_allclose(jax.jit(apply)(params, *short)["logits"], logits[1:2], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_key_turns_dropout_on_and_every_weight_gets_a_gradient(name: str):
    encoder = encoders.open_checkpoint(GOLDEN / name, dropout=0.1, pooling=None)
    apply, params = encoder.apply, encoder.params
    whole = inputs(name)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradients(params, key):
        return jnp.sum(apply(params, *whole, key=key)["logits"] ** 2)

    keys = jax.random.split(jax.random.key(0))
    loss, gradients = loss_and_gradients(params, keys[0])
    assert loss != loss_and_gradients(params, keys[1])[0]
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        name_of = jax.tree_util.keystr(path, simple=True, separator="/")
        assert bool(jnp.isfinite(gradient).all())
        # softmax is blind to a bias of the keys, except in scores of keys with distances
        assert bool(jnp.any(gradient)) or (name_of.endswith("key/bias") and name != "deberta")


@pytest.mark.parametrize(
    ("name", "pooling"), [(name, "max") for name in ("bert", "modernbert")] + [(name, "mean") for name in NAMES[:-1]]
)
def test_a_head_reads_the_pooled_tokens_and_no_padding(name: str, pooling):
    apply = encoders.open_checkpoint(GOLDEN / name, 4, new_head=True, pooling=pooling).apply
    params = encoders.open_checkpoint(GOLDEN / name, 4, new_head=True, pooling=pooling).params
    outputs, real = jax.jit(apply)(params, *inputs(name)), np.array(expected(name)["attention_mask"], bool)
    for row, states in enumerate(np.asarray(outputs["hidden_states"][-1])):
        pooled = getattr(states[real[row]], pooling)(axis=0)
        np.testing.assert_allclose(outputs["features"][row], pooled, rtol=1e-5, atol=1e-5)
        logits = pooled @ params["head"]["out"]["kernel"] + params["head"]["out"]["bias"]
        np.testing.assert_allclose(outputs["logits"][row], logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "pooling"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "cls"),  # two, which we do not have
        ({"pooling_mode_weightedmean_tokens": True}, "cls"),
        (None, "cls"),
    ],
)
def test_a_checkpoint_is_pooled_as_it_was_made_for(folder: Path, content, pooling):
    if content is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps(content))
    assert encoders.open_checkpoint(folder, 2, new_head=True, pooling=None).config.pooling == pooling


def test_a_checkpoint_without_pooler_and_head_is_pooled_by_the_mean(folder: Path):
    rewrite(folder, **{name: None for name in load_file(folder / "model.safetensors") if "bert." not in name})
    rewrite(folder, **{f"bert.pooler.dense.{part}": None for part in ("weight", "bias")})
    assert encoders.open_checkpoint(folder, 2, pooling=None).config.pooling == "mean"


def test_attention_with_dropout_of_nearly_nothing_is_attention_without():
    attention = Attention(
        BertConfig("bert", 40, 16, 16, 2, 4, 24, 20, 2, "gelu", 0.0, 1e-9, 0.0, 1e-12, 0.3, 0, 0, 2, 0, True, None),
        nnx.Rngs(0),
    )
    x, valid = jax.random.normal(jax.random.key(0), (2, 5, 16)), jnp.arange(5)[None, :] < jnp.array([[5], [3]])
    for bias in (None, jax.random.normal(jax.random.key(2), (4, 5, 5))):
        without, dropped = (attention(x, valid, bias, key) for key in (None, jax.random.key(1)))
        np.testing.assert_allclose(without, dropped, rtol=1e-4, atol=1e-6)


def random_encoder(num_layers: int) -> encoders.Encoder:
    sizes, dropouts = (40, 8, 8, num_layers, 2, 12, 9, 2), (0.2, 0.2, 0.2)
    config = BertConfig("bert", *sizes, "gelu", *dropouts, 1e-12, 0.3, 0, 0, num_layers, 0, True, 2)
    return encoders.Encoder(config, {}, nnx.to_pure_dict(nnx.state(Transformer(config, nnx.Rngs(0)))))


IDS = jnp.array([[5, 6, 7, 8, 9], [3, 2, 1, 0, 0]])
MASK = IDS > 0


def logits_loss(encoder: encoders.Encoder, params, key, frozen_layers: int = 0) -> tuple[jax.Array, dict]:
    outputs = encoder.apply(params, IDS, MASK, key=key, frozen_layers=frozen_layers)
    return jnp.sum(outputs["logits"] ** 2), outputs


def assert_near(tree, other) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), tree, other)


@pytest.mark.slow
def test_the_loop_over_layers_gives_what_the_layers_one_after_another_give():
    encoder, key = random_encoder(3), jax.random.key(4)

    def in_a_loop(params):
        _, outputs = logits_loss(encoder, params, key)
        return sum(jnp.sum(jnp.sin(state)) for state in outputs["hidden_states"]), outputs["hidden_states"]

    def one_after_another(params):
        model = nnx.merge(nnx.graphdef(Transformer(encoder.config, nnx.Rngs(0))), params)
        keys = jax.random.split(key, 6)
        states = [model.embeddings(IDS, None, keys[0])]
        for i in range(3):
            states.append(getattr(model, f"layer_{i}")(states[-1], MASK, None, keys[i + 1]))
        return sum(jnp.sum(jnp.sin(state)) for state in states), states

    loop, unrolled = (
        jax.jit(jax.value_and_grad(loss, has_aux=True))(encoder.params) for loss in (in_a_loop, one_after_another)
    )
    assert_near(loop, unrolled)


def test_what_the_configuration_of_albert_leaves_out_is_as_in_transformers():
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings = {**sizes, "intermediate_size": 24, "max_position_embeddings": 20, "type_vocab_size": 2}
    config = bert_config(settings, "albert", "name", pooler=True, num_labels=2, precision="f32")
    assert (config.activation, config.embedding_size, config.layer_groups) == ("gelu_new", 128, 1)
    assert (config.hidden_dropout, config.attention_dropout, config.head_dropout) == (0, 0, 0.1)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("albert", {"num_hidden_groups": 3}, "4 layers in 3 groups: correct num_hidden_groups to a divisor"),
        ("albert", {"inner_group_num": 2}, "inner_group_num 2: name a checkpoint of ALBERT whose groups have one"),
        ("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets 16: name a checkpoint of"),
    ],
)
def test_layers_and_distances_that_are_not_known_are_refused(name, changes, sentence, tmp_path):
    folder = shutil.copytree(GOLDEN / name, tmp_path / name)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))
    with pytest.raises(InputError, match=sentence):
        load_encoder(folder)


def test_layers_that_share_weights_are_frozen_and_drawn_together():
    encoder = encoders.open_checkpoint(GOLDEN / "albert")
    assert encoder.config.num_layers == 4
    assert [group for _, group in encoders.encoder_rules(encoder.config.layer_groups)][1:-1] == ["layer_0", "layer_1"]
    drawn = encoders.reinitialized(encoder, 1, seed=0)
    changed = [name for name in encoder.params if drawn[name] is not encoder.params[name]]
    assert changed == ["layer_1", "pooler"]
    gradients = jax.jit(
        jax.grad(lambda params: jnp.sum(encoder.apply(params, *inputs("albert"), frozen_layers=1)["logits"] ** 2))
    )(encoder.params)
    assert {name for name in gradients if any(map(jnp.any, jax.tree.leaves(gradients[name])))} == {
        "layer_1",
        "pooler",
        "head",
    }


@pytest.mark.slow
def test_frozen_layers_change_no_output_and_no_gradient_of_the_others():
    encoder, key = random_encoder(3), jax.random.key(4)

    def gradient(frozen_layers: int) -> tuple:
        loss = partial(logits_loss, encoder, key=key, frozen_layers=frozen_layers)
        return jax.jit(jax.value_and_grad(loss, has_aux=True))(encoder.params)

    outputs, gradients = gradient(0)
    for frozen_layers in (1, 3):
        frozen_outputs, frozen_gradients = gradient(frozen_layers)
        assert_near(frozen_outputs, outputs)
        frozen = ["embeddings", *(f"layer_{i}" for i in range(frozen_layers))]
        for group, leaves in frozen_gradients.items():
            assert_near(leaves, jax.tree.map(jnp.zeros_like, leaves) if group in frozen else gradients[group])


def test_a_text_costs_near_attention_as_many_blocks_as_it_has():
    def cost(length: int) -> int:
        q = jnp.zeros((length, 2, 4))
        attend = partial(near_attention, reach=8, precision="f32", p=0.1, key=jax.random.key(0))
        return matmul_flops(jax.make_jaxpr(attend)(q, q, q, jnp.ones(length, bool)).jaxpr)

    assert cost(256) == 8 * cost(32)
    assert cost(256) == 256 * 24 * 2 * 2 * 4  # each token meets three blocks, of keys and of values
    assert cost(24) == 24 * 24 * 2 * 2 * 4


@pytest.mark.parametrize("length", [13, 16])
def test_near_attention_in_blocks_is_attention_to_all_with_a_mask(length):
    q, k, v = jax.random.normal(jax.random.key(0), (3, length, 2, 4))
    valid, places = jnp.arange(length) < length - 3, np.arange(length)
    mask = valid[None, :] & (abs(places[:, None] - places[None, :]) <= 4)
    near = near_attention(q, k, v, valid, 4, precision="f32", p=0.0, key=None)
    np.testing.assert_allclose(near[: length - 3], attention(q, k, v, mask)[: length - 3], rtol=1e-5, atol=1e-6)
    assert bool(jnp.isfinite(near).all())


def test_the_top_of_modernbert_is_drawn_and_frozen_with_its_norm():
    encoder = encoders.open_checkpoint(GOLDEN / "modernbert", pooling=None)
    drawn = encoders.reinitialized(encoder, 2, seed=0)
    changed = {name for name in encoder.params if drawn[name] is not encoder.params[name]}
    assert changed == {"layer_3", "layer_4", "final_norm", "pooler"}
    rules = encoders.encoder_rules(encoder.config.num_layers)
    assert label_params(encoder.params, rules)["final_norm"]["scale"] == "layer_4"

    def trained(frozen_layers: int) -> set[str]:
        outputs = partial(encoder.apply, frozen_layers=frozen_layers)
        loss = lambda params: jnp.sum(outputs(params, *inputs("modernbert"))["logits"] ** 2)  # noqa: E731
        gradients = jax.jit(jax.grad(loss))(encoder.params)
        return {name for name in gradients if any(map(jnp.any, jax.tree.leaves(gradients[name])))}

    assert trained(4) == {"layer_4", "final_norm", "pooler", "head"}
    assert trained(5) == {"pooler", "head"}


def matmul_flops(jaxpr) -> int:
    """Multiply-adds of the matrix products in a program, those in a loop as often as it runs."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            depth = np.prod([eqn.invars[0].aval.shape[axis] for axis in contracted])
            total += int(depth * np.prod(eqn.outvars[0].aval.shape))
        parts = [part for value in eqn.params.values() for part in (value if isinstance(value, tuple) else (value,))]
        inner = sum(matmul_flops(getattr(part, "jaxpr", part)) for part in parts if hasattr(part, "eqns"))
        total += inner * eqn.params.get("length", 1)
    return total


def test_frozen_layers_cost_no_backward_pass():
    encoder, key = random_encoder(4), jax.random.key(0)

    def cost(frozen_layers: int) -> int:
        gradient = jax.grad(lambda params: logits_loss(encoder, params, key, frozen_layers)[0])
        return matmul_flops(jax.make_jaxpr(gradient)(encoder.params).jaxpr)

    none, half, all_four = (cost(frozen_layers) for frozen_layers in (0, 2, 4))
    forward = matmul_flops(jax.make_jaxpr(lambda params: logits_loss(encoder, params, key)[0])(encoder.params).jaxpr)
    assert none - half == half - all_four > 0
    assert forward < all_four < 1.1 * forward  # the backward pass of pooler and head remains


def test_training_the_head_alone_compiles_no_backward_loop():
    encoder, key = random_encoder(3), jax.random.key(0)

    def head_gradients(params):
        return jax.grad(lambda params: logits_loss(encoder, params, key)[0])(params)["head"]

    def loops(function) -> int:
        return str(jax.jit(function).lower(encoder.params).compile().as_text()).count(" while(")

    assert loops(head_gradients) == loops(lambda params: logits_loss(encoder, params, key)[0]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "albert", "deberta", "modernbert"])
def test_layers_that_are_recomputed_whole_have_the_same_gradient_and_take_less_memory(name):
    ids = jax.random.randint(jax.random.key(0), (32, 16), 2, 40)

    def compiled(encoder: encoders.Encoder):
        loss = lambda params: jnp.sum(  # noqa: E731
            encoder.apply(params, ids, ids > 0, key=jax.random.key(1))["logits"] ** 2
        )
        return jax.jit(jax.grad(loss)).lower(encoder.params).compile()

    encoder = encoders.open_checkpoint(GOLDEN / name, pooling=None)
    kept, again = compiled(encoder), compiled(replace(encoder, remat=True))
    assert_near(kept(encoder.params), again(encoder.params))
    before, after = kept.memory_analysis(), again.memory_analysis()
    assert before is not None
    assert after is not None
    assert after.temp_size_in_bytes < 0.9 * before.temp_size_in_bytes


@pytest.mark.parametrize("name", [*NAMES, *OPTIONS])
def test_texts_that_are_longer_than_the_positions_are_refused(name):
    encoder = encoders.open_checkpoint(GOLDEN / name)
    longest = encoder.config.longest

    def width(tokens: int) -> int:
        ids = jnp.ones((1, tokens), jnp.int32)
        return jax.eval_shape(encoder.apply, encoder.params, ids, ids)["hidden_states"][-1].shape[1]

    assert width(longest) == longest
    if "position" not in encoder.params["embeddings"]:
        assert width(longest + 1) == longest + 1
        return
    with pytest.raises(ValueError, match=f"the texts are {longest + 1} tokens long: give at most {longest}"):
        width(longest + 1)


def test_frozen_layers_are_at_most_all_layers():
    with pytest.raises(ValueError, match="frozen_layers is 3: give 0 to 2"):
        logits_loss(encoder := random_encoder(2), encoder.params, None, frozen_layers=3)


@pytest.mark.slow
def test_a_gpu_trains_as_a_cpu_does(monkeypatch):
    apply, params = encoders.load(GOLDEN / "bert")

    def gradient():
        loss = lambda params: jnp.sum(apply(params, *inputs("bert"), key=jax.random.key(0))["logits"] ** 2)  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    text_after_text = gradient()
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arrays, cpu, default: default(*arrays))
    for ours, theirs in zip(jax.tree.leaves(text_after_text), jax.tree.leaves(gradient()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_near_and_keeps_float32_parameters():
    apply, params = encoders.load(GOLDEN / "bert", precision="bf16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    outputs = jax.jit(apply)(params, *inputs("bert"))
    assert {state.dtype.name for state in outputs["hidden_states"]} == {"float32"}
    assert not np.allclose(outputs["logits"], expected("bert")["logits"], atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], expected("bert")["logits"], atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "deberta", "modernbert"])
def test_bfloat16_between_products_as_on_an_accelerator_stays_near(name, monkeypatch):
    def logits_and_gradient():
        apply, params = encoders.load(GOLDEN / name, precision="bf16")

        def loss(params, key):
            outputs = apply(params, *inputs(name), key=key)
            assert {output.dtype.name for output in jax.tree.leaves(outputs)} == {"float32"}
            return jnp.sum(outputs["logits"] ** 2), outputs["logits"]

        gradient, _ = jax.jit(jax.grad(loss, has_aux=True))(params, jax.random.key(0))
        with jax.numpy_dtype_promotion("standard"):  # JAX's own attention needs it
            logits = loss(params, None)[1]
        return logits, np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])

    _, gradient = logits_and_gradient()
    for module in (bert_layers, deberta, modernbert):
        monkeypatch.setattr(module, "activation_dtype", lambda precision: jnp.bfloat16)
    logits, rounded = logits_and_gradient()
    np.testing.assert_allclose(logits, expected(name)["logits"], atol=0.15)
    assert 0 < np.linalg.norm(rounded - gradient) < 0.05 * np.linalg.norm(gradient)


def product_dtypes(jaxpr) -> set[tuple[str, ...]]:
    """The dtypes of the operands of all matrix products in a program."""
    found = {
        tuple(operand.aval.dtype.name for operand in eqn.invars)
        for eqn in jaxpr.eqns
        if eqn.primitive.name == "dot_general"
    }
    return found.union(*(product_dtypes(part) for eqn in jaxpr.eqns for part in jaxprs_in_params(eqn.params)))


@pytest.mark.parametrize("name", ["bert", "mpnet", "deberta", "modernbert"])
def test_with_bfloat16_between_products_every_one_of_the_gradient_multiplies_bfloat16(name, monkeypatch):
    for module in (bert_layers, deberta, modernbert):
        monkeypatch.setattr(module, "activation_dtype", lambda precision: jnp.bfloat16)
    apply, params = encoders.load(GOLDEN / name, precision="bf16")
    loss = lambda params: jnp.sum(apply(params, *inputs(name), key=jax.random.key(0))["logits"] ** 2)  # noqa: E731
    assert product_dtypes(jax.make_jaxpr(jax.grad(loss))(params).jaxpr) == {("bfloat16", "bfloat16")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "bert", tmp_path / "bert"))


def rewrite(folder: Path, **changes) -> dict[str, np.ndarray]:
    state = load_file(folder / "model.safetensors")
    state = {name: changes.get(name, array) for name, array in state.items() if changes.get(name, array) is not None}
    save_file(state, folder / "model.safetensors")
    return state


def test_shards_and_pickled_weights_hold_the_same_model(folder: Path):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    write_state(folder / "pytorch_model.bin", state)
    pickled = encoders.load(folder)[1]
    (folder / "pytorch_model.bin").unlink()
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, part_names in parts.items():
        save_file({name: state[name] for name in part_names}, folder / part)
    index = {"weight_map": {name: part for part, part_names in parts.items() for name in part_names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = encoders.load(folder)[1]
    jax.tree.map(np.testing.assert_array_equal, pickled, sharded)
    (folder / "b.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks the shard b\.safetensors"):
        encoders.load(folder)


def test_a_base_checkpoint_gets_a_new_head_on_request(folder: Path):
    rewrite(folder, **{"classifier.weight": None, "classifier.bias": None})
    apply, params = encoders.load(folder)
    assert "logits" not in jax.eval_shape(apply, params, *inputs("bert"))
    apply, params = encoders.load(folder, num_labels=4)
    assert jax.eval_shape(apply, params, *inputs("bert"))["logits"].shape == (3, 4)
    other = encoders.load(folder, num_labels=4, seed=1)[1]
    assert not jnp.array_equal(params["head"]["out"]["kernel"], other["head"]["out"]["kernel"])
    with pytest.raises(InputError, match="head of 3 outputs where 4 are wanted"):
        encoders.load(GOLDEN / "bert", num_labels=4)


def test_names_everything_that_does_not_fit_in_one_message(folder: Path):
    state = load_file(folder / "model.safetensors")
    state["bert.encoder.layer.0.attention.self.query.weight"] = np.zeros((3, 3), np.float32)
    state["bert.extra"] = np.zeros(1, np.float32)
    del state["bert.embeddings.LayerNorm.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError) as caught:
        encoders.load(folder)
    for part in (
        "bert.extra is unknown",
        "nothing fills embeddings/norm/scale",
        "layer_0/attention/query/kernel has the shape (3, 3) where (16, 16) fits",
    ):
        assert part in str(caught.value)


def set_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"holds weights and no config\.json"),
        (lambda folder: (folder / "config.json").write_text("["), r"config\.json is not JSON"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2"}'), "of type 'gpt2'"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "without vocab_size"),
        (lambda folder: set_config(folder, vocab_size="x"), "with vocab_size 'x'"),
        (lambda folder: set_config(folder, initializer_range=-1), "with initializer_range -1"),
        (lambda folder: set_config(folder, hidden_act={}), "with hidden_act {}"),
        (lambda folder: set_config(folder, model_type=["bert"]), "of type"),
        (lambda folder: set_config(folder, num_attention_heads=5), "5 heads for 16 features"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"neither model\.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), "damaged or not a safetensors"),
    ],
)
def test_what_is_no_checkpoint_is_refused(folder: Path, change, message: str):
    change(folder)
    with pytest.raises(InputError, match=message):
        encoders.load(folder)


@pytest.mark.skipif("JAXFT_MINILM" not in os.environ, reason="JAXFT_MINILM names the folder of the MiniLM checkpoint")
def test_the_real_minilm_answers_as_in_transformers():
    golden = json.loads((GOLDEN.parent / "minilm.json").read_text())
    apply, params = encoders.load(os.environ["JAXFT_MINILM"])
    ids, mask, types = (jnp.array(golden[key]) for key in ("input_ids", "attention_mask", "token_type_ids"))
    outputs = jax.jit(apply)(params, ids, mask, types)
    np.testing.assert_allclose(outputs["pooled"], golden["pooled"], atol=1e-4)
    last, real = np.asarray(outputs["hidden_states"][-1]), np.asarray(mask)[:, :, None]
    np.testing.assert_allclose((last * real).sum(axis=1) / real.sum(axis=1), golden["mean"], atol=1e-4)
