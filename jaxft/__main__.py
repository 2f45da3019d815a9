"""The command `jaxft`, or `python -m jaxft`: lists the jobs, or runs one of them."""

import runpy
import sys
from functools import partial

import jaxft
from jaxft.errors import run_job

JOBS = {
    "ulmfit": "train ULMFiT, from raw texts to a classifier",
    "pretrain": "train a language model on any text",
    "finetune": "fine-tune a transformer encoder on labelled texts",
    "ner": "train a tagger of named entities",
    "predict": "label texts with the model of a finished run, or continue a text",
    "push": "upload the model of a finished run to the Hugging Face hub",
    "export": "write the models of a finished run as fastai files",
}


def usage() -> str:
    """The text of `jaxft --help`."""
    width = max(map(len, JOBS)) + 2
    return "\n".join(
        [
            "usage: jaxft JOB [OPTIONS]",
            "",
            "Fine-tuning for JAX.",
            "",
            "jobs:",
            *(f"  {job:<{width}}{summary}" for job, summary in JOBS.items()),
            "",
            "jaxft JOB --help lists the options of a job; jaxft --version prints the version.",
        ]
    )


def _run_module(job: str) -> None:
    runpy.run_module(f"jaxft.{job}", run_name="__main__", alter_sys=True)


def main() -> None:
    """Runs the job that the command line names, as `python -m jaxft.<job>` does."""
    job, *arguments = sys.argv[1:] or ["--help"]
    if job in ("-h", "--help"):
        print(usage())
    elif job == "--version":
        print(f"jaxft {jaxft.__version__}")
    elif job in JOBS:
        sys.argv = [f"jaxft {job}", *arguments]
        run_job(partial(_run_module, job))
    else:
        print(f"jaxft: there is no job {job!r}: give one of {', '.join(JOBS)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
