"""What a command sets up in its process before it computes: compiled programs are kept, and so is freed memory."""

import ctypes
import sys

import jax

from jaxft.files import cache_folder

# from <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def set_up() -> None:
    """Sets up the process of a job; call it before anything is computed.

    Compiled programs are kept in the cache folder, so that a second run starts at once. And with the GNU C library,
    memory that is freed stays with the process: XLA asks for all of a step's memory anew at every step, and without
    this the kernel would clear each page of it every time, which is a tenth of a step on a CPU. There a step is also
    computed by the thread that asks for it: another thread would give the memory of a step back only after the next one
    has asked for its own, and the job would hold twice as much.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
        library.mallopt(M_ARENA_MAX, 1)
