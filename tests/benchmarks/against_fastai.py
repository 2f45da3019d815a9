"""ULMFiT beside fastai, row by row: every benchmark of this folder that has fastai for a peer, and two that need none.

    python tests/benchmarks/against_fastai.py --data reviews.csv --peer PYTHON_WITH_FASTAI --lm-script fastai_lm.py
        --job-script fastai_ulmfit.py [--rounds N]

Takes about two hours on two cores, most of it for the whole job. Nothing else should run on the machine.
"""

import argparse
import subprocess
import sys
from pathlib import Path

JOB = ("--preset", "small", "--precision", "bf16")
BRIEF = (*JOB, "--lm.epochs", "1", "--classifier.plan", "last", "--classifier.epochs", "1", "--text.max-vocab", "5000")


def main() -> None:
    """Runs one script after the other, and goes on where one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a CSV file with columns text, label and split")
    parser.add_argument("--peer", required=True, help="Python with fastai")
    parser.add_argument("--lm-script", required=True)
    parser.add_argument("--job-script", required=True)
    parser.add_argument("--rounds", default="3")
    options = parser.parse_args()
    data, peer, rounds = ("--data", options.data), ("--peer", options.peer), ("--rounds", options.rounds)
    rows = [
        ("language_model_step.py", "full", *rounds, *peer, "--script", options.lm_script),
        ("language_model_step.py", "small", *rounds, *peer, "--script", options.lm_script),
        ("classifier_step.py", "full", *data, *rounds, *peer),
        ("classifier_step.py", "small", *data, *rounds, *peer),
        ("tokenizing.py", *data, *rounds, *peer),
        ("memory_growth.py", *data, *BRIEF),
        ("start_up.py", *data, *rounds, *JOB),
        ("whole_job.py", *data, *peer, "--script", options.job_script, *JOB),
    ]
    failed = []
    for script, *arguments in rows:
        print(f"\n## {script} {' '.join(arguments)}\n", flush=True)
        if subprocess.run([sys.executable, str(Path(__file__).with_name(script)), *arguments], check=False).returncode:
            failed.append(script)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
