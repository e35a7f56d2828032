"""A finished work directory as a model: texts in, texts out, each with its prompt or none.

model = LanguageModel("runs/demo/promot")
model.generate(["Q: where does Anna live? A:"])
model.generate(["..."], prompt="target")
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import seqio

from promot_jax.errors import UserError, near
from promot_jax.models import Decoding, Prompt, T5Config, Variables, prompt_ids
from promot_jax.run.generation import Generator
from promot_jax.run.workdir import load_vocabulary
from promot_jax.training import make_mesh
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load, stage_directory

SHORTEST = 32
GREEDY = Decoding()


class LanguageModel:
    """A model with its vocabulary and prompts, loaded from a work directory.

    Attributes:
      variables: its arrays, flat.
      prompts: names of its soft prompts.
    """

    def __init__(self, path: str, mesh: Mapping[str, int] | None = None):
        """Loads the best checkpoint of a work directory's last stage, or of the given stage.

        Raises:
          UserError: `path` is neither, or its checkpoint is damaged.
        """
        workdir, _ = stage_directory(path)
        self.description = Description.read(workdir)
        self.vocabulary = load_vocabulary(workdir)
        model = self.description.module()
        layout = Layout(model, make_mesh(mesh))
        self.variables: Variables = load(path, layout)
        self.generator = Generator(model, layout.mesh)
        prompts = [Prompt(name, length) for name, length in self.description.prompts]
        self.prompt_ids = prompt_ids(prompts, model.config.vocab_size)
        self.prompts = tuple(self.prompt_ids)

    def generate(
        self,
        texts: Sequence[str],
        prompt: str | None | Sequence[str | None] = None,
        decoding: Decoding = GREEDY,
    ) -> list[str]:
        """One output a text.

        Args:
          texts: inputs.
          prompt: name of the soft prompt in front of all of them, None, or one of these a text.
          decoding: how to generate.

        Raises:
          UserError: no such prompt, or not one a text.
        """
        if not texts:
            return []
        names = [prompt] * len(texts) if prompt is None or isinstance(prompt, str) else list(prompt)
        if len(names) != len(texts):
            raise UserError(
                f"prompt has {len(names)} names for {len(texts)} texts: give one a text, or one"
                " for all"
            )
        rows = [self.encode(text, name) for text, name in zip(texts, names, strict=True)]
        longest = max(map(len, rows))
        tokens = np.zeros((len(rows), max(SHORTEST, 1 << (longest - 1).bit_length())), np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return [self.decode(ids) for ids in self.generator(self.variables, tokens, decoding)]

    def encode(self, text: str, prompt: str | None) -> np.ndarray:
        """The prompt's ids, the text's tokens, EOS."""
        if prompt is not None and prompt not in self.prompt_ids:
            raise UserError(
                f"there is no prompt {prompt!r}{near(prompt, self.prompts)}; the model's prompts"
                f" are {list(self.prompts)}"
            )
        soft = self.prompt_ids[prompt] if prompt is not None else np.zeros(0, np.int32)
        return np.concatenate(
            [soft, [*self.vocabulary.encode(text), self.vocabulary.eos_id]]
        ).astype(np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to EOS; ids that the vocabulary lacks are left out."""
        kept = []
        for i in map(int, ids):
            if i == self.vocabulary.eos_id:
                break
            if 0 < i < self.vocabulary.vocab_size:
                kept.append(i)
        return str(self.vocabulary.decode(kept))


def infer(
    model: LanguageModel,
    source: Path,
    output: Path,
    prompt: str | None = None,
    decoding: Decoding = GREEDY,
    batch_size: int = 64,
    on_rows: Callable[[int], None] = lambda done: None,
) -> int:
    """Answers a file line by line, in constant memory; goes on where an earlier call stopped.

    Args:
      source: JSONL with "inputs" and, where a line wants its own, "prompt" (a name or null); or
        text, a line an input.
      output: JSONL: "inputs", "prompt", "output".
      prompt: the soft prompt of lines that name none.
      on_rows: called with the number of lines done.

    Returns:
      The number of lines in `output`.

    Raises:
      UserError: a file that cannot be read or written, a malformed line (nothing is answered then),
        or an output that belongs to another input.
    """
    for record in read_records(
        source, prompt
    ):  # all lines are checked before the first is answered
        model.encode("", record["prompt"])
    done = _kept(output, source, prompt)
    records = islice(read_records(source, prompt), done, None)
    with _open(output, "a", encoding="utf-8") as file:
        while batch := list(islice(records, batch_size)):
            texts, names = [r["inputs"] for r in batch], [r["prompt"] for r in batch]
            # A short last batch is filled up: one shape, one compilation, and the same answers.
            fill = batch_size - len(batch)
            answers = model.generate(texts + texts[-1:] * fill, names + names[-1:] * fill, decoding)
            for record, answer in zip(batch, answers, strict=False):
                file.write(json.dumps(record | {"output": answer}, ensure_ascii=False) + "\n")
            file.flush()
            done += len(batch)
            on_rows(done)
    return done


def read_records(source: Path, prompt: str | None) -> Iterator[dict[str, Any]]:
    """The lines of an input file as {"inputs", "prompt"}."""
    try:
        with source.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _record(line, number, source, prompt)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--input {source} cannot be read as UTF-8 text ({error})") from error


def _record(line: str, number: int, source: Path, prompt: str | None) -> dict[str, Any]:
    if source.suffix != ".jsonl":
        return {"inputs": line.rstrip("\r\n"), "prompt": prompt}
    try:
        row = json.loads(line)
        text, name = row["inputs"], row.get("prompt", prompt)
        if not isinstance(text, str) or not (name is None or isinstance(name, str)):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'--input {source}, line {number}: each line must be like {{"inputs": "text"}}, with'
            ' "prompt": a name or null where it wants its own'
        ) from error
    return {"inputs": text, "prompt": name}


def _open(output: Path, mode: str, **options: Any) -> IO:
    try:
        return output.open(mode, **options)
    except OSError as error:
        raise UserError(
            f"--output {output} cannot be written ({error.strerror}): give another --output"
        ) from error


def _kept(output: Path, source: Path, prompt: str | None) -> int:
    """Complete lines of an output file that answer this source; a line cut off is removed."""
    if not output.exists():
        return 0
    count, end = 0, 0
    records = read_records(source, prompt)
    with _open(output, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            record = next(records, None)
            try:
                same = record == {k: v for k, v in json.loads(line).items() if k != "output"}
            except ValueError:
                same = False
            if not same:
                raise UserError(
                    f"--output {output}, line {count + 1}, does not answer {source}: give another"
                    " --output"
                )
            count, end = count + 1, end + len(line)
    with _open(output, "r+b") as file:
        file.truncate(end)
    return count


def base_model(base: str) -> T5Config:
    """The architecture of a work directory's model."""
    return Description.read(stage_directory(base)[0]).model


def base_vocabulary(base: str) -> seqio.Vocabulary:
    """The vocabulary of a work directory's model."""
    return load_vocabulary(stage_directory(base)[0])


def base_prompts(base: str) -> list[Prompt]:
    """The soft prompts of a work directory's model."""
    return [
        Prompt(name, length) for name, length in Description.read(stage_directory(base)[0]).prompts
    ]


def prompt_per_task(tasks: Iterable[str], length: int = 100) -> list[Prompt]:
    """A prompt for each task, named like it."""
    return [Prompt(task, length) for task in tasks]


def own_prompts(tasks: Iterable[str]) -> dict[str, str]:
    """task -> the prompt of its name, as `TrainData.prompts` and `Evaluation.prompt` take it."""
    return {task: task for task in tasks}
