"""Checkpoints come back bit for bit or not at all, and a crash while saving costs nothing."""

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from jaxft.base.tensor_files import read_meta, save_params
from jaxft.errors import InputError
from jaxft.training.checkpoint import restore, save


class Moments(NamedTuple):
    mean: Any
    square: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    step: Any
    params: Any
    opt_state: Any
    key: Any


def example_state(seed: int = 0) -> State:
    rng = np.random.default_rng(seed)
    params = {
        "embedding": jnp.asarray(rng.normal(size=(7, 4)), jnp.float32),
        "layers": [{"kernel": jnp.asarray(rng.normal(size=(4, 4)), jnp.bfloat16)}, {"kernel": jnp.zeros((0, 4))}],
    }
    return State(
        step=jnp.asarray(seed, jnp.int32),
        params=params,
        opt_state=(Moments(jnp.ones(3) * seed, jnp.asarray([True, False])), optax.EmptyState(), None),
        key=jax.random.split(jax.random.key(seed)),
    )


def assert_same_bits(left: Any, right: Any) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if isinstance(a, jax.Array):
            assert isinstance(b, jax.Array)
            assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None)
            if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                assert jax.random.key_impl(a) == jax.random.key_impl(b)
                a, b = jax.random.key_data(a), jax.random.key_data(b)
        else:
            assert type(a) is type(b)
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


def test_a_train_state_comes_back_bit_for_bit(tmp_path):
    state = example_state(3)
    save(tmp_path / "c.safetensors", state, {"stage": "lm", "best": float("inf"), "bytes": 2**40})
    restored, meta = restore(tmp_path / "c.safetensors", example_state(0))
    assert_same_bits(state, restored)
    assert meta == {"stage": "lm", "best": float("inf"), "bytes": 2**40}
    assert read_meta(tmp_path / "c.safetensors") == meta
    assert os.listdir(tmp_path) == ["c.safetensors"]


def test_shapes_alone_are_template_enough(tmp_path):
    state = example_state(3)
    save(tmp_path / "c.safetensors", state, {})
    assert_same_bits(state, restore(tmp_path / "c.safetensors", jax.eval_shape(lambda: state))[0])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_restored_key_draws_the_same_numbers(tmp_path, impl):
    key = jax.random.key(5, impl=impl)
    save(tmp_path / "c.safetensors", {"key": key}, {})
    restored = restore(tmp_path / "c.safetensors", {"key": jax.random.key(0, impl=impl)})[0]["key"]
    np.testing.assert_array_equal(jax.random.normal(restored, (9,)), jax.random.normal(key, (9,)))


def test_python_numbers_weak_types_and_numpy_arrays_keep_their_kind(tmp_path):
    tree = {
        "int": 3,
        "float": 0.1,
        "bool": True,
        "weak": jnp.asarray(0.1),
        "weak_int": jnp.asarray(7),
        "numpy": np.arange(6.0).reshape(2, 3).T,
        "scalar": np.float64(0.1),
    }
    save(tmp_path / "c.safetensors", tree, {})
    like = jax.tree.map(lambda leaf: leaf * 0 if not isinstance(leaf, bool) else False, tree)
    assert_same_bits(tree, restore(tmp_path / "c.safetensors", like)[0])


