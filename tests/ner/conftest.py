"""What several tests of taggers read: files of sentences."""

import pytest

from tests.ner.toy import write_parts


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the names of the files of train, dev and test begin with."""
    return write_parts(tmp_path_factory.mktemp("data"))
