"""Chat templates: how a model that was tuned on conversations wants them to be written.

A template is a Jinja program that comes with the model. It is run in Jinja's sandbox, with the
names that Transformers give it, so that both write the same text.
"""

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from promot_jax.errors import UserError
from promot_jax.vocabularies.tokenizer_file import TOLD, read_any

FILE = "chat_template.jinja"
FIX = "correct it, or set chat = False"
SOME_ANSWER = "An answer: 42."


def read_template(directory: Path) -> str | None:
    """The template of a directory of Transformers; None where there is none.

    It is chat_template.jinja, or what tokenizer_config.json has as `chat_template`: a text, or a
    list of named ones, of which "default" is meant.

    Raises:
      UserError: it is no text.
    """
    path = directory / FILE
    if path.exists():
        try:
            return path.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read ({error}): download it again") from error
    found = read_any(directory / TOLD).get("chat_template")
    if isinstance(found, list) and all(isinstance(x, dict) for x in found):
        found = {x.get("name"): x.get("template") for x in found}.get("default")
    if found is not None and not isinstance(found, str):
        raise UserError(f"{TOLD}: chat_template = {found!r:.80}: give a text")
    return found


class Template:
    """A chat template with its model's special tokens.

    Raises:
      UserError: it is no Jinja template, or fails.
    """

    def __init__(self, text: str, tokens: Mapping[str, str], day: str | None = None):
        """Args:
        text: the program.
        tokens: name -> text of special tokens, "bos_token" ...
        day: what it is told to be today, 2024-12-31; None: today.
        """
        self._tokens = dict(tokens)
        try:
            today = datetime.datetime.fromisoformat(day) if day else datetime.datetime.now()
        except ValueError as error:
            raise UserError(f"vocabulary: day = {day!r:.80}: give one like 2024-12-31") from error
        try:
            self._template = _environment(today).from_string(text)
        except jinja2.TemplateError as error:
            raise UserError(f"the chat template cannot be read ({error}): {FIX}") from error

    def render(self, text: str) -> str:
        """A user's turn, and the assistant's up to where an answer begins.

        Raises:
          UserError: the template begins an answer otherwise than it asks for one.
        """
        return self._asked(text) + self._in_front

    def turn(self, text: str, answer: str) -> tuple[str, str]:
        """A user's turn as `render` writes it, and the rest of the assistant's; raises as that."""
        return self._turn(text, self.render(text), answer)

    def _asked(self, text: str) -> str:
        return self.converse([{"role": "user", "content": text}], True)

    @functools.cached_property
    def _in_front(self) -> str:
        """What is written in front of every answer, as Qwen 3's thoughts, which are empty."""
        _, turn = self._turn("a", self._asked("a"), SOME_ANSWER)
        front, found, _ = turn.partition(SOME_ANSWER)
        return front if found else ""

    def _turn(self, text: str, before: str, answer: str) -> tuple[str, str]:
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        full = self.converse(messages, False)
        if not full.startswith(before):
            raise UserError(
                "the chat template writes an assistant's turn otherwise than it begins one"
                f" ({full[-60:]!r} after {before[-60:]!r}): {FIX}"
            )
        return before, full[len(before) :]

    def converse(self, messages: Sequence[Mapping[str, str]], ask: bool) -> str:
        """Any conversation; `ask`: and the beginning of the assistant's turn."""
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=ask,
                tools=None,
                documents=None,
                **self._tokens,
            )
        except Exception as error:  # whatever a program of somebody else's may raise
            raise UserError(
                f"the chat template fails ({type(error).__name__}: {error}): {FIX}"
            ) from error


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, by which templates mark an answer for those who train on it."""

    tags = frozenset({"generation"})

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def tells_the_day(text: str) -> bool:
    """Whether a template writes the day into what it renders, as Llama 3's do."""
    return "strftime_now" in text


def _environment(today: datetime.datetime) -> ImmutableSandboxedEnvironment:
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )
    found.filters["tojson"] = _to_json
    found.globals |= {"raise_exception": _raise, "strftime_now": today.strftime}
    return found


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes what means something in HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
