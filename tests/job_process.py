"""The process that the tests of jobs run in: their conftest.py imports the fixture."""

import os
from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

LITTLE_OPTIMIZATION = "JAX_DISABLE_MOST_OPTIMIZATIONS"


@pytest.fixture(scope="module", autouse=True)
def job_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gives the jobs of a module, and programs that they start, a private cache and a compiler that optimizes little.

    Most of the time of a small job is compilation, and a resumed run compiles what the first one did. With the variable
    set to 0 the tests run with all optimizations.
    """
    cache, value = tmp_path_factory.getbasetemp() / "cache", os.environ.get(LITTLE_OPTIMIZATION, "1")
    options = {
        "jax_disable_most_optimizations": value == "1",
        "jax_compilation_cache_dir": str(cache / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: jax.config.values[name] for name in options}

    def configure(options: dict) -> None:
        jax.clear_caches()  # a program that was compiled otherwise may round otherwise
        compilation_cache.reset_cache()
        for name, option in options.items():
            jax.config.update(name, option)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXFT_CACHE", str(cache))
        patch.setenv(LITTLE_OPTIMIZATION, value)
        configure(options)
        yield
        configure(before)


@pytest.fixture
def all_optimizations() -> Iterator[None]:
    """Compiles with all optimizations, which pays where a test takes many large steps."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
