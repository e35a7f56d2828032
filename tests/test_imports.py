"""Who imports what: TensorFlow comes in by one door, which keeps it quiet."""

import ast
from pathlib import Path

import promot_jax
from promot_jax import data, run, training

ROOT = Path(promot_jax.__file__).parent
HEAVY = ("tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio")


def imported(path):
    """Names of the modules that a file imports when it is run."""
    found = set()
    todo = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
        todo += ast.iter_child_nodes(node)
    return found


def test_one_door():
    found = {p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py") if imported(p) & {*HEAVY}}
    assert found == {"data/quiet.py"}


def test_all_names_are_there():
    for package in (data, run, training):
        assert sorted(package.__all__) == package.__all__
        assert all(callable(getattr(package, name)) for name in package.__all__)
        assert set(package.__all__) <= set(dir(package))
