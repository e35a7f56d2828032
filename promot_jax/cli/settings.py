"""Gin files and `--gin.NAME=VALUE` to a `Run`. The only place that knows gin.

Gin files import what they bind (`from __gin__ import dynamic_registration`), so the library itself
has no decorators. Capitalised names are macros: the settings that recipes, models and tasks share.
"""

import contextlib
import functools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import gin
from promot_jax.data import import_modules
from promot_jax.errors import UserError, near
from promot_jax.paths import INSTALLED_AT, resolve

for root in (INSTALLED_AT.parent, INSTALLED_AT):  # where recipes find what they include
    gin.add_config_file_search_path(str(root))
# Gin looks in every place and calls each one that lacks the file an error.
logging.getLogger().addFilter(lambda record: record.module != "resource_reader")

HINTS = {
    "WORKDIR": "where results go",
    "MODEL": "a file of gin/models",
    "VOCABULARY": "a file of gin/models",
    "VOCABULARY_FILE": "a SentencePiece model",
    "TASK": "a file of gin/tasks, or a task's name",
    "TASKS": "a list of task names",
    "FIRST_TASK": "the task tuned on before TASK",
    "BASE": "a work directory to start from",
}


def parse(files: Sequence[str], bindings: Sequence[str]) -> str:
    """Reads gin files, then bindings. Returns the settings in force as text.

    Raises:
      UserError: a missing file, a syntax error, an unknown name, or a setting that is required and
        missing; of these all are named.
    """
    gin.clear_config()
    for file in files:
        if not Path(resolve(file)).exists():
            known = [
                str(p.relative_to(INSTALLED_AT.parent))
                for p in INSTALLED_AT.parent.glob("gin/*/*.gin")
            ]
            raise UserError(f"--gin_file={file} does not exist{near(file, known)}")
    for file in files:
        with _gin_errors("gin settings"):
            gin.parse_config_file(resolve(file))
    before = gin.config_str()
    for binding in bindings:
        with _gin_errors(f"--gin.{binding}"):
            gin.parse_config([*_imports(before), binding])
    text = gin.config_str()
    if "run.Run." not in text:
        raise UserError("no --gin_file makes a run: add a recipe, such as gin/recipes/promot.gin")
    used, defined = _macros(text)
    _check_names([f"--gin.{binding}" for binding in bindings], used | _macros(before)[1])
    _check_names(defined, used | _shipped())
    if missing := sorted(used - defined):
        named = ", ".join(f"{name} ({HINTS[name]})" if name in HINTS else name for name in missing)
        raise UserError(
            f"settings are missing: {named}: set each as --gin.NAME=VALUE or by a --gin_file"
        )
    return text


def _imports(text: str) -> list[str]:
    """The import lines of settings: what the files could name, a binding can name too."""
    lines = [line for line in text.splitlines() if line.startswith(("from ", "import "))]
    return sorted(lines, key=lambda line: not line.startswith("from __gin__"))  # gin wants it first


def build(name: str):
    """What a configurable of the parsed settings makes, e.g. "Run".

    MODULES are imported first: settings such as `@data.mixture()` look tasks up when they are made.
    """
    with _gin_errors("gin settings"):
        if "MODULES" in _macros(gin.config_str())[1]:
            import_modules(gin.query_parameter("%MODULES"))
        return gin.get_configurable(name)()


@contextlib.contextmanager
def _gin_errors(where: str) -> Iterator[None]:
    """Raises UserError for gin's errors, which are of many classes."""
    try:
        yield
    except UserError as error:  # ours, with lines of gin's about the calls that led there
        raise UserError(str(error).split("\n")[0]) from error
    except Exception as error:
        said = str(error).split("In call to configurable")[0]  # gin adds where it was called from
        lines = " ".join(said.split()) or type(error).__name__
        if "malformed node" in lines:
            lines = "this is no value; a text needs quotes of its own: --gin.NAME='\"text\"'"
        raise UserError(f"{where}: {lines[:400]}") from error


def _macros(text: str) -> tuple[set[str], set[str]]:
    """The macros that settings use, and those that they define."""
    code = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|#.*", "''", text)
    used = re.findall(r"%([A-Za-z_]\w*)", code)
    return set(used), set(re.findall(r"^([A-Za-z_]\w*) *=", code, re.MULTILINE))


@functools.cache
def _shipped() -> set[str]:
    """The macros of this project's own files: not every recipe uses what a task file sets."""
    found: set[str] = set()
    for root in (INSTALLED_AT.parent, INSTALLED_AT):
        for path in root.glob("gin/*/*.gin"):
            found |= set.union(*_macros(path.read_text(encoding="utf-8")))
    return found


def _check_names(settings: Iterable[str], known: set[str]) -> None:
    """Raises UserError for a macro that no file uses: gin would take it without effect."""
    for setting in settings:
        name = setting.removeprefix("--gin.").partition("=")[0].strip()
        if re.fullmatch(r"\w+", name) and name not in known:
            said = setting.partition("=")[0].strip()
            raise UserError(
                f"{said}: none of the gin files uses a setting of this name{near(name, known)}"
            )
