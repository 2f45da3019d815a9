"""Groups: every kind of pytree is covered or refused, and rates follow their closed forms."""

from dataclasses import dataclass

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxft.optim import groups

RULES = [(".*(bias|scale)", "small"), ("head/.*", "head"), (".*", "body")]


@jax.tree_util.register_dataclass
@dataclass
class Weights:
    kernel: jax.Array
    bias: jax.Array


def as_dict():
    return {
        "body": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
        "head": {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(1)},
    }


class NNXModel(nnx.Module):
    def __init__(self):
        self.body = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        self.head = nnx.Linear(3, 1, rngs=nnx.Rngs(0))


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, name="head")(nn.Dense(3, name="body")(x))


class EquinoxModel(eqx.Module):
    body: Weights
    head: Weights

    def __call__(self, x):
        return x


def as_nnx_state():
    return nnx.split(NNXModel())[1]


def as_nnx_pure_dict():
    return nnx.to_pure_dict(as_nnx_state())


def as_linen_params():
    return LinenModel().init(jax.random.key(0), jnp.ones((1, 2)))["params"]


def as_dataclasses():
    return {name: Weights(**weights) for name, weights in as_dict().items()}


def as_equinox():
    return EquinoxModel(**as_dataclasses())


MODELS = [as_dict, as_nnx_state, as_nnx_pure_dict, as_linen_params, as_dataclasses, as_equinox]


class Attention(eqx.Module):
    """Attributes that are called as the array inside a variable of NNX is."""

    query: jax.Array
    key: jax.Array
    value: jax.Array


class Scale(eqx.Module):
    value: jax.Array


class NNXAttention(nnx.Module):
    def __init__(self):
        self.query, self.key, self.value = (nnx.Param(jnp.ones(2)) for _ in range(3))


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        ({"attention": Attention(*3 * [jnp.ones(2)])}, ["attention/query", "attention/key", "attention/value"]),
        ([Scale(jnp.ones(2))], ["0/value"]),
        ({"attention": nnx.split(NNXAttention())[1]}, ["attention/key", "attention/query", "attention/value"]),
        (NNXAttention(), ["key", "query", "value"]),
        ({"memory": nnx.Param({"a": jnp.ones(2), "b": jnp.ones(2)})}, ["memory/a", "memory/b"]),
    ],
    ids=["attributes", "only attribute", "nnx state", "nnx module", "nnx variable of several arrays"],
)
def test_only_the_value_inside_an_nnx_variable_has_no_name(params, paths):
    assert groups.path_names(params) == paths
    assert jax.tree.leaves(groups.label_params(params, [(path, path) for path in paths])) == paths
    assert jax.tree.leaves(groups.decay_mask(exclude=[paths[-1]])(params)) == [path != paths[-1] for path in paths]


@pytest.mark.parametrize("model", MODELS)
def test_first_full_match_wins_on_every_kind_of_pytree(model):
    params = model()
    labels = groups.label_params(params, RULES)
    assert jax.tree.structure(labels) == jax.tree.structure(params)
    by_path = dict(zip(groups.path_names(params), jax.tree.leaves(labels), strict=True))
    assert by_path == {"body/kernel": "body", "body/bias": "small", "head/kernel": "head", "head/bias": "small"}


def test_pattern_must_match_the_whole_path():
    with pytest.raises(ValueError, match="no rule covers body/bias, body/kernel"):
        groups.label_params(as_dict(), [("bod", "body"), ("head/.*", "head")])


def test_error_lists_uncovered_paths_and_idle_rules():
    with pytest.raises(ValueError, match=r"head/bias, head/kernel: .*'haed/\.\*'") as error:
        groups.label_params(as_dict(), [("body/.*", "body"), ("haed/.*", "head")])
    assert "body" not in str(error.value)


def test_rules_may_be_a_mapping():
    assert groups.label_params(as_dict(), dict(RULES)) == groups.label_params(as_dict(), RULES)


def test_two_leaves_of_one_path_are_both_labelled():
    labels = groups.label_params({"a": {"b": 1.0}, "a/b": 2.0}, [("a/b", "x")])
    assert jax.tree.leaves(labels) == ["x", "x"]


@given(
    names=st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8, unique=True),
    rate=st.floats(1e-6, 1.0),
    divisor=st.floats(1.0, 10.0),
)
def test_discriminative_rates_shrink_by_the_divisor(names, rate, divisor):
    rates = groups.discriminative_rates(names, rate, divisor)
    assert list(rates) == names
    values = np.array(list(rates.values()))
    assert values[-1] == rate
    np.testing.assert_allclose(values[:-1] * divisor, values[1:])


def test_layerwise_decay_of_the_article():
    names = ["embeddings", *(f"layer_{i}" for i in range(12)), "head"]
    rates = groups.layerwise_decay_rates(names, 3.5e-6, 0.9, head="head", head_rate=3.6e-6)
    assert list(rates) == names
    assert rates["head"] == 3.6e-6
    for i in range(12):
        assert rates[f"layer_{i}"] == pytest.approx(3.5e-6 * 0.9 ** (11 - i))
    assert rates["embeddings"] == pytest.approx(3.5e-6 * 0.9**12)


def test_layerwise_decay_without_a_head_decays_from_the_top():
    assert groups.layerwise_decay_rates(["a", "b"], 1.0, 0.5) == {"a": 0.5, "b": 1.0}
    assert groups.layerwise_decay_rates(["a", "b"], 1.0, 0.5, head="b") == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("model", MODELS)
def test_decay_mask_leaves_biases_out(model):
    params = model()
    mask = groups.decay_mask()(params)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    by_path = dict(zip(groups.path_names(params), jax.tree.leaves(mask), strict=True))
    assert by_path == {"body/kernel": True, "body/bias": False, "head/kernel": True, "head/bias": False}


def test_decay_mask_can_name_what_decays():
    assert groups.decay_mask(exclude=(), include=("kernel",))({"kernel": 1.0, "x": 2.0}) == {"kernel": True, "x": False}


def test_description_shows_rate_decay_size_and_rule():
    text = groups.describe(as_dict(), [*RULES[1:], ("tail", "tail")], {"head": 0.5, "body": None}, groups.decay_mask())
    assert text.splitlines() == [
        "group    rate  decayed  parameters  rule",
        "head      0.5        3           4  head/.*",
        "body   frozen        6           9  .*",
        "rules that match nothing: tail",
    ]
    assert groups.describe(as_dict(), RULES).splitlines()[0] == "group  parameters  rule"


def test_description_needs_only_shapes():
    shapes = jax.eval_shape(as_dict)
    assert groups.describe(shapes, RULES) == groups.describe(as_dict(), RULES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: groups.discriminative_rates([], 0.1), "distinct names"),
        (lambda: groups.discriminative_rates("head", 0.1), "distinct names"),
        (lambda: groups.discriminative_rates(["a", "a"], 0.1), "distinct names"),
        (lambda: groups.discriminative_rates(["a"], 0.0), "positive"),
        (lambda: groups.layerwise_decay_rates(["a"], 0.1, 1.1), "decay"),
        (lambda: groups.layerwise_decay_rates(["a"], 0.1, 0.9, head="b"), "none of the groups"),
        (lambda: groups.layerwise_decay_rates(["a"], 0.1, 0.9, head_rate=0.1), "head_rate"),
        (lambda: groups.describe(as_dict(), RULES, {"body": 0.1}), "rates miss the groups small, head"),
        (lambda: groups.decay_mask("bias"), "the string 'bias': give a sequence of patterns"),
        (lambda: groups.decay_mask(include="kernel"), "the string 'kernel': give a sequence of patterns"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
