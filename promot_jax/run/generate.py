"""What a stage that only generates is to write: a task's rows, made by the model that it finds.

Two kinds. *Self-labelled*: inputs of a task, answered by the model itself. *Free samples*: texts
that the model begins by itself. A decoder begins behind its BOS (of no text, where it has none); an
encoder-decoder has nothing like it, and answers an input that has no text, its EOS alone, or one of
`starts`.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from promot_jax.data import TaskInfo, file_task, load_examples, task_info, task_names
from promot_jax.data.files import forget_file_task
from promot_jax.data.tasks import is_registered
from promot_jax.errors import UserError, check_range, check_types
from promot_jax.models import Decoding
from promot_jax.paths import is_name

MOST = 10_000_000
MADE = "made"  # the group of the tasks that runs make


@dataclasses.dataclass(frozen=True)
class Generate:
    """What a stage has the model write.

    Attributes:
      name: of the task that its rows become, which a later stage of the run can replay.
      task: name of a task, mixture or several, whose inputs the model answers; None: free samples.
      split: the tasks' split.
      rows: the first rows of each task's split that are answered; of free samples, how many.
      starts: the inputs of free samples, in turns.
      length: most tokens of an answer; None: as the stage that learns them has room for.
      decoding: how to generate; what is sampled depends on a row's number and its seed alone.
      batch_size: rows that are computed at once.

    Raises:
      UserError: a value out of range.
    """

    name: str = "generated"
    task: str | Sequence[str] | None = None
    split: str = "train"
    rows: int = 1000
    starts: str | Sequence[str] = ""
    length: int | None = None
    decoding: Decoding = Decoding(temperature=1.0)
    batch_size: int = 64

    def __post_init__(self):
        check_types(self)
        if not is_name(self.name) or " " in self.name:
            raise UserError(
                f"Generate.name = {self.name!r}: set a short name without spaces and slashes"
            )
        check_range("Generate.rows", self.rows, 1, MOST)
        check_range("Generate.batch_size", self.batch_size, 1, 1024)
        if self.length is not None:
            check_range("Generate.length", self.length, 1, 2**14)
        starts = (self.starts,) if isinstance(self.starts, str) else tuple(self.starts)
        if starts != ("",) and not (starts and all(text.strip() for text in starts)):
            raise UserError(
                f"Generate.starts = {self.starts!r:.200}: give a text, or a list of texts none of"
                " which is empty"
            )
        object.__setattr__(self, "starts", starts)
        if self.task is not None and starts != ("",):
            raise UserError(
                f"Generate.starts = {starts!r:.80} has no effect: with task = {self.task!r:.80} the"
                " inputs are that task's: leave one of them out"
            )

    @property
    def plain(self) -> bool:
        """Whether rows have no inputs."""
        return self.task is None and self.starts == ("",)

    def inputs(self) -> Iterator[str]:
        """The inputs, in order.

        Raises:
          UserError: a task or split that cannot be read.
        """
        if self.task is None:
            for row in range(self.rows):
                yield self.starts[row % len(self.starts)]
        for task in task_names(self.task or ()):
            for example in load_examples(task, self.split, self.rows):
                yield example.inputs

    def lines(self) -> Iterator[str]:
        """The same as lines of JSONL, as `promot_jax.run.answers` reads them."""
        for text in self.inputs():
            yield json.dumps({"inputs": text}, ensure_ascii=False) + "\n"

    def infos(self) -> list[TaskInfo]:
        """What the tasks know of themselves.

        Raises:
          UserError: an unknown task, or tasks whose answers follow their inputs in two ways.
        """
        names = task_names(self.task or ())
        infos = [task_info(name) for name in names]
        if len({info.shot_template for info in infos}) > 1:
            raise UserError(
                f"Generate.task = {list(names)}: their answers follow their inputs in different"
                " ways (shot_template): take a stage for each"
            )
        return infos

    @property
    def template(self) -> str:
        """How an answer follows its input: as in the task; a free sample as it comes."""
        infos = self.infos()
        return infos[0].shot_template if infos else "{inputs}{targets}"

    def stop_texts(self) -> tuple[str, ...]:
        """What also ends an answer of a decoder: it goes on with a further shot."""
        return tuple(
            dict.fromkeys(info.separator for info in self.infos() if info.separator.strip())
        )

    def check_name(self) -> None:
        """Raises UserError where the name is that of a task which somebody else made."""
        forget_file_task(self.name, MADE)
        if is_registered(self.name):
            raise UserError(
                f"Generate.name = {self.name!r} is the name of a task that there is: choose another"
            )

    def register(self, path: Path) -> None:
        """Makes the file of the rows the task `name`."""
        forget_file_task(self.name, MADE)
        inputs = "" if self.plain else "{inputs}"
        file_task(
            self.name, str(path), str(path), inputs=inputs, shot_template=self.template, group=MADE
        )
