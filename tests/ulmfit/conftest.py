"""Runs the jobs of these tests in a process of their own making."""

from tests.job_process import job_process as job_process
