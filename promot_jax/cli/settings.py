"""Gin files and `--gin.NAME=VALUE` to a `Run`. The only place that knows gin.

Gin files import what they bind (`from __gin__ import dynamic_registration`), so the library itself has
no decorators. Capitalised names are macros: the settings that recipes, models and tasks share.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import gin
from promot_jax.errors import INSTALLED_AT, UserError, near, resolve

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
    "INPUT_LENGTH": "tokens of an input, prompt included",
    "TARGET_LENGTH": "tokens of a target",
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
    try:
        for file in files:
            gin.parse_config_file(resolve(file))
        gin.parse_config([*_imports(gin.config_str()), *bindings])
        text = gin.config_str()
    except (
        Exception
    ) as error:  # gin raises SyntaxError, ValueError, ImportError, AttributeError and others
        raise UserError(f"gin settings: {_first_line(error)}") from error
    if missing := _missing(text):
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
    """What a configurable of the parsed settings makes, e.g. "Run"."""
    try:
        return gin.get_configurable(name)()
    except UserError as error:
        raise UserError(str(error).split("\n")[0]) from error
    except Exception as error:
        raise UserError(f"gin settings: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Gin's messages have the interesting part in different lines; the first that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:400] if lines else type(error).__name__


def _missing(text: str) -> list[str]:
    """Macros that are used and not defined."""
    code = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|#.*", "''", text)
    used = set(re.findall(r"%([A-Za-z_]\w*)", code))
    defined = set(re.findall(r"^([A-Za-z_]\w*) *=", code, re.MULTILINE))
    return sorted(used - defined)
