"""`promot infer` on files of other people's kinds, and several of it on one output."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from command_lines import SCRIPT, TEXT, infer
from test_bad_input import one_line, tree

from promot_jax.cli.infer import DECODING
from promot_jax.cli.main import parser
from promot_jax.models import Decoding
from promot_jax.run import Answering

TRIALS = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared")) / "trials"
SHORT = ("--max_length=4", "--batch_size=4")


@pytest.fixture
def folder(trained, tmp_path):
    """A folder with a finished work directory, `trained`."""
    shutil.copytree(trained[0] / "out", tmp_path / "trained")
    return tmp_path


def asked(folder, rows, name="asked.jsonl"):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(lines, encoding="utf-8")


def answers(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_defaults_are_those_of_the_api():
    """That --help is quick is why they are written twice."""
    args, how = parser().parse_args(["infer", "w", "--input=a", "--output=b"]), Answering()
    for name in ("batch_size", "input_length", "too_long", "score", "prompt"):
        assert getattr(args, name) == getattr(how, name)
    decoding = {name: default for name, (default, _) in DECODING.items()}
    assert Decoding(**decoding, stop_texts=tuple(args.stop_text)) == Decoding()
    assert {*decoding, "stop_texts"} == vars(Decoding()).keys()


def test_long_lines_are_named_and_the_others_answered(promot, folder):
    """As ../shared/trials/long_line.py makes one, among lines that are merely long."""
    lamps = [1, 1000, 120_000, 3000, 1, 9999]
    asked(folder, [{"inputs": "Q: what does Clara own? A:" + " lamp" * n} for n in lamps])
    result = promot(infer(*SHORT), folder)
    assert result.code == 0, result.err
    assert "--input asked.jsonl, line 3, is not answered: 120" in result.err
    assert "line 6, is not answered" in result.err and "--input_length = 4096" in result.err
    assert '6 outputs in o.jsonl, 2 of them null ("too_long")' in result.err
    found = answers(folder / "o.jsonl")
    assert [row["output"] is None for row in found] == [n > 4000 for n in lamps]
    assert [row.get("too_long", 0) > n for row, n in zip(found, lamps, strict=True)] == [
        n > 4000 for n in lamps
    ]
    again = promot(infer(*SHORT), folder)
    assert "2 of them null" in again.err and answers(folder / "o.jsonl") == found
    one_line(promot(infer("--too_long=error", "--output=p.jsonl"), folder), ["line 3, has 120"])


def test_an_output_goes_on_with_less(promot, folder):
    """Smaller batches and a smaller bound: the way on where memory ran out."""
    asked(folder, [{"inputs": "a " * n} for n in (1, 40, 2)])
    assert promot(infer(*SHORT), folder).code == 0
    before = (folder / "o.jsonl").read_bytes()
    asked(folder, [{"inputs": "a " * n} for n in (1, 40, 2, 50)])
    result = promot(infer("--max_length=4", "--batch_size=1", "--input_length=45"), folder)
    assert result.code == 0 and "line 4, is not answered" in result.err, result.err
    assert (folder / "o.jsonl").read_bytes().startswith(before)
    one_line(promot(infer(*SHORT), folder), ["input_length = 45, not 4096", "continue it as"])


def test_out_of_memory_loses_nothing(promot, folder):
    """One batch asks for terabytes; the others are kept, and with a bound the command goes on."""
    asked(folder, [{"inputs": "lamp " * n} for n in (1, 500_000, 2)])
    result = promot(infer(*SHORT, "--input_length=10000000"), folder)
    assert result.code == 1 and result.err.count("out of memory (2 x 500001 tokens") == 1, (
        result.err
    )
    assert result.err.startswith("infer 2/3\npromot infer:"), result.err
    assert (folder / "o.jsonl.progress").read_text(encoding="utf-8").count('"answers"') == 1
    result = promot(infer(*SHORT), folder)
    assert result.code == 0 and "line 2, is not answered: 500" in result.err, result.err
    assert [row["output"] is None for row in answers(folder / "o.jsonl")] == [False, True, False]


def test_own_fields_are_kept(promot, folder):
    """Those that the answer does not overwrite: which these are depends on what is done."""
    row = {"id": 7, "inputs": "Q: what?", "targets": "a", "prompt": None, "note": {"x": [1.5, "é"]}}
    own = row | {"score": 4.5, "tokens": ["a", "b"], "greedy": "x"}
    asked(folder, [own])
    assert promot(infer(*SHORT), folder).code == 0
    [found] = answers(folder / "o.jsonl")
    assert found == own | {"output": found["output"]}
    own = row | {"output": "the gold answer", "too_long": "no"}
    asked(folder, [own])
    result = promot(infer("--score", "--too_long=error", "--output=s.jsonl"), folder)
    assert result.code == 0, result.err
    [found] = answers(folder / "s.jsonl")
    assert found.pop("score") < 0 < found.pop("tokens") and found.pop("greedy") in (True, False)
    assert found == own


@pytest.mark.skipif(not TRIALS.exists(), reason="needs ../shared/trials")
def test_trial_of_own_fields(promot, folder):
    shutil.copy(TRIALS / "own.jsonl", folder / "asked.jsonl")
    before = tree(folder)
    one_line(promot(infer(), folder), ["asked.jsonl, line 1", "'output'", "rename it"])
    assert tree(folder) == before


def test_line_ends_and_marks(promot, folder):
    """One rule for all files: \\n, \\r\\n and \\r each end a line; a byte order mark is no text."""
    (folder / "asked.txt").write_bytes(b"\xef\xbb\xbfone\rtwo\r\n\r\nthree\n \nfour")
    assert promot([*TEXT, *SHORT], folder).code == 0
    assert [row["inputs"] for row in answers(folder / "o.jsonl")] == ["one", "two", "three", "four"]
    lines = [json.dumps({"inputs": text}) for text in ("one", "two\u2028\x0b")]
    (folder / "asked.jsonl").write_bytes("\r".join(lines).encode())
    assert promot(infer(*SHORT, "--output=p.jsonl"), folder).code == 0
    assert [row["inputs"] for row in answers(folder / "p.jsonl")] == ["one", "two\u2028\x0b"]


def test_lines_with_columns_are_text(promot, folder):
    """A TSV is no file of fields here, which is said."""
    (folder / "asked.tsv").write_text("what?\tyes\n", encoding="utf-8")
    result = promot(infer(*SHORT, "--input=asked.tsv"), folder)
    assert result.code == 0 and "asked.tsv is read as text" in result.err
    assert answers(folder / "o.jsonl")[0]["inputs"] == "what?\tyes"


def test_depth_of_a_line(promot, folder):
    """What can be read can be written and read again; anything deeper is refused."""
    codes = []
    for depth in range(920, 1000, 8):
        nested = "[" * depth + "]" * depth
        (folder / "asked.jsonl").write_text(f'{{"inputs": "a", "b": {nested}}}', encoding="utf-8")
        result = promot(infer("--max_length=4", f"--output={depth}.jsonl"), folder)
        codes.append(result.code)
        if result.code:
            one_line(result, ["line 1", "nested too deeply"])
        else:
            assert promot(infer("--max_length=4", f"--output={depth}.jsonl"), folder).code == 0
    assert codes == sorted(codes) and set(codes) == {0, 2}


def test_home(promot, folder, monkeypatch):
    """A `~` that the shell did not expand."""
    home = Path.home()
    name = f"~/{os.path.relpath(folder, home)}"
    asked(folder, [{"inputs": "a"}])
    arguments = ["infer", f"{name}/trained", f"--input={name}/asked.jsonl", f"--output={name}/o"]
    result = promot([*arguments, *SHORT], folder)
    assert result.code == 0 and len(answers(folder / "o")) == 1, result.err
    assert not (folder / "~").exists()


def test_pipes(promot, folder):
    asked(folder, [{"inputs": "a"}])
    os.mkfifo(folder / "pipe")
    one_line(promot(infer("--output=pipe"), folder), ["--output pipe is a pipe"])
    one_line(promot(infer("--input=pipe"), folder), ["--input pipe is a pipe", "several times"])


def test_an_output_of_another_prompt(promot, folder):
    asked(folder, [{"inputs": "a"}, {"inputs": "b", "prompt": None}])
    assert promot(infer(*SHORT, "--prompt=target"), folder).code == 0
    before = tree(folder)
    one_line(
        promot(infer(*SHORT), folder),
        ["begun with prompt = 'target', not None, of the lines that name none", "give another"],
    )
    assert tree(folder) == before


def test_an_output_of_another_vocabulary(promot, folder):
    """An exported model says nothing of its own of its vocabulary's digest; the output does."""
    assert promot(["export", "trained", "hf"], folder).code == 0
    asked(folder, [{"inputs": "lamp"}])
    export = ["infer", "hf", *infer(*SHORT)[2:]]
    assert promot(export, folder).code == 0
    pieces = folder / "hf/spiece.model"
    content = bytearray(pieces.read_bytes())
    content[content.index(b"lamp")] ^= 1  # another piece
    pieces.write_bytes(content)
    before = tree(folder)
    result = promot(export, folder)
    assert result.code == 2 and "o.jsonl was begun with another vocabulary" in result.err
    assert tree(folder) == before


