"""The command `python -m jaxft.finetune`."""

from jaxft.errors import run_job
from jaxft.finetune.job import main

run_job(main)
