"""Settings of every test: strict dtypes and shapes, quick compilation, and real data only where it is given.

Most of the time of a test is compilation, so programs are compiled with few optimizations and kept in
`.pytest_cache`, which `--cache-clear` empties. To compile as a user's process does, put
`XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0` before the command.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from hypothesis import settings

settings.register_profile("jaxft", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("jaxft")
# Set in the environment, so that programs that a test starts compile in the same way.
if (0, 10, 1) <= jax.__version_info__ < (0, 11):  # others fail at bfloat16 with it, or have no such flag
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "1")  # so that the results do not depend on the number of cores
jax.config.update("jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def private_cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests out of the user's own cache; compiled programs are shared with other processes and later runs."""
    assert pytestconfig.cache is not None
    cache = tmp_path_factory.getbasetemp() / "cache"
    cache.mkdir()
    (cache / "compiled").symlink_to(pytestconfig.cache.mkdir("compiled"))
    jax.config.update("jax_compilation_cache_dir", str(cache / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXFT_CACHE", str(cache))
        yield


@pytest.fixture(scope="session", autouse=True)
def the_same_precision_everywhere() -> Iterator[None]:
    """Lets `--precision auto` stand for float32 whatever processor the tests run on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxft.training.precision.multiplies_bfloat16", lambda: False)
        yield


@pytest.fixture
def all_optimizations() -> Iterator[None]:
    """Compiles with all optimizations, which pays where a test takes many large steps."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that `JAXFT_DATA` names; the test is skipped where it is not set."""
    if not os.environ.get("JAXFT_DATA"):
        pytest.skip("JAXFT_DATA names no folder of real data")
    return Path(os.environ["JAXFT_DATA"])


@pytest.fixture(scope="session")
def cases(real_data: Path) -> Path:
    """The folder of small files of awkward forms beside the real data; the test is skipped where there is none."""
    folder = real_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip("no folder of cases lies beside the real data")
    return folder


@pytest.fixture(scope="session")
def tiny_others(tiny_checkpoint, tmp_path_factory) -> dict[str, Path]:
    """Checkpoints of encoders whose layers are not those of BERT, each with the tokenizer of `tiny_checkpoint`."""
    golden, folders = Path(__file__).parent / "golden/bert", {}
    for name in ("deberta", "modernbert"):
        folders[name] = shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("tiny") / name)
        for file in ("config.json", "model.safetensors"):
            shutil.copy(golden / name / file, folders[name] / file)
    return folders


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A BERT of two layers and 16 features without a head, and a tokenizer of 40 words."""
    from safetensors.numpy import load_file, save_file
    from transformers import BertTokenizer

    golden, folder = Path(__file__).parent / "golden/bert/bert", tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text((golden / "config.json").read_text())
    state = load_file(golden / "model.safetensors")
    base = {name: array for name, array in state.items() if not name.startswith("classifier")}
    save_file(base, folder / "model.safetensors", metadata={"format": "pt"})
    words = (
        "the a film was is good bad fine dull great poor i saw it and but not very so all of this one two three four"
    )
    words += " five six seven eight nine ten yes no"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split()]
    (folder / "vocab.txt").write_text("\n".join(tokens[:40]) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(str(folder))
    return folder
