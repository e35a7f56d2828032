"""A metrics.jsonl with other contents: one line before anything is trained, in any stage."""

import shutil

import pytest
from test_bad_input import one_line, tree


@pytest.mark.parametrize("stage", ["1-prompt", "2-model"])
@pytest.mark.parametrize(
    "content", [b"[]\n", b'{"step": 1, "loss": "x"}\n', b"\xff\n", b"\n\n", b'{"step": -5}\n']
)
def test_one_line_before_training(promot, trained, tmp_path, stage, content):
    folder, arguments = trained
    shutil.copytree(folder, tmp_path / "run")
    log = tmp_path / "run/out" / stage / "metrics.jsonl"
    log.write_bytes(content + log.read_bytes())
    before = tree(tmp_path)
    result = promot(arguments, tmp_path / "run")
    one_line(result, [f"{stage}/metrics.jsonl, line 1, is no line of a log", "delete it"])
    assert tree(tmp_path) == before
    log.unlink()
    assert promot(arguments, tmp_path / "run").code == 0


def test_a_line_cut_off_by_a_crash_is_no_matter(promot, trained, tmp_path):
    folder, arguments = trained
    shutil.copytree(folder, tmp_path / "run")
    with (tmp_path / "run/out/2-model/metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 3, "lo')
    assert promot(arguments, tmp_path / "run").code == 0