DTYPES = [np.bool_, np.int8, np.uint32, np.int64, np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any bits: NaNs with payloads, infinities, subnormal numbers and negative zeros among them."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    size = dtype.itemsize * math.prod(shape)
    content = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    return (content % 2 if dtype == np.bool_ else content).view(dtype).reshape(shape)


trees = st.recursive(
    arrays(),
    lambda children: st.one_of(
        st.dictionaries(st.text(max_size=4).filter(lambda key: "/" not in key), children, max_size=3),
        st.lists(children, max_size=3),
        st.tuples(children, children).map(lambda pair: Moments(*pair)),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(tree=trees)
def test_any_tree_comes_back_bit_for_bit(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("any") / "c.safetensors"
    save(path, tree, {})
    assert_same_bits(tree, restore(path, tree)[0])


def test_equal_states_leave_equal_files(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / name, example_state(1), {"b": 1, "a": {"d": 1, "c": 2}})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_mismatch_is_told_at_once(tmp_path):
    path = tmp_path / "c.safetensors"
    save(path, {"a": jnp.zeros((2, 3)), "b": jnp.zeros(2), "gone": jnp.zeros(1), "k": jax.random.key(0)}, {})
    template = {"a": jnp.zeros((4, 3)), "b": jnp.zeros(2, jnp.int32), "new": {"w": jnp.zeros(1)}, "k": jnp.zeros(2)}
    with pytest.raises(InputError) as caught:
        restore(path, template)
    message = str(caught.value)
    assert message.startswith(f"checkpoint {path} does not fit this run (")
    for part in (
        "new/w is not in the file",
        "gone is only in the file",
        "a is float32 (2, 3) in the file and float32 (4, 3) here",
        "b is float32 (2,) in the file and int32 (2,) here",
        "k is key<fry> () in the file and float32 (2,) here",
        "resume with the settings it was saved with",
    ):
        assert part in message


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, bytes, State]:
    """A path, the content of a checkpoint that was there, and the state in it."""
    path, state = tmp_path_factory.mktemp("saved") / "c.safetensors", example_state(2)
    save(path, state, {"step": 12345, "loss": 0.5})
    return path, path.read_bytes(), state


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_flipped_byte_is_found_wherever_it_is(saved, data):
    path, whole, state = saved
    content = bytearray(whole)
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        restored, meta = restore(path, state)
    except InputError:
        return
    # Some bytes mean nothing, such as the kind of white space between the header and the arrays.
    assert_same_bits(state, restored)
    assert meta == {"step": 12345, "loss": 0.5}


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_truncated_file_is_refused_in_one_sentence(saved, data):
    path, content, state = saved
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(
        InputError, match=r"c.safetensors is damaged .*: put back an intact copy, or delete it"
    ) as caught:
        restore(path, state)
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint_of_ours_is_refused(tmp_path):
    (tmp_path / "text").write_text("not a checkpoint at all, only text that is long enough\n")
    with pytest.raises(InputError, match="is damaged or not a safetensors file"):
        restore(tmp_path / "text", {})
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "other")
    with pytest.raises(InputError, match="was not written by jaxft"):
        restore(tmp_path / "other", {"w": np.zeros(2, np.float32)})
    with pytest.raises(InputError, match=r"cannot read .*missing: check that it exists"):
        restore(tmp_path / "missing", {})
    with pytest.raises(InputError, match="is a folder where a file is needed: name a file"):
        restore(tmp_path, {})
    save_params(tmp_path / "model", {"w": jnp.zeros(2)}, {})
    with pytest.raises(InputError, match="holds parameters, not checkpoint"):
        restore(tmp_path / "model", {"w": jnp.zeros(2)})


def test_another_format_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxft.base.tensor_files.FORMAT_VERSION", 99)
    save(tmp_path / "c", {"w": jnp.zeros(2)}, {})
    monkeypatch.undo()
    with pytest.raises(InputError, match="has format 99 and this version of jaxft reads format 1"):
        restore(tmp_path / "c", {"w": jnp.zeros(2)})
    with pytest.raises(InputError, match="has format 99"):
        read_meta(tmp_path / "c")


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    save(path, example_state(1), {"step": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    for name in ("os.replace", "os.fsync"):
        monkeypatch.setattr(name, fail)
        with pytest.raises(InputError, match=r"No space left on device.*: free some space"):
            save(path, example_state(2), {"step": 2})
        monkeypatch.undo()
        restored, meta = restore(path, example_state(0))
        assert_same_bits(example_state(1), restored)
        assert meta == {"step": 1}
        assert os.listdir(tmp_path) == ["c.safetensors"]
    with pytest.raises(InputError, match=r"cannot write .*missing"):
        save(tmp_path / "missing" / "c", {}, {})
    with pytest.raises(InputError, match=r"cannot write .*Not a directory"):
        save(path / "c", {}, {})


KILLED_WHILE_SAVING = """
import itertools, sys
import numpy as np
from jaxft.training.checkpoint import save
print("ready", flush=True)
for step in itertools.count(1):
    save(sys.argv[1], {"w": np.full(1_000_000, step, np.int64)}, {"step": step})
"""


def test_kill_9_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "c.safetensors"
    template = {"w": np.zeros(1_000_000, np.int64)}
    save(path, template, {"step": 0})
    process = subprocess.Popen([sys.executable, "-c", KILLED_WHILE_SAVING, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        while read_meta(path)["step"] < 3:  # under way; the saving itself is most of its time from here on
            time.sleep(0.01)
        time.sleep(0.013)
        process.send_signal(signal.SIGKILL)
        process.wait()
    tree, meta = restore(path, template)
    assert meta["step"] >= 3
    assert (tree["w"] == meta["step"]).all()
    save(path, template, {"step": 0})
    assert os.listdir(tmp_path) == ["c.safetensors"], "the next save clears away what the killed one left"


def test_restored_arrays_can_be_donated(tmp_path):
    one = jnp.ones(1000)
    save(tmp_path / "c", {"a": one, "b": one}, {})
    state = restore(tmp_path / "c", {"a": one, "b": one})[0]
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    np.testing.assert_array_equal(step(state)["b"], np.full(1000, 2.0))


def test_saving_100_megabytes_takes_well_under_a_second_of_cpu(tmp_path):
    tree = {str(i): jnp.full((500, 500), float(i)) for i in range(100)}
    save(tmp_path / "c", tree, {})
    started = time.process_time()
    save(tmp_path / "c", tree, {})
    assert time.process_time() - started < 0.9


def test_a_leaf_that_cannot_be_held_is_named(tmp_path):
    with pytest.raises(TypeError, match="b/0 is complex128"):
        save(tmp_path / "c", {"b": [np.zeros(2, np.complex128)]}, {})
    with pytest.raises(ValueError, match="several leaves have the path a/b"):
        save(tmp_path / "c", {"a": {"b": 1}, "a/b": 2}, {})
    with pytest.raises(ValueError, match="__metadata__"):
        save(tmp_path / "c", {"__metadata__": 1}, {})
    with pytest.raises(TypeError, match="JSON"):
        save(tmp_path / "c", {"a": 1}, {"path": tmp_path})
    assert os.listdir(tmp_path) == []
