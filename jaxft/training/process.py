"""Set-up of a command's process: a cache of compiled programs, and a heap of huge pages that keeps freed memory."""

import ctypes
import mmap
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import jax

from jaxft.base.files import cache_folder
from jaxft.errors import InputError, let_interrupts_raise

# from <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def set_up() -> None:
    """Sets up the process of a job; call it before anything is computed.

    Compiled programs are kept in the cache folder, so a second run starts at once. A CPU computes a step in the thread
    that asks for it: with another thread, the memory of a step is freed only after the next step has allocated its
    memory, and the job holds twice as much. With the GNU C library, memory that a step frees stays with the process:
    XLA allocates all of a step's memory at every step, and the kernel would clear each page of it every time, which
    takes a tenth of a step. Huge pages, where the kernel gives them to those who ask, take another tenth off a step in
    bfloat16. Where a plugin for an accelerator is installed, which has memory of its own and whose compiler has many
    threads, the heap stays as it is.

    Raises:
        InputError: JAX computes in 64 bits.
    """
    let_interrupts_raise()
    if jax.config.values["jax_enable_x64"]:
        raise InputError("JAX_ENABLE_X64 is on, and the jobs compute in 32 bits: turn it off")
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # A full disk, or a process that was killed as it wrote, costs the time of compiling once more.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    if find_spec("jax_plugins") or find_spec("libtpu"):
        return
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
        library.mallopt(M_ARENA_MAX, 1)
        _ask_for_huge_pages(library)


def _ask_for_huge_pages(library: ctypes.CDLL) -> None:
    """Extends the heap once, in addresses alone, by half of the machine's memory, and asks for huge pages there."""
    import resource  # of Unix

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    counted = Path("/proc/sys/vm/overcommit_memory")
    if limit != resource.RLIM_INFINITY or not counted.exists() or counted.read_text().strip() == "2":
        return  # addresses that hold nothing would be missed elsewhere
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = os.sysconf("SC_PHYS_PAGES") // 2 * mmap.PAGESIZE
    if start := library.malloc(size):
        aligned = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        library.madvise(aligned, start + size - aligned, mmap.MADV_HUGEPAGE)
        library.free(start)
