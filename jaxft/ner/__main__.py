"""The command `python -m jaxft.ner`."""

from jaxft.errors import run_job
from jaxft.ner.job import main

run_job(main)
