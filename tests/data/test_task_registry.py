import sys

import pytest
import seqio

from promot_jax import data
from promot_jax.errors import UserError


def test_task_and_its_info(text_task):
    info = data.TaskInfo("nli", ["True", "False"])
    name = text_task([("a", "True")], info=info)
    assert isinstance(data.get_task(name), seqio.Task)
    assert data.task_info(name) == data.TaskInfo("nli", ("True", "False"))


def test_unknown_task_has_near_matches(text_task):
    name = text_task([("a", "b")])
    with pytest.raises(UserError, match=f"did you mean .*{name}"):
        data.get_task(name + "x")


def test_taken_and_impossible_names(text_task, source):
    rows = source({"train": {"inputs": ["a"], "targets": ["b"]}})
    name = text_task([("a", "b")])
    with pytest.raises(UserError, match="already registered"):
        data.add_task(name, rows, [], [])
    with pytest.raises(UserError, match="invalid characters"):
        data.add_task("my task!", rows, [], [])


def test_a_task_that_takes_a_name_over_has_its_own_info(text_task, source):
    name = text_task([("a", "b")], info=data.TaskInfo("first"))
    seqio.TaskRegistry.remove(name)
    data.add_task(name, source({"train": {"inputs": ["c"], "targets": ["d"]}}), [], [])
    assert data.task_info(name).group == "other"
    assert data.load_examples(name, "train")[0].inputs == "c"


@pytest.mark.parametrize(
    ("answer_format", "text", "expected"),
    [
        (("True", "False"), " True\n", True),
        (("True", "False"), "true", False),
        (("True", "False"), "True story", False),
        (str.isdigit, "12", True),
        (str.isdigit, "x", False),
        (None, "True", False),
    ],
)
def test_in_format(answer_format, text, expected):
    assert data.in_format(data.TaskInfo(answer_format=answer_format), text) is expected


@pytest.mark.parametrize("template", ["{question}", "{inputs", "{} {}"])
def test_bad_shot_template(template):
    with pytest.raises(UserError, match="shot_template"):
        data.TaskInfo(shot_template=template)


def test_answer_format_is_not_one_text():
    with pytest.raises(UserError, match="tuple"):
        data.TaskInfo(answer_format="True")
    with pytest.raises(UserError, match="chance=50.*share"):
        data.TaskInfo(chance=50)


def test_import_modules(tmp_path, monkeypatch):
    (tmp_path / "users_tasks_module.py").write_text("LOADED = True", encoding="utf-8")
    (tmp_path / "users_broken_module.py").write_text(
        "import package_that_is_not_there", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    data.import_modules("users_tasks_module")
    assert sys.modules["users_tasks_module"].LOADED
    with pytest.raises(UserError, match="'users_task_modul' is not found"):
        data.import_modules(["users_tasks_module", "users_task_modul"])
    with pytest.raises(UserError, match="package_that_is_not_there"):
        data.import_modules(["users_broken_module"])
