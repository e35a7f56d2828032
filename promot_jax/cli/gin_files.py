"""Gin files: how they are read, what each of them sets, and in which order they count.

The order on the command line is not what decides, since a recipe after a task file would set all
that the task file says back to its defaults. Files count in the order of what they are, and later
ones win:

    0. recipes, and whatever else makes a run (it sets Run.workdir or Run.stages)
    1. runs: they set both MODEL and TASK
    2. models: they set MODEL
    3. tasks: they set TASK
    4. all others (meshes, held-out tasks, settings of one's own), in the order they are given

Two files of the first four kinds that set one thing differently are refused: neither can be meant.
So are any two that both set one of `WHOLE`, of which the later one would drop the earlier's.
"""

import contextlib
import io
import itertools
import re
import tokenize
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import gin
from gin import config_parser
from promot_jax.errors import UserError, near
from promot_jax.files import text_lines
from promot_jax.paths import INSTALLED_AT, as_path, expand, real, resolve

WHOLE = {"BEFORE", "AFTER", "model/data.TrainData.replay"}
MAKES_A_RUN = {"run.Run.workdir", "run.Run.stages"}


class _Names(config_parser.ParserDelegate):
    """What gin's parser calls references: here just their text."""

    def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> str:
        return f"@{scoped_configurable_name}{'()' if evaluate else ''}"

    def macro(self, macro_name: str) -> str:
        return f"%{macro_name}"


def read(path: str, above: Sequence[str] = ()) -> str:
    """The text of a gin file.

    Args:
      path: as it is given or included.
      above: the files that include it, the one given first.

    Raises:
      UserError: there is none, it cannot be read, or includes itself.
    """
    who = f"{above[-1]} includes {path}, which" if above else f"--gin_file={path}"
    found = as_path(resolve(expand(path, "--gin_file")), "--gin_file")
    if not found.is_file():
        shipped = INSTALLED_AT.parent.glob("gin/*/*.gin")
        known = [str(p.relative_to(INSTALLED_AT.parent)) for p in shipped]
        reason = "is a directory" if found.is_dir() else "does not exist"
        if found.exists() and not found.is_dir():
            reason = "is a pipe or a device: save what it gives in a file"
        raise UserError(f"{who} {reason}{near(path, known)}")
    if any(real(found) == real(resolve(file)) for file in above):
        raise UserError(f"{' includes '.join([*above, path])}: a circle: remove one of these")
    try:
        with found.open("rb") as file:
            lines = [line.rstrip("\r\n") for line in text_lines(file, who)]
    except OSError as error:
        raise UserError(f"{who} cannot be read ({error.strerror})") from error
    return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def _open(path: str) -> Iterator[io.StringIO]:
    """A gin file for gin, which would read it in the encoding of the locale."""
    file = io.StringIO(read(path))
    file.name = path
    yield file


def use_our_reader() -> None:
    """Has gin read files as we do, whatever includes them."""
    gin.config._FILE_READERS[:] = [(_open, lambda path: True)]


def settings_of(path: str, above: Sequence[str] = ()) -> dict[str, Any]:
    """What a gin file sets, by what it includes too: name -> value, with references as text.

    Raises:
      UserError: it cannot be read or is no gin file; file and line are named.
    """
    text, found = read(path, above), {}
    try:
        for statement in config_parser.ConfigParser(text, _Names()):
            if isinstance(statement, config_parser.IncludeStatement):
                found |= settings_of(statement.filename, [*above, path])
            elif isinstance(statement, config_parser.BindingStatement):
                scope, selector, argument, value, _ = statement
                name = f"{scope}/{selector}" if scope else selector
                found[f"{name}.{argument}" if argument else name] = value
    except UserError:
        raise
    except Exception as error:  # of gin, of Python's tokenizer, and of its parser
        raise UserError(f"{path}, {fault(error, text)}") from error
    return found


def fault(error: Exception, text: str) -> str:
    """What is wrong with a gin text, beginning with the line where that is known."""
    line = getattr(error, "lineno", None)
    if isinstance(error, tokenize.TokenError):
        line = error.args[1][0]
    said = str(getattr(error, "msg", None) or error.args[0]).splitlines()[-1].strip()
    if isinstance(error, RecursionError):
        line = 1 + max(range(text.count("\n") + 1), key=lambda i: _brackets(text, i))
        said = "nested too deeply: no setting is"
    if said == "Expected newline." or said.startswith("Expected '"):
        said = "more follows a value: gin takes values, no arithmetic"
    if "\0" in text:
        line, said = text[: text.index("\0")].count("\n") + 1, "a NUL character: remove it"
    if open_ := _unclosed(text):
        line, said = open_, "a bracket is opened and not closed"
    elif token := re.search(r"Failed to parse token '(.*)'", said):
        right = {"true": "True", "false": "False", "none": "None", "null": "None"}
        said = (
            f"{token[1]} is no value: write {right[token[1].lower()]}"
            if token[1].lower() in right
            else f"{token[1]} is no value; a text needs quotes of its own: --gin.NAME='\"text\"'"
        )
    lines = text.splitlines()
    shown = f" in {lines[line - 1].strip()[:80]!r}" if line and line <= len(lines) else ""
    return f"line {line}: {said}{shown}" if line else said


def _brackets(text: str, line: int) -> int:
    """How many brackets a line opens."""
    return sum(text.split("\n")[line].count(mark) for mark in "([{")


def _unclosed(text: str) -> int | None:
    """The line of the bracket that stays open, if there is one."""
    open_: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        code = re.sub(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|#.*", "", line)
        for mark in code:
            if mark in "([{":
                open_.append(number)
            elif mark in ")]}" and open_:
                open_.pop()
    return open_[0] if open_ else None


def in_order(files: Sequence[str], given: Collection[str] = ()) -> list[str]:
    """Files in the order in which they count; see this module's docstring.

    Args:
      files: as they are given.
      given: names that the command line sets itself, whatever files say.

    Raises:
      UserError: one is no gin file, or two of a kind disagree.
    """
    found = [(file, settings_of(file)) for file in files]
    for (a, ours), (b, theirs) in itertools.combinations(found, 2):
        if _kind(ours) == _kind(theirs) < 4:
            _check_agree(a, ours, b, theirs, given)
        elif _kind(ours) == _kind(theirs):
            ours, theirs = ({n: each[n] for n in WHOLE & each.keys()} for each in (ours, theirs))
            _check_agree(a, ours, b, theirs, given)
    return [file for file, _ in sorted(found, key=lambda each: _kind(each[1]))]


def _kind(settings: Mapping[str, Any]) -> int:
    if settings.keys() & MAKES_A_RUN:
        return 0
    model, task = "MODEL" in settings, "TASK" in settings
    return 1 if model and task else 2 if model else 3 if task else 4


def _check_agree(
    a: str, ours: Mapping[str, Any], b: str, theirs: Mapping[str, Any], given: Collection[str]
) -> None:
    """Raises UserError where two files set one thing differently."""
    names = {n for n in ours if n in theirs and ours[n] != theirs[n]} - set(given)
    if names & MAKES_A_RUN:
        raise UserError(
            f"{a} and {b} both make a run: leave one of them out, or let one include the other"
        )
    # What they are about first, such as TASK
    for name in sorted(names, key=lambda name: (name not in ("TASK", "MODEL"), name)):
        raise UserError(
            f"{a} and {b} disagree: {name} = {ours[name]!r:.80} in the one and {theirs[name]!r:.80}"
            f" in the other: leave one of them out, or set --gin.{name}=... itself"
        )
