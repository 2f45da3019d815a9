"""Runs the jobs of these tests with a private cache and a compiler that optimizes little."""

from tests.job_process import job_process as job_process
