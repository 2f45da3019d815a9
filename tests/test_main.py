"""The command `jaxft`: it lists the jobs, prints the version, and runs a job."""

import importlib.metadata
import subprocess
import sys

import jaxft
from jaxft.__main__ import JOBS, usage


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "jaxft", *arguments], capture_output=True, text=True)


def test_the_usage_lists_every_job_with_one_line():
    lines = usage().splitlines()
    for job, summary in JOBS.items():
        assert [line for line in lines if line.split(maxsplit=1) == [job, summary]]


def test_without_a_job_the_usage_is_printed():
    assert command().stdout == command("--help").stdout == usage() + "\n"


def test_the_version_has_one_source():
    assert command("--version").stdout == f"jaxft {jaxft.__version__}\n"
    assert importlib.metadata.version("jaxft") == jaxft.__version__


def test_an_unknown_job_is_refused_in_one_sentence():
    ended = command("finetun")
    assert ended.returncode == 2
    assert ended.stderr.startswith("jaxft: there is no job 'finetun': give one of ulmfit,")
    assert ended.stderr.count("\n") == 1


def test_a_job_gets_its_arguments():
    ended = command("predict", "--help")
    assert ended.returncode == 0
    assert "--text" in ended.stdout
    assert command("ner", "--data", "nowhere").returncode == 2
