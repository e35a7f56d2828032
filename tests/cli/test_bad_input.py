"""Bad input through the command line: one clear line, exit code 2, and nothing written.

The cases are in `bad_*.py`.
"""

import re
import shutil
from pathlib import Path

import pytest
from bad_absurd import ABSURD
from bad_decoders import DECODERS
from bad_directories import CHECKPOINTS, DIRECTORIES, NAMES, REPORT
from bad_inference import INFER, INFER_MORE
from bad_remedies import REMEDIES
from bad_settings import DATA, SETTINGS, TRAINING, VALUES
from bad_sources import CONVERT, SOURCES
from command_lines import ASKED, Bad, infer, run

CASES = [
    *(DATA + TRAINING + SETTINGS + VALUES + ABSURD + INFER + INFER_MORE),
    *(DIRECTORIES + CHECKPOINTS + NAMES + REPORT + CONVERT + SOURCES + DECODERS + REMEDIES),
]
RECIPES = Path(__file__).parents[2] / "gin" / "recipes"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every folder and every file's content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def one_line(result, says: list[str]) -> None:
    """The one thing that bad input may leave."""
    assert result.code == 2, result.err
    assert result.out == ""
    assert result.err.startswith("promot"), result.err
    assert result.err.endswith("\n") and result.err.count("\n") == 1, result.err
    assert [word for word in says if word not in result.err] == [], result.err


def case_id(bad: Bad) -> str:
    return re.sub(r"\W+", "_", bad.name)


def prepare(bad: Bad, rows: str, folder: Path) -> list[str]:
    """Writes the case's files; its arguments with a task name of its own."""
    for name, content in ({"mine.tsv": rows} | bad.files).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [argument.replace("NAME'", f"{case_id(bad)}'") for argument in bad.arguments]


@pytest.mark.parametrize("bad", CASES, ids=case_id)
def test_one_clear_line(request, promot, rows, tmp_path, bad):
    arguments = prepare(bad, rows, tmp_path)
    if any("trained" in argument for argument in arguments):
        shutil.copytree(request.getfixturevalue("trained")[0] / "out", tmp_path / "trained")
    if any("tuned" in argument for argument in arguments):
        shutil.copytree(request.getfixturevalue("tuned") / "out", tmp_path / "tuned")
    before = tree(tmp_path)
    one_line(promot(arguments, tmp_path), bad.says)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("bad", [DATA[2], SETTINGS[7]], ids=case_id)
def test_one_clear_line_of_the_console_script(script, rows, tmp_path, bad):
    arguments = prepare(bad, rows, tmp_path)
    before = tree(tmp_path)
    one_line(script(arguments, tmp_path), bad.says)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.gin")), ids=lambda path: path.stem)
def test_recipes_say_what_they_need(promot, tmp_path, path):
    result = promot(["run", f"--gin_file=gin/recipes/{path.name}"], tmp_path)
    one_line(result, ["settings are missing", "WORKDIR (where results go)"])


def damage(directory: Path) -> None:
    """Cuts every file below in half."""
    for path in directory.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("part", ["", "variables", "variables/ocdbt.process_0/d", "note"])
@pytest.mark.parametrize("use", ["base", "infer"])
def test_damaged_checkpoint(promot, trained, rows, tmp_path, use, part):
    shutil.copytree(trained[0] / "out", tmp_path / "trained")
    damage(tmp_path / "trained/2-model/checkpoints/2" / part)
    bad = Bad(f"damaged {use} {part}", run(BASE="trained") if use == "base" else infer(), [], ASKED)
    arguments = prepare(bad, rows, tmp_path)
    before = tree(tmp_path)
    one_line(promot(arguments, tmp_path), ["2-model/checkpoints/2 is damaged", "restore it"])
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        run(BASE="trained"),
        infer(),
        ["export", "trained", "o"],
        ["eval", "trained", *run(WORKDIR="scores")[3:]],
    ],
    ids=lambda arguments: "_".join(arguments[::2][:2]),
)
def test_flipped_bits(promot, trained, rows, tmp_path, arguments):
    """What decodes to other numbers is not read either, whoever reads."""
    shutil.copytree(trained[0] / "out", tmp_path / "trained")
    for path in (tmp_path / "trained").glob("2-model/checkpoints/2/variables/*/d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    arguments = prepare(Bad("flipped", arguments, [], ASKED), rows, tmp_path)
    before = tree(tmp_path)
    one_line(promot(arguments, tmp_path), ["2-model/checkpoints/2 is damaged", "restore it"])
    assert tree(tmp_path) == before


@pytest.mark.parametrize("part", ["variables", "note"])
def test_damaged_checkpoint_of_a_run_that_goes_on(promot, trained, tmp_path, part):
    """Stage two is about to begin, from a checkpoint of stage one that cannot be read."""
    folder, arguments = trained
    shutil.copytree(folder, tmp_path / "run")
    damage(tmp_path / "run/out/1-prompt/checkpoints/2" / part)
    shutil.rmtree(tmp_path / "run/out/2-model")
    before = tree(tmp_path)
    one_line(
        promot(arguments, tmp_path / "run"),
        ["1-prompt/checkpoints/2 is damaged", "or delete", "1-prompt to begin the stage anew"],
    )
    after = tree(tmp_path)
    assert {path for path in after if after[path] != before.get(path)} == set()  # no file, that is
