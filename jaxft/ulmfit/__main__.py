"""The command `python -m jaxft.ulmfit`."""

from jaxft.errors import run_job
from jaxft.ulmfit.job import main

run_job(main)
