"""How a job ends, seen from outside."""

import subprocess
import sys

import pytest

START = "from jaxft.errors import InputError, Stopped, run_job\n"


def ended(job, text=True):
    return subprocess.run([sys.executable, "-c", START + job], capture_output=True, text=text)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        ('InputError("a.csv is empty: fill it")', 2, "jaxft: a.csv is empty: fill it\n"),
        ('Stopped("stopped by SIGTERM")', 130, "jaxft: stopped by SIGTERM\n"),
        ("KeyboardInterrupt()", 130, "jaxft: stopped\n"),
    ],
)
def test_an_end_is_one_line_and_a_status(error, status, line):
    process = ended(f"def job():\n    raise {error}\nrun_job(job)")
    assert (process.returncode, process.stderr, process.stdout) == (status, line, "")


INTERRUPTED = """\
import gc, os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in a background process
def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize(
    "job",
    [
        "try:\n        interrupt()\n    except KeyboardInterrupt:  # as libraries do on import\n        pass",
        "let_interrupts_raise()\n    interrupt()",
        "let_interrupts_raise()\n    gc.callbacks.append(interrupt)\n    gc.collect()",
    ],
)
def test_ctrl_c_ends_a_job_wherever_it_comes(job):
    start = f"from jaxft.errors import let_interrupts_raise\n{INTERRUPTED}"
    process = ended(f"{start}def job():\n    {job}\n    print('goes on')\nrun_job(job)")
    assert (abs(process.returncode), process.stderr, process.stdout) == (130, "jaxft: stopped\n", "")


def test_a_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-c", START + "run_job(lambda: print('line\\n' * 10**6))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_the_name_of_any_file_is_printed_as_it_is():
    process = ended("import os\nrun_job(lambda: print(os.fsdecode(b'r\\xe9sum\\xe9.csv')))", text=False)
    assert (process.returncode, process.stdout) == (0, b"r\xe9sum\xe9.csv\n")
