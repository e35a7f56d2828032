"""Gin files and `--gin.NAME=VALUE` to a `Run`. The only place that knows gin.

Gin files import what they bind (`from __gin__ import dynamic_registration`), so the library itself
has no decorators. Capitalised names are macros: the settings that recipes, models and tasks share.
"""

import contextlib
import functools
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gin
from promot_jax.cli.gin_files import fault, in_order, settings_of, use_our_reader
from promot_jax.data import import_modules
from promot_jax.errors import UserError, near
from promot_jax.paths import INSTALLED_AT

use_our_reader()

HINTS = {
    "WORKDIR": "where results go",
    "MODEL": "a file of gin/models",
    "VOCABULARY": "a file of gin/models",
    "VOCABULARY_FILE": "a SentencePiece model, or the tokenizer.json of a decoder",
    "TASK": "a file of gin/tasks, a task's or mixture's name, or a list of names",
    "FIRST_TASK": "the task tuned on before TASK",
    "REPLAY_TASK": "the task that is replayed: a name, or a list of names",
    "BASE": "a work directory to start from",
    "EWC_TASK": "a task that is not to be forgotten",
    "KL_TASK": "a task that is not to be forgotten",
}


def parse(files: Sequence[str], bindings: Sequence[str], defaults: Sequence[str] = ()) -> str:
    """Reads gin files in the order that `gin_files` says, then bindings; defaults before all.

    Returns the settings in force as text.

    Raises:
      UserError: a missing file, a syntax error, an unknown name, or a setting that is required and
        missing; of these all are named.
    """
    gin.clear_config()
    import_modules(())  # so that gin files find those of the working directory too
    gin.parse_config(list(defaults))
    for file in in_order(files, [binding.partition("=")[0].strip() for binding in bindings]):
        with _gin_errors(f"--gin_file={file}"):
            gin.parse_config_file(file)
    before = gin.config_str()
    for binding in bindings:
        with _gin_errors(f"--gin.{binding:.200}", binding):
            gin.parse_config([*_imports(before), binding])
    text = gin.config_str()
    if "run.Run." not in text:
        raise UserError("no --gin_file makes a run: add a recipe, such as gin/recipes/promot.gin")
    _check_remedies(files, text)
    used, defined = _macros(text)
    _check_names([f"--gin.{binding}" for binding in bindings], used | _macros(before)[1])
    _check_names(defined, used | _shipped())
    _check_circles(text, files)
    if missing := sorted(used - defined):
        named = ", ".join(f"{name} ({HINTS[name]})" if name in HINTS else name for name in missing)
        raise UserError(
            f"settings are missing: {named}: set each as --gin.NAME=VALUE or by a --gin_file"
        )
    return text


def _check_remedies(files: Iterable[str], text: str) -> None:
    """Raises UserError for a file of gin/remedies where no stage tunes the model."""
    tunes = re.search(r"@model/(?:\w+/)*run\.Stage\(\)", _code(text))
    for file in files:
        if "remedies" in Path(file).parts and not tunes:
            raise UserError(
                f"{file} has no effect: it is for a stage that tunes the model, and this recipe has"
                " none: take one that does, such as gin/recipes/finetune.gin"
            )


def _imports(text: str) -> list[str]:
    """The import lines of settings: what the files could name, a binding can name too."""
    lines = [line for line in text.splitlines() if line.startswith(("from ", "import "))]
    return sorted(lines, key=lambda line: not line.startswith("from __gin__"))  # gin wants it first


def build(name: str):
    """What a configurable of the parsed settings makes, e.g. "Run".

    MODULES are imported first: settings such as `@data.held_out()` look tasks up.
    """
    with _gin_errors("gin settings"):
        if "MODULES" in _macros(gin.config_str())[1]:
            import_modules(gin.query_parameter("%MODULES"))
        return gin.get_configurable(name)()


def check_reached(bindings: Iterable[str], text: str) -> None:
    """Raises UserError for arguments of what no setting refers to, as of another kind of model.

    Args:
      bindings: what was given beside files.
      text: the settings in force.
    """
    named = re.findall(r"@(?:\w+/)*([\w.]+)", _code(text))
    made = {"Run", *(name.rpartition(".")[2] for name in named)}
    for binding in bindings:
        owner, dot, _ = binding.partition("=")[0].strip().rpartition(".")
        name = owner.rpartition("/")[2].rpartition(".")[2]
        if dot and name not in made:
            raise UserError(
                f"--gin.{binding:.200} has no effect: none of the gin files takes a {name}: leave"
                " it out, or give a file that does"
            )


@contextlib.contextmanager
def _gin_errors(where: str, binding: str = "") -> Iterator[None]:
    """Raises UserError for gin's errors, which are of many classes."""
    try:
        yield
    except UserError as error:  # ours, with lines of gin's about the calls that led there
        said = str(error).partition("In call to configurable '")[0]
        raise UserError(" ".join(said.split())) from error
    except RecursionError as error:
        raise UserError(f"{where}: they refer to one another in a circle") from error
    except SystemExit as error:
        raise UserError(
            f"{where}: a module that it imports ends the program (exit code {error.code}): a module"
            " of tasks must not"
        ) from error
    except Exception as error:
        # Gin adds where it was called from, innermost first
        said, _, called = str(error).partition("In call to configurable '")
        if called:
            where = f"{where}, {called.partition(chr(39))[0]}"
        if isinstance(error, SyntaxError | tokenize.TokenError):
            said = re.sub(r"^line \d+: ", "", fault(error, binding))
        said = " ".join(said.split()) or type(error).__name__
        raise UserError(f"{where}: {said:.400}") from error


def _check_circles(text: str, files: Sequence[str]) -> None:
    """Raises UserError for macros that are defined by one another; it names who defines them."""
    lines = re.findall(r"^([A-Za-z_]\w*) *= *%(\w+)$", text, re.MULTILINE)
    leads = dict(lines)
    for name in leads:
        way = [name]
        while (then := leads.get(way[-1])) is not None:
            way.append(then)
            if then in way[:-1]:
                circle = " = ".join(f"%{step}" for step in way[way.index(then) :])
                links = {(step, f"%{leads[step]}") for step in way if step in leads}
                who = [file for file in files if links & _texts(settings_of(file))]
                raise UserError(
                    f"settings refer to one another in a circle, {circle}"
                    f" ({', '.join(who) or 'by --gin flags'}): set one"
                )


def _texts(settings: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(name, value) for name, value in settings.items() if isinstance(value, str)}


def _code(text: str) -> str:
    """Settings without their texts and comments."""
    return re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|#.*", "''", text)


def _macros(text: str) -> tuple[set[str], set[str]]:
    """The macros that settings use, and those that they define."""
    code = _code(text)
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