def test_two_processes_and_a_kill(promot, folder, environment):
    """The second is refused, by whatever path; after kill -9 the next one goes on."""
    asked(folder, [{"inputs": f"what follows {n}?"} for n in range(400)])
    (folder / "other").symlink_to(folder)
    options = ["--batch_size=2", "--max_length=16"]
    first = subprocess.Popen([SCRIPT, *infer(*options)], cwd=folder, env=environment)
    progress = folder / "o.jsonl.progress"
    while not progress.exists() or progress.read_bytes().count(b"\n") < 3:
        assert first.poll() is None
        time.sleep(0.05)
    for output in ("o.jsonl", "other/o.jsonl", str(folder / "o.jsonl")):
        second = promot(infer(*options, f"--output={output}"), folder)
        one_line(second, [f"--output {output} is in use by another process", "wait for it"])
    first.kill()
    first.wait()
    assert progress.read_bytes().count(b"\n") >= 3
    assert promot(infer(*options, "--output=other/o.jsonl"), folder).code == 0
    assert promot(infer(*options, "--output=p.jsonl"), folder).code == 0
    assert (folder / "o.jsonl").read_bytes() == (folder / "p.jsonl").read_bytes()
    assert [row["inputs"] for row in answers(folder / "o.jsonl")] == [
        row["inputs"] for row in answers(folder / "asked.jsonl")
    ]
