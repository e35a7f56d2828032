"""A stage that only generates: the model that it finds writes a task's rows, which a later stage of
the run can replay.

<k>-<stage>/inputs.jsonl       what is answered
<k>-<stage>/answers.jsonl      the answers, and beside it how far it is: as `promot infer` writes it
<k>-<stage>/generated.jsonl    the rows: {"inputs": ..., "targets": ...}, without those that are no
                               rows (empty answers, inputs that are too long)
<k>-<stage>/generated.json     its digest, and how many rows there are, when all is done

Each answer depends on the model and on its number alone, so a stage that was killed goes on with
the answers that there are, and ends with the same file. On several hosts all compute all answers;
the first one writes them where they belong, the others where nobody sees them.
"""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from promot_jax.console import say
from promot_jax.data.rows import check_value
from promot_jax.errors import UserError
from promot_jax.files import fingerprint, parse_json, read_json, seal, unseal
from promot_jax.hosts import is_first, wait_for_all, write_atomically
from promot_jax.models import Variables
from promot_jax.paths import in_bucket
from promot_jax.run.answers import Answering, infer
from promot_jax.run.brought import brought
from promot_jax.run.inference import LanguageModel
from promot_jax.run.output import beside
from promot_jax.run.progress import Progress
from promot_jax.run.stage_run import StageRun
from promot_jax.run.workdir import ANSWERS, describe

INPUTS, ROWS, MADE = "inputs.jsonl", "generated.jsonl", "generated.json"


class GeneratingStage(StageRun):
    """A stage with something to `generate`."""

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self.root / self.name

    def done(self) -> bool:
        """Whether all rows are there.

        Raises:
          UserError: they are not those that were written.
        """
        return super().done() and self._made() is not None

    def finished(self) -> None:
        """Makes the rows a task."""
        super().finished()
        self.stage.generate.register(self.directory / ROWS)

    def run(self, before: Variables | None) -> Variables:
        """Generates, or goes on generating."""
        variables = super().run(before)
        settings = self.stage.generate
        write_atomically(self.directory / INPUTS, "".join(settings.lines()))
        wait_for_all("inputs are written")
        with self._at_hand() as (source, answers, on_answer):
            self._answer(variables, source, answers, on_answer)
            rows, lost = _rows(answers, plain=settings.plain)
        if not rows:
            raise UserError(
                f"stage {self.stage.name!r}: none of its {lost} answers is a text: give"
                " Generate.starts, inputs of a task, or more length"
            )
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomically(self.directory / ROWS, text)
        made = {"rows": len(rows), "lost": lost, "digest": fingerprint(text.encode())}
        write_atomically(self.directory / MADE, json.dumps(seal(made)) + "\n")
        wait_for_all("rows are written")
        said = f"; {lost} answers were none" if lost else ""
        say(f"{self.name}: {len(rows)} rows in {self.directory / ROWS}{said}")
        settings.register(self.directory / ROWS)
        return variables

    def _made(self) -> dict[str, Any] | None:
        """What is known of the rows; None: they are not all there."""
        fix = f"restore it, or delete {self.directory} to generate anew"
        try:
            found = unseal(read_json(self.directory / MADE, fix=fix))
            content = (self.directory / ROWS).read_bytes()
        except FileNotFoundError:
            return None
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{self.directory / MADE} is damaged ({error}): {fix}") from error
        if fingerprint(content) != found["digest"]:
            raise UserError(f"{self.directory / ROWS} is not as it was written: {fix}")
        return found

    def _answer(
        self, variables: Variables, source: Path, answers: Path, on_answer: Callable[[], None]
    ) -> None:
        settings, run = self.stage.generate, self.context.run
        model = LanguageModel.of(
            describe(run), run.vocabulary, variables, self.context.generator, settings.template
        )
        decoding = dataclasses.replace(settings.decoding, max_length=self.prepared.length)
        if model.layout.one_text:
            stops = (*decoding.stop_texts, *settings.stop_texts())
            decoding = dataclasses.replace(decoding, stop_texts=stops)
        count, done = sum(1 for _ in settings.inputs()), 0
        with contextlib.closing(
            Progress(f"{self.name}: generating", count, self.leave_if_asked)
        ) as progress:

            def on_rows(there: int) -> None:
                nonlocal done
                on_answer()
                progress(settings.name, 0, there - done)
                done = there

            how = Answering(decoding=decoding, batch_size=settings.batch_size)
            try:
                infer(model, source, answers, how, on_rows)
            except UserError as error:  # of files, which are options elsewhere
                said = str(error).replace("--output ", "").replace("--input ", "")
                raise UserError(f"{said}; or delete {self.directory} to generate anew") from error

    @contextlib.contextmanager
    def _at_hand(self) -> Iterator[tuple[Path, Path, Callable[[], None]]]:
        """Inputs and answers where lines can be appended, and what is called after each batch."""
        source, answers = self.directory / INPUTS, self.directory / ANSWERS
        with contextlib.ExitStack() as held:
            on_answer = lambda: None  # noqa: E731
            if not is_first():
                folder = held.enter_context(tempfile.TemporaryDirectory(prefix="promot-"))
                source, answers = _copied(source, answers, Path(folder))
            elif in_bucket(answers):
                here = held.enter_context(brought(source, answers))
                source, answers, on_answer = here.source, here.output, here.bring_back
            wait_for_all("answers are at hand")  # before that nobody writes
            yield source, answers, on_answer


def _copied(source: Path, answers: Path, folder: Path) -> tuple[Path, Path]:
    """Copies of what is there, with the two files beside the answers."""
    for path in (source, answers, *beside(answers)):
        with contextlib.suppress(FileNotFoundError):
            if in_bucket(path):
                path.download(folder / path.name)
            else:
                shutil.copyfile(path, folder / path.name)
    return folder / source.name, folder / answers.name


def _rows(answers: Path, plain: bool) -> tuple[list[dict[str, str]], int]:
    """The answers that make rows of a task, and how many do not."""
    rows, lost = [], 0
    for line in answers.read_bytes().splitlines():
        found = parse_json(line)
        row = {"inputs": found["inputs"], "targets": found["output"]}
        try:
            for name, text in row.items():
                check_value(name, text)
                if not text.strip() and not (plain and name == "inputs"):
                    raise ValueError(f"{name} is empty")
        except ValueError:
            lost += 1
        else:
            rows.append(row)
    return rows, lost
