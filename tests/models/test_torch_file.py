"""Files of torch.save are read without running what is in them."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxft.errors import InputError
from jaxft.models import pickle_machine
from jaxft.models.fastai import state_dict, vocabulary_from_pickle
from jaxft.models.pickle_machine import read_pickle
from jaxft.models.torch_file import LEGACY_MAGIC, LEGACY_PROTOCOL, read_tensors
from jaxft.models.torch_writer import pickled_state, write_state

FASTAI = Path(__file__).parents[1] / "golden" / "fastai"


class Attack:
    """Pickles to a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any):
        self._reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self._reduced


def zipped(content: bytes, **storages: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return file.getvalue()


def legacy(content: bytes) -> bytes:
    head = (LEGACY_MAGIC, LEGACY_PROTOCOL, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in head) + content + pickle.dumps([], 2)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_reads_plain_values_of_every_protocol(protocol: int):
    value = {"tokens": ["xxunk", "ü" * 300], "sizes": [1, -2, 70_000, 2**40, True, None, 0.5], "shape": ((), (1, 2, 3))}
    assert read_pickle(pickle.dumps(value, protocol), "file") == value


@pytest.mark.parametrize("function", [os.system, eval, exec, __import__, getattr, open], ids=lambda f: f.__name__)
@pytest.mark.parametrize("wrap", [lambda x: x, zipped, legacy], ids=["pickle", "zip", "legacy"])
def test_refuses_to_call_anything(tmp_path: Path, function: Any, wrap: Any):
    target = tmp_path / "made by an attack"
    attack = Attack(function, f"touch '{target}'" if function is os.system else f"open({str(target)!r}, 'w')")
    content = wrap(pickle.dumps({"model": {"0.encoder.weight": attack}}, 2))
    reader = read_pickle if content.startswith(b"\x80") and wrap is not legacy else read_tensors
    with pytest.raises(InputError, match=rf"refers to \w+\.{function.__name__}, which is neither"):
        reader(content, "model.pth")
    assert not target.exists()


def test_refuses_a_nested_reduce_behind_an_allowed_name():
    content = pickle.dumps(Attack(OrderedDict, [("key", Attack(eval, "1 / 0"))]), 2)
    with pytest.raises(InputError, match="eval, which is neither"):
        read_tensors(zipped(content), "model.pth")


@pytest.mark.parametrize("build", [b"\x80\x02ctorch\nFloatStorage\n(tR.", b"\x80\x02ctorch\nFloatStorage\n)\x81."])
def test_refuses_to_make_what_is_only_named(build: bytes):
    with pytest.raises(InputError, match=r"model\.pth"):
        read_tensors(zipped(build), "model.pth")


def view(size: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A pickle of one tensor over the storage "0" of `size` elements."""
    numbers = (pickle.dumps(x, 2)[2:-1] for x in (offset, shape, strides, False))
    storage = pickle.dumps("storage", 2)[2:-1] + b"ctorch\nFloatStorage\n" + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + storage + pickle.dumps(size, 2)[2:-1] + b"tQ"
    return head + b"".join(numbers) + b"ccollections\nOrderedDict\n)RtR."


@pytest.mark.parametrize("wrap", [zipped, legacy], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    ("size", "offset", "shape", "strides"),
    [
        (2**40, 0, (2**40,), (1,)),  # more than there is in the file
        (4, 0, (2**30, 2**30), (0, 0)),  # a huge array of one repeated element
        (4, 0, (5,), (1,)),
        (4, 3, (2,), (1,)),
        (4, 0, (2, 2), (1, 3)),
        (4, -1, (2,), (1,)),
        (4, 3, (2,), (-1,)),
        (4, 0, (2, 2), (1,)),
        (4, 0, (True,), (1,)),
        (-4, 0, (1,), (1,)),
    ],
)
def test_refuses_tensors_beyond_their_storage(wrap: Any, size: int, offset: int, shape: Any, strides: Any):
    content = view(size, offset, shape, strides)
    file = zipped(content, **{"0": np.arange(4, dtype="<f4").tobytes()}) if wrap is zipped else legacy(content)
    with pytest.raises(InputError, match=r"model\.pth is damaged"):
        read_tensors(file, "model.pth")


def test_a_zip_entry_that_holds_less_than_it_declares_is_refused():
    count = 20
    content = bytearray(zipped(view(count, 0, (count,), (1,)), **{"0": b"abcd"}))
    entry = content.rfind(b"PK\x01\x02")  # of the directory, which zipfile believes
    content[entry + 24 : entry + 28] = struct.pack("<I", 4 * count)
    with pytest.raises(InputError, match="needs 80 bytes and has 4"):
        read_tensors(bytes(content), "model.pth")


def test_storages_that_together_are_larger_than_the_file_are_refused():
    with pytest.raises(InputError, match="declares more data than it holds"):
        read_tensors(zipped(view(1000, 0, (1000,), (1,)), **{"0": b"abcd"}), "model.pth")


def test_many_views_of_one_storage_take_the_memory_of_one():
    storage = np.arange(1 << 16, dtype="<f4")
    one = view(len(storage), 0, storage.shape, (1,))[2:-1]
    content = b"\x80\x02(" + one * 2000 + b"l."
    views = read_tensors(zipped(content, **{"0": storage.tobytes()}), "model.pth")
    assert len(views) == 2000
    assert all(np.shares_memory(array, views[0]) for array in views)


@pytest.mark.parametrize(
    ("shape", "strides"), [((0, 1 << 80), (1, 1)), ((0, 1 << 62), (1, 1)), ((2,), (1 << 62,)), ((2,), (10**5000,))]
)
def test_numbers_beyond_any_array_are_refused(shape: tuple[int, ...], strides: tuple[int, ...]):
    with pytest.raises(InputError, match=r"model\.pth is damaged"):
        read_tensors(zipped(view(4, 0, shape, strides), **{"0": bytes(16)}), "model.pth")


def test_too_large_a_pickle_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pickle_machine, "LARGEST_PICKLE", 1000)
    with pytest.raises(InputError, match="has 1,001 bytes"):
        read_pickle(b"]" * 1001, "itos.pkl")
    with pytest.raises(InputError, match="too many instructions"):
        pickle_machine.PickleMachine("itos.pkl", {}, limit=100).run(io.BytesIO(b"]" * 1000))


@pytest.mark.parametrize("key", [b"K\x05", b"N", b"\x88"])
def test_a_state_dict_with_other_keys_than_names_is_refused(key: bytes):
    content = b"\x80\x02}" + key + view(1, 0, (1,), (1,))[2:-1] + b"s."
    with pytest.raises(InputError, match="holds no state_dict"):
        state_dict(zipped(content, **{"0": bytes(4)}), "model.pth")


def test_an_empty_tensor_is_read():
    assert read_tensors(zipped(view(0, 0, (0, 3), (3, 1)), **{"0": b""}), "model.pth").shape == (0, 3)


def test_reads_views_with_offset_and_strides():
    file = zipped(view(6, 1, (2, 2), (1, 2)), **{"0": np.arange(6, dtype="<f4").tobytes()})
    assert read_tensors(file, "model.pth").tolist() == [[1, 3], [2, 4]]


def test_a_bomb_of_references_stays_small():
    bomb: list = []
    for _ in range(100):
        bomb = [bomb, bomb]  # 2^100 leaves, if written out
    assert len(read_tensors(zipped(pickle.dumps(bomb, 2)), "model.pth")) == 2
    with pytest.raises(InputError, match=r"itos\.pkl holds no list of tokens"):
        vocabulary_from_pickle(pickle.dumps(bomb, 2), "itos.pkl")


def test_refuses_a_container_inside_itself():
    with pytest.raises(InputError, match="inside itself"):
        read_tensors(zipped(b"\x80\x02]q\x00h\x00a."), "model.pth")


@pytest.mark.parametrize("name", ["lm_zip.pth", "lm_legacy.pth", "classifier_1.pth"])
def test_any_cut_is_refused(name: str):
    content = (FASTAI / name).read_bytes()
    for size in range(0, len(content), 97):
        with pytest.raises(InputError, match=name):
            read_tensors(content[:size], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lm_zip.pth", "lm_legacy.pth"])
def test_a_changed_byte_ends_in_no_other_error(name: str):
    content = (FASTAI / name).read_bytes()
    for i in (*range(0, 4000, 7), *range(len(content) - 1500, len(content), 3)):
        with suppress(InputError):
            read_tensors(content[:i] + bytes([content[i] ^ 0x55]) + content[i + 1 :], name)


def test_refuses_compression_and_other_files():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    with pytest.raises(InputError, match="compressed inside"):
        read_tensors(file.getvalue(), "model.pth")
    with pytest.raises(InputError, match="not a file of torch"):
        read_tensors(b"", "model.pth")
    with pytest.raises(InputError, match=r"no data\.pkl"):
        read_tensors(zipped(b"").replace(b"data.pkl", b"data.txt"), "model.pth")


def test_what_is_written_is_read_back(tmp_path: Path):
    state = {"0.encoder.weight": np.arange(6, dtype=np.float32).reshape(3, 2), "scalar": np.array(7, np.int64)}
    write_state(tmp_path / "model.pth", state)
    tensors = read_tensors((tmp_path / "model.pth").read_bytes(), "model.pth")
    assert list(tensors) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(tensors[name], array)
        assert tensors[name].dtype == array.dtype


def test_storage_of_the_wrong_length_is_refused():
    state = {"a": np.ones(3, np.float32)}
    with pytest.raises(InputError, match="needs 12 bytes and has 8"):
        read_tensors(zipped(pickled_state(state), **{"0": struct.pack("<2f", 1, 2)}), "model.pth")
