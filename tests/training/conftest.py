"""What the tests of training share: a task from a file, and a model with its variables."""

import pytest
import tiny_training


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    return tiny_training.write_tsv(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="session")
def batches(task):
    return tiny_training.batches_of(task)


@pytest.fixture(scope="session")
def model():
    return tiny_training.tiny()


@pytest.fixture(scope="session")
def variables(model):
    return tiny_training.variables_of(model)
