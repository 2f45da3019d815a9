"""The one kind of error that a user can mend: every module raises it, every job prints it and ends with status 2."""

import sys
from collections.abc import Callable


class InputError(ValueError):
    """Bad input; the message is one sentence naming the file, row or flag and the remedy."""


def run_job(job: Callable[[], None]) -> None:
    """Runs `job`; an `InputError` becomes one line on standard error and exit status 2, without a traceback."""
    try:
        job()
    except InputError as error:
        print(f"jaxft: {error}", file=sys.stderr)
        sys.exit(2)
