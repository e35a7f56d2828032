"""An output in a bucket is worked on here, and what is brought back can be gone on with."""

import pytest

from promot_jax.errors import UserError
from promot_jax.paths import as_path
from promot_jax.run import brought as module
from promot_jax.run.brought import Brought, brought
from promot_jax.run.output import Output, beside

MAKER = {"model": "m", "input_length": 8}
ROWS = [{"inputs": text} for text in "abcd"]


@pytest.fixture
def there(bucket):
    return as_path(bucket[1])


def kept(here, maker=MAKER):
    """The lines that are whole, the answers to the next two, and the output."""
    out = Output(here.output, maker)
    list(out.keep(iter([]) if not out.path.stat().st_size else records(), here.source, 2))
    return out.done, out.begin(ROWS[2:]), out


def records():
    return ((i, row) for i, row in enumerate(ROWS, start=1))


def test_what_a_kill_leaves(there, tmp_path, monkeypatch):
    """After each batch it is there: whole windows, and the answers to a part of the next."""
    monkeypatch.setattr(module, "EVERY", 0)
    monkeypatch.setattr(module, "SHARE", 0)
    (there / "in.jsonl").write_text("lines")
    (tmp_path / "first").mkdir()
    here = Brought(there / "in.jsonl", there / "out.jsonl", tmp_path / "first")
    assert here.source.read_text(encoding="utf-8") == "lines" and not here.output.exists()
    done, answers, out = kept(here)
    assert (done, answers) == (0, {})
    with out:
        out.begin(ROWS[:2])
        out.add(['{"inputs": "a", "output": 1}', '{"inputs": "b", "output": 2}'])
        out.begin(ROWS[2:])
        out.note([1], [{"output": 4}])
        here.bring_back()
        out.note([0], [{"output": 3}])  # and is killed
    (tmp_path / "again").mkdir()
    again = Brought(there / "in.jsonl", there / "out.jsonl", tmp_path / "again")
    done, answers, out = kept(again)
    with out:
        assert (done, answers) == (2, {1: {"output": 4}})
    (there / "out.jsonl").write_text("")  # the copy was broken off before the lines were there
    (tmp_path / "third").mkdir()
    done, _, out = kept(Brought(there / "in.jsonl", there / "out.jsonl", tmp_path / "third"))
    out.__exit__()
    assert done == 0


def test_not_all_the_time(there, tmp_path, bucket):
    here = Brought(tmp_path / "in", there / "out", tmp_path)
    here.output.write_text("a line", encoding="utf-8")
    here.bring_back()
    assert not (there / "out").exists()
    here.bring_back(now=True)
    assert (there / "out").read_text() == "a line"
    bucket[0].fault = lambda method, name: 403
    here.bring_back(now=True)  # nothing is new
    here.output.write_text("another", encoding="utf-8")
    with pytest.raises(OSError, match="no permission"):
        here.bring_back(now=True)


def test_names_are_the_users(there, tmp_path):
    (there / "in.jsonl").write_text("")
    files, said = (there / "in.jsonl", there / "o.jsonl"), f"^{there}/o.jsonl and {there}/in.jsonl$"
    with pytest.raises(UserError, match=said), brought(*files) as here:
        here.output.write_text("done", encoding="utf-8")
        raise UserError(f"{here.output} and {here.source}")
    assert [path.name for path in there.iterdir()] == ["in.jsonl", "o.jsonl"]
    assert all(path.parent == there for path in beside(there / "o.jsonl"))
    with brought(tmp_path / "in", tmp_path / "out") as here:
        assert (here.source, here.output) == (tmp_path / "in", tmp_path / "out")
