"""One place for each test."""

import pytest
from clouds import Cloud


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)
