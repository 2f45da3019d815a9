"""What a job sets up in its process keeps freed memory there, in huge pages."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys
import jax, jax.numpy as jnp
from jaxft.training.process import set_up
if sys.argv[1] == "set up":
    set_up()
step = jax.jit(lambda x: (jnp.outer(x, x) @ jnp.outer(x, x)).sum())  # some 50 MB in between
x = jnp.ones(2048)
step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step(x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a setting of the GNU C library")
def test_later_steps_ask_the_kernel_for_no_pages():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("set up") < faults("leave") / 4


HEAP = """
import resource, sys
from pathlib import Path
from jaxft.training.process import set_up

if sys.argv[1] == "limited":
    resource.setrlimit(resource.RLIMIT_AS, (2**36, resource.RLIM_INFINITY))

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

before = resident()
set_up()
areas = Path("/proc/self/smaps").read_text().split("VmFlags:")
asked = any("[heap]" in area and "hg" in after.splitlines()[0].split() for area, after in zip(areas, areas[1:]))
print(asked, resident() - before < 2_000)  # pages of 4 kB
"""


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages")
@pytest.mark.parametrize(("how", "asked"), [("free", "True"), ("limited", "False")])
def test_the_heap_asks_for_huge_pages_and_takes_none_yet_unless_addresses_are_limited(how, asked):
    done = subprocess.run([sys.executable, "-c", HEAP, how], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [asked, "True"]
