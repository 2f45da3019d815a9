"""Every benchmark here that needs no GPU, one after the other on one machine, beside the peers that are given.

    python tests/benchmarks/all.py --data reviews.csv [--checkpoint MINILM] [--run RUN] [--rounds N] [--only SCRIPT ...]
        [--fastai PYTHON_WITH_FASTAI --lm-script fastai_lm.py --job-script fastai_ulmfit.py]
        [--torch PYTHON_WITH_TORCH_TRANSFORMERS_AND_PYTORCH_CRF --step-script hf_finetune.py]

It prints the date, the processor and the versions, and the tables of each script. With both peers it takes about three
hours on two cores, most of it for the whole job. Nothing else should run on the machine.
"""

import argparse
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

JOB = ("--preset", "small", "--precision", "bf16")
BRIEF = (*JOB, "--lm.epochs", "1", "--classifier.plan", "last", "--classifier.epochs", "1", "--text.max-vocab", "5000")


def main() -> None:
    """Runs one script after the other, and goes on where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a CSV file with columns text, label and split")
    parser.add_argument("--checkpoint", help="folder of a BERT-like encoder")
    parser.add_argument("--run", help="folder of a finished run of ULMFiT")
    parser.add_argument("--rounds", default="3")
    parser.add_argument("--only", nargs="+", help="names of scripts")
    parser.add_argument("--fastai", help="Python with fastai")
    parser.add_argument("--lm-script", help="the peer of language_model_step.py")
    parser.add_argument("--job-script", help="the peer of whole_job.py")
    parser.add_argument("--torch", help="Python with torch, transformers and pytorch-crf")
    parser.add_argument("--step-script", help="the peer of finetune_step.py")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    failed = []
    for script, *arguments in rows(options):
        if options.only and script not in options.only:
            continue
        print(f"\n## {script} {' '.join(arguments)}\n", flush=True)
        if subprocess.run([sys.executable, str(Path(__file__).with_name(script)), *arguments], check=False).returncode:
            failed.append(script)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def rows(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Name and arguments of every script, with its peer where that is given."""
    data, rounds = ("--data", options.data), ("--rounds", options.rounds)
    fastai = ("--peer", options.fastai) if options.fastai else ()
    torch = ("--peer", options.torch) if options.torch else ()
    lm_peer = (*fastai, "--script", options.lm_script) if fastai and options.lm_script else ()
    for size in ("full", "small"):
        yield "language_model_step.py", size, *rounds, *lm_peer
        yield "classifier_step.py", size, *data, *rounds, *fastai
    if options.checkpoint:
        step_peer = (*torch, "--script", options.step_script) if torch and options.step_script else ()
        yield "finetune_step.py", options.checkpoint, *rounds, *step_peer
    for precision in ("f32", "bf16"):
        yield "encoders.py", *rounds, "--precision", precision, *torch
    yield "tagger_step.py", *rounds, *torch
    yield "update_overhead.py", "10"
    yield "memory_growth.py", *data, *BRIEF
    run = ("--run", options.run) if options.run else ()
    yield "start_up.py", *data, *rounds, *run, *JOB
    if run:
        yield "odd_texts.py", *data, *rounds, *run, *fastai
    yield ("many_documents.py",)
    if fastai:
        yield "tokenizing.py", *data, *rounds, *fastai
    if fastai and options.job_script:
        yield "whole_job.py", *data, *fastai, "--script", options.job_script, *JOB


def describe_machine() -> str:
    """Date, processor, and versions of the packages that matter."""
    info, processor = Path("/proc/cpuinfo"), platform.processor()
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        processor = f"{len(names)} cores of {names[0]}" if names else processor
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return f"{datetime.now(UTC):%Y-%m-%d}, {processor}, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main()
