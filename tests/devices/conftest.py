import pytest

from tests.devices.small_jobs import flags_of_jobs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The flags of each job for some made-up data."""
    return flags_of_jobs(tmp_path_factory.mktemp("data"))
