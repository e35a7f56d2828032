"""A model that is served: texts in, texts out, each with its prompt.

It lies in a work directory, trained or imported, or as `promot export` and Transformers write it.

model = LanguageModel("runs/demo/promot")
model.generate(["Q: where does Anna live? A:"])
model.generate(["..."], prompt="target", decoding=Decoding(max_length=20, beams=4))
model.score(["Is the sky blue?"], ["yes"])  # [Score(log_likelihood=-0.7, tokens=2, greedy=True)]

However many texts a call has, they are computed in batches of `batch_size` rows of nearly one
length, padded to a power of two: few shapes, so few compilations.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from promot_jax.convert import load_checkpoint
from promot_jax.data import decode, padded_length
from promot_jax.errors import UserError, near
from promot_jax.models import Decoding, Prompt, Variables, prompt_ids
from promot_jax.run.generation import Generator
from promot_jax.run.workdir import load_vocabulary, make_vocabulary
from promot_jax.training import make_mesh
from promot_jax.training.bases import Bases
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load, stage_directory

GREEDY = Decoding()
BATCH_SIZE = 64

Ids = Int[np.ndarray, " tokens"]
PromptNames = str | None | Sequence[str | None]


class Score(NamedTuple):
    """How likely a target is.

    Attributes:
      log_likelihood: log P(target | input) in nats, summed over the tokens.
      tokens: how many these are.
      greedy: whether greedy search produces the target.
    """

    log_likelihood: float
    tokens: int
    greedy: bool


class LanguageModel:
    """A model with its vocabulary and prompts, loaded from where it lies.

    Attributes:
      description: architecture, prompts and vocabulary.
      variables: its arrays, flat.
      prompts: names of its soft prompts.
    """

    def __init__(self, path: str, mesh: Mapping[str, int] | None = None, bases: Sequence[str] = ()):
        """Loads a model.

        Args:
          path: a work directory, of whose last stage the best checkpoint is meant; a stage
            directory in one; or a directory of Transformers, with `prompts/<name>/` in it.
          mesh: sizes of the mesh axes; None: all devices along `data`.
          bases: where the bases that a work directory refers to may lie, if they were moved.

        Raises:
          UserError: `path` is none of these, or damaged.
        """
        devices = make_mesh(mesh)
        if (Path(path) / "config.json").exists():
            self.description, sentencepiece, self.variables = load_checkpoint(path, devices)
            self.vocabulary = make_vocabulary(self.description, sentencepiece)
            model = self.description.module()
        else:
            workdir, _ = stage_directory(path)
            self.description = Description.read(workdir)
            self.vocabulary = load_vocabulary(workdir)
            model = self.description.module()
            self.variables: Variables = load(
                path, Layout(model, devices), bases=Bases(tuple(bases))
            )
        self.generator = Generator(model, devices)
        prompts = [Prompt(name, length) for name, length in self.description.prompts]
        self.prompt_ids = prompt_ids(prompts, model.config.vocab_size)
        self.prompts = tuple(self.prompt_ids)

    def generate(
        self,
        texts: Sequence[str],
        prompt: PromptNames = None,
        decoding: Decoding = GREEDY,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """One output a text.

        Args:
          texts: inputs.
          prompt: name of the soft prompt in front of all of them, None, or one of these a text.
          decoding: how to generate.
          batch_size: most rows that are computed at once.

        Raises:
          UserError: no such prompt, or not one a text.
        """
        return self.generate_ids(self._encode_all(texts, prompt), decoding, batch_size)

    def score(
        self,
        texts: Sequence[str],
        targets: Sequence[str],
        prompt: PromptNames = None,
        batch_size: int = BATCH_SIZE,
    ) -> list[Score]:
        """How likely the model finds each text's target, EOS included.

        Raises:
          UserError: as `generate`, or not one target a text.
        """
        if len(texts) != len(targets):
            raise UserError(f"{len(targets)} targets for {len(texts)} texts: give one a text")
        rows = [self.encode(target, None) for target in targets]
        return self.score_ids(self._encode_all(texts, prompt), rows, batch_size)

    def generate_ids(
        self,
        inputs: Sequence[Ids],
        decoding: Decoding = GREEDY,
        batch_size: int = BATCH_SIZE,
        numbers: Sequence[int] | None = None,
    ) -> list[str]:
        """`generate` for inputs that are token ids already, as `encode` makes them.

        What is sampled for an input depends on its number (None: 0, 1, ...), not on its batch.
        """
        numbers = range(len(inputs)) if numbers is None else numbers

        def outputs(rows, tokens):
            ids = self.generator(self.variables, tokens, decoding, [numbers[i] for i in rows])
            return [decode(self.vocabulary, row) for row in ids]

        return _in_batches(outputs, batch_size, inputs)

    def score_ids(
        self, inputs: Sequence[Ids], targets: Sequence[Ids], batch_size: int = BATCH_SIZE
    ) -> list[Score]:
        """`score` for token ids; a target need not end in EOS."""

        def scores(_, *batch):
            found = self.generator.score(self.variables, *batch)
            return zip(*(values.tolist() for values in found), strict=True)

        found = _in_batches(scores, batch_size, inputs, targets)
        return [
            Score(log_likelihood, len(target), greedy)
            for (log_likelihood, greedy), target in zip(found, targets, strict=True)
        ]

    def _encode_all(self, texts: Sequence[str], prompt: PromptNames) -> list[Ids]:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"texts = {repr(texts)[:40]}: give a list of texts")
        names = [prompt] * len(texts) if prompt is None or isinstance(prompt, str) else list(prompt)
        if len(names) != len(texts):
            raise UserError(
                f"prompt has {len(names)} names for {len(texts)} texts: give one a text, or one"
                " for all"
            )
        return [self.encode(text, name) for text, name in zip(texts, names, strict=True)]

    def encode(self, text: str, prompt: str | None) -> Ids:
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


def _in_batches(
    function: Callable[..., Iterable[Any]], batch_size: int, *columns: Sequence[Ids]
) -> list[Any]:
    """`function(rows, *columns)` of batches of nearly one length; its results in the rows' order.

    A short last batch is filled up, so that its shape, too, has been compiled already.
    """
    if batch_size < 1:
        raise UserError(f"batch_size = {batch_size}: set at least 1")
    count = len(columns[0])
    size = min(batch_size, 1 << max(count - 1, 0).bit_length())
    order = sorted(range(count), key=lambda i: [len(column[i]) for column in columns])
    results = [None] * count
    for start in range(0, count, size):
        rows = order[start : start + size]
        filled = rows + rows[-1:] * (size - len(rows))
        answers = function(filled, *(_padded([column[i] for i in filled]) for column in columns))
        for i, answer in zip(rows, answers, strict=False):
            results[i] = answer
    return results


def _padded(rows: Sequence[Ids]) -> Int[np.ndarray, "batch length"]:
    tokens = np.zeros((len(rows), padded_length(max(map(len, rows)))), np.int32)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return tokens
