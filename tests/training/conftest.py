"""What the tests of training share: a task from a file, and a model with its variables.

It is a T5 unless a test is of `both_kinds`.
"""

import pytest
import tiny_training


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    return tiny_training.write_tsv(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="session")
def kind(request):
    return getattr(request, "param", tiny_training.T5)


@pytest.fixture(scope="session")
def batches(task, kind):
    return tiny_training.batches_of(task, kind=kind)


@pytest.fixture(scope="session")
def model(kind):
    return tiny_training.tiny(kind)


@pytest.fixture(scope="session")
def variables(model):
    return tiny_training.variables_of(model)
