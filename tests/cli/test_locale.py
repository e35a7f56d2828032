"""Text is UTF-8 in every locale: of the files, of their names, and of the command line."""

import json
import subprocess
import sys

import pytest

SCRIPT = [sys.executable, "-m", "promot_jax.cli.script"]
# The C locale, without what Python does to mend it; as strange as ISO-8859-1, and everywhere.
LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture
def abroad(environment, tmp_path):
    """(arguments) -> a finished process in a locale that is not UTF-8."""

    def call(*arguments):
        return subprocess.run(
            [*SCRIPT, *arguments], cwd=tmp_path, env=environment | LOCALE, capture_output=True
        )

    return call


def test_import_and_infer(abroad, promot, trained, tmp_path):
    done = promot(["export", trained[0] / "out", tmp_path / "modèle"], tmp_path)
    assert done.code == 0, done.err
    done = abroad("import", "modèle", "travail/été")
    assert done.returncode == 0, done.stderr
    made = tmp_path / "travail/été"
    for name in ("sentencepiece.model", "config.gin"):
        assert (made / name).exists()
    ours = (trained[0] / "out/sentencepiece.model").read_bytes()
    assert (made / "sentencepiece.model").read_bytes() == ours
    (tmp_path / "été.txt").write_text("où est Anna…?\n", encoding="utf-8")
    done = abroad("infer", "travail/été", "--input=été.txt", "--output=réponse.jsonl")
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "réponse.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["inputs"] == "où est Anna…?"


def test_a_message_with_accents(abroad):
    done = abroad("inspect", "nulle part/été…")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert "nulle part/été…" in done.stderr.decode()


def test_a_name_that_is_not_utf_8(abroad):
    done = abroad("inspect", b"\xe9t\xe9")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert b"'\\udce9t\\udce9' is not UTF-8: rename it" in done.stderr
