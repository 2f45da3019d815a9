"""What a job sets up in its process keeps freed memory there."""

import subprocess
import sys

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
