"""Jobs that are killed or asked to stop, at moments and file operations from a seeded generator; see `kills`."""

import re
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the program needs fork and /proc")
def test_a_job_that_is_ended_on_the_way_resumes_to_the_same_bits():
    command = [sys.executable, "-m", "tests.faults.kills", "--tries", "2", "--job", "pretrain"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"2 tries \(pretrain 2\), ended [1-8] times, 0 lost", ended.stdout)
