"""The command `python -m jaxft.ner`."""

from collections.abc import Sequence

from jaxft.errors import run_job


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, and then loads what the job needs, so that help and refusals are fast."""
    from jaxft.ner.settings import parse

    settings = parse(arguments)
    from jaxft.ner.job import JOB

    JOB.run_command(settings)


if __name__ == "__main__":
    run_job(main)
