"""Parameters come back bit for bit with their keys, and other libraries can open the file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxft.base.tensor_files import load_params, read_meta, save_params
from jaxft.errors import InputError
from jaxft.training import checkpoint

PARAMS = {
    "encoder": {"layers": {0: {"w": jnp.ones((2, 3), jnp.bfloat16)}, 10: {"w": jnp.array([-0.0, 5e-45])}}},
    "b": jnp.arange(3),
}


def test_parameters_come_back_with_their_keys_types_and_metadata(tmp_path):
    save_params(tmp_path / "m.safetensors", PARAMS, {"classes": ["négatif", "positif"]})
    loaded = load_params(tmp_path / "m.safetensors")
    assert jax.tree.structure(loaded) == jax.tree.structure(PARAMS)
    for new, old in zip(jax.tree.leaves(loaded), jax.tree.leaves(PARAMS), strict=True):
        assert isinstance(new, jax.Array)
        assert (new.dtype, new.shape, new.weak_type) == (old.dtype, old.shape, False)
        assert np.asarray(new).tobytes() == np.asarray(old).tobytes()
    assert read_meta(tmp_path / "m.safetensors") == {"classes": ["négatif", "positif"]}


def test_the_file_opens_elsewhere_and_others_may_read_it(tmp_path):
    save_params(tmp_path / "m.safetensors", PARAMS, {})
    assert sorted(load_file(tmp_path / "m.safetensors")) == ["b", "encoder/layers/0/w", "encoder/layers/10/w"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_is_no_nested_dictionary_is_refused(tmp_path):
    with pytest.raises(TypeError, match="nested dictionaries"):
        save_params(tmp_path / "m", {"layers": [jnp.ones(2)]}, {})
    with pytest.raises(ValueError, match="several leaves have the path a/b"):
        save_params(tmp_path / "m", {"a": {"b": jnp.ones(2)}, "a/b": jnp.ones(2)}, {})
    with pytest.raises(TypeError, match="w is complex128"):
        save_params(tmp_path / "m", {"w": np.zeros(2, np.complex128)}, {})
    with pytest.raises(TypeError, match="JSON"):
        save_params(tmp_path / "m", {"w": jnp.ones(2)}, {"path": tmp_path})
    assert not list(tmp_path.iterdir())


def test_what_holds_no_parameters_of_jaxft_is_refused(tmp_path):
    checkpoint.save(tmp_path / "state", {"w": jnp.zeros(2)}, {})
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "other")
    (tmp_path / "text").write_text("not a model at all, only text that is long enough\n")
    for name, message in (
        ("state", "holds checkpoint, not parameters"),
        ("other", "was not written by jaxft"),
        ("text", "is damaged or not a safetensors file"),
        ("missing", "cannot read .*missing: check that it exists"),
    ):
        with pytest.raises(InputError, match=message):
            load_params(tmp_path / name)


def test_another_format_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxft.base.tensor_files.FORMAT_VERSION", 99)
    save_params(tmp_path / "m", {"w": jnp.zeros(2)}, {})
    monkeypatch.undo()
    for read in (load_params, read_meta):
        with pytest.raises(InputError, match="has format 99 and this version of jaxft reads format 1"):
            read(tmp_path / "m")
