"""The command `python -m jaxft.pretrain`."""

from jaxft.errors import run_job
from jaxft.pretrain.job import main

run_job(main)
