"""A model that is served: texts in, texts out, each with its prompt.

It lies in a work directory, trained or imported, or as `promot export` and Transformers write it.

model = LanguageModel("runs/demo/promot")
model.generate(["Q: where does Anna live? A:"])
model.generate(["..."], prompt="target", decoding=Decoding(max_length=20, beams=4))
model.score(["Is the sky blue?"], ["yes"])  # [Score(log_likelihood=-0.7, tokens=2, greedy=True)]

However many texts a call has, they are computed in batches of `batch_size` rows of nearly one
length, padded to a power of two: few shapes, so few compilations. Rows of more than 512 tokens go
in smaller batches, since attention's memory grows as rows * length ** 2 (`data.by_length`), and
an input of more than `input_length` tokens is refused.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from promot_jax import vocabularies
from promot_jax.convert import load_checkpoint
from promot_jax.data import Batch, by_length, padded_length
from promot_jax.data.layouts import TEMPLATE, cut, make_layout, padded
from promot_jax.data.lengths import FULL_LENGTH
from promot_jax.errors import UserError, check_range, near
from promot_jax.files import fingerprint
from promot_jax.models import Decoding, Prompt, Variables, config_to_json, prompt_ids
from promot_jax.models.lora import scaled
from promot_jax.paths import as_path, resolve
from promot_jax.run.generation import Generator
from promot_jax.training import digest, make_mesh
from promot_jax.training.bases import Bases
from promot_jax.training.description import Description
from promot_jax.training.variables import Layout, load, stage_directory
from promot_jax.vocabularies import Vocabulary, decode

GREEDY = Decoding()
BATCH_SIZE, MOST_ROWS = 64, 1024
INPUT_LENGTH = 4096  # one row of it takes T5 base 3.4 GB (measured), as 64 rows of 512 take 2.9

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


def check_batch_size(batch_size: int, name: str = "batch_size") -> None:
    """Raises UserError for a number of rows that is none, or a slip of the hand."""
    if not 1 <= batch_size <= MOST_ROWS:
        raise UserError(f"{name} = {batch_size}: set 1 to {MOST_ROWS}")


class LanguageModel:
    """A model with its vocabulary and prompts, loaded from where it lies.

    Attributes:
      description: architecture, prompts and vocabulary.
      input_length: most tokens of an input with its prompt, and of a target.
      variables: its arrays, flat.
      prompts: names of its soft prompts.
    """

    def __init__(
        self,
        path: str,
        mesh: Mapping[str, int] | None = None,
        bases: Sequence[str] = (),
        input_length: int = INPUT_LENGTH,
        lora: float = 1.0,
    ):
        """Loads a model.

        Args:
          path: a work directory, of whose last stage the best checkpoint is meant; a stage
            directory in one; or a directory of Transformers, with `prompts/<name>/` in it.
          mesh: sizes of the mesh axes; None: all devices along `data`.
          bases: where the bases that a work directory refers to may lie, if they were moved.
          input_length: most tokens of an input with its prompt, and of a target.
          lora: what the model's LoRA is multiplied by, where it has any; 0: it is removed.

        Raises:
          UserError: `path` is none of these, or damaged.
        """
        if input_length < 1:
            raise UserError(f"input_length = {input_length}: set at least 1")
        devices = make_mesh(mesh)
        if (as_path(resolve(path)) / "config.json").exists():
            description, files, variables = load_checkpoint(path, devices)
            vocabulary = vocabularies.build(description.vocabulary, files)
        else:
            workdir, _ = stage_directory(path)
            description = Description.read(workdir)
            vocabulary = description.load_vocabulary(workdir)
            layout = Layout(description.module(), devices)
            variables = load(path, layout, bases=Bases(tuple(bases)))
        check_range("lora", lora, -10, 10)
        if lora != 1 and description.model.lora is None:
            raise UserError(f"lora = {lora}: {path!r} has no LoRA: leave it out")
        variables = scaled(variables, lora)
        generator = Generator(description.module(), devices, vocabulary)
        self._take(description, vocabulary, variables, generator, input_length)

    @classmethod
    def of(
        cls,
        description: Description,
        vocabulary: Vocabulary,
        variables: Variables,
        generator: Generator,
        template: str = TEMPLATE,
    ) -> "LanguageModel":
        """A model that is in memory already; `template`: how an answer follows its input."""
        model = cls.__new__(cls)
        model._take(description, vocabulary, variables, generator, INPUT_LENGTH, template)
        return model

    def _take(
        self,
        description: Description,
        vocabulary: Vocabulary,
        variables: Variables,
        generator: Generator,
        input_length: int,
        template: str = TEMPLATE,
    ) -> None:
        self.description, self.vocabulary = description, vocabulary
        self.variables, self.generator, self.input_length = variables, generator, input_length
        config = description.model
        self.layout = make_layout(config.kind, vocabulary, template)
        prompts = [Prompt(name, length) for name, length in description.prompts]
        self.prompt_ids = prompt_ids(prompts, config.vocab_size)
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
          UserError: no such prompt, not one a text, or a text that is too long.
        """
        rows = self._encode_all(texts, prompt)
        self.check_lengths(rows, "text", decoding.max_length)
        return [self.layout.answer(x) for x in self.generate_ids(rows, decoding, batch_size)]

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
        inputs = self._encode_all(texts, prompt)
        _check_texts(targets, "target")
        rows = [self.encode_target(*pair) for pair in zip(texts, targets, strict=True)]
        self.check_lengths(rows, "target")
        for i, (text, row) in enumerate(zip(inputs, rows, strict=True)):
            self.check_length(text, f"text {i}", len(row))
        return self.score_ids(inputs, rows, batch_size)

    def generate_ids(
        self,
        inputs: Sequence[Ids],
        decoding: Decoding = GREEDY,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """`generate` for inputs that are token ids already, as `encode` makes them; of any length.

        An output is all that was generated: of a decoder, with the space in front of an answer.

        What is sampled for an input depends on its number, 0, 1, ..., not on its batch.
        """
        outputs = [""] * len(inputs)
        for rows, size in self.batches(batch_size, inputs):
            texts = self.generate_batch([inputs[i] for i in rows], size, decoding, rows)
            for i, text in zip(rows, texts, strict=True):
                outputs[i] = text
        return outputs

    def score_ids(
        self, inputs: Sequence[Ids], targets: Sequence[Ids], batch_size: int = BATCH_SIZE
    ) -> list[Score]:
        """`score` for token ids, of any length; a target need not end in EOS."""
        scores: dict[int, Score] = {}
        for rows, size in self.batches(batch_size, inputs, targets):
            pairs = [inputs[i] for i in rows], [targets[i] for i in rows]
            scores.update(zip(rows, self.score_batch(*pairs, size), strict=True))
        return [scores[i] for i in range(len(inputs))]

    def batches(self, batch_size: int, *columns: Sequence[Ids]) -> Iterator[Batch]:
        """Rows that are computed together; every place of the mesh computes one in any case."""
        check_batch_size(batch_size)
        lengths = [
            tuple(padded_length(len(ids)) for ids in row) for row in zip(*columns, strict=True)
        ]
        for rows, size in by_length(lengths, batch_size, self.generator.rows):
            # Products with a single row compile for longer than a second short row takes.
            short = max(max(lengths[row]) for row in rows) <= FULL_LENGTH
            yield Batch(rows, max(size, min(2, batch_size)) if short else size)

    def generate_batch(
        self, inputs: Sequence[Ids], size: int, decoding: Decoding, numbers: Sequence[int]
    ) -> list[str]:
        """Outputs of one batch; what is sampled for an input depends on its number."""
        numbers = [*numbers, *[numbers[-1]] * (size - len(numbers))]
        tokens = padded(inputs, size, padded_length(max(map(len, inputs))))
        ids = self.generator(self.variables, *tokens, decoding, numbers)
        texts = (decode(self.vocabulary, row) for row in ids[: len(inputs)])
        return [cut(text, decoding.stop_texts) for text in texts]

    def score_batch(self, inputs: Sequence[Ids], targets: Sequence[Ids], size: int) -> list[Score]:
        """Scores of one batch."""
        lengths = (padded_length(max(map(len, rows))) for rows in (inputs, targets))
        batch = self.layout.empty(size, *lengths)
        for row in range(size):
            last = min(row, len(inputs) - 1)
            self.layout.write(batch, row, [(inputs[last], targets[last])])
        log_likelihoods, greedy = self.generator.score(self.variables, batch)
        if not np.isfinite(log_likelihoods).all():
            raise UserError(
                "the model's log-likelihoods are no finite numbers: its weights are damaged, or too"
                " large for its dtype; restore it, or import it as float32"
            )
        columns = log_likelihoods.tolist(), map(len, targets), greedy.tolist()
        return [Score(*values) for values in zip(*columns, strict=False)]

    def _encode_all(self, texts: Sequence[str], prompt: PromptNames) -> list[Ids]:
        _check_texts(texts, "text")
        names = [prompt] * len(texts) if prompt is None or isinstance(prompt, str) else list(prompt)
        if len(names) != len(texts):
            raise UserError(
                f"prompt has {len(names)} names for {len(texts)} texts: give one a text, or one"
                " for all"
            )
        return [self.encode(text, name) for text, name in zip(texts, names, strict=True)]

    def encode(self, text: str, prompt: str | None) -> Ids:
        """The prompt's ids, and the text's as the model reads an input.

        Raises:
          UserError: no such prompt, what is no text, or a vocabulary that is not the model's.
        """
        if prompt is not None and prompt not in self.prompt_ids:
            raise UserError(
                f"there is no prompt {prompt!r}{near(prompt, self.prompts)}; the model's prompts"
                f" are {list(self.prompts)}"
            )
        ids = self._ids(text, lambda: self.layout.input_ids(self.layout.before(text)))
        soft = self.prompt_ids[prompt] if prompt is not None else np.zeros(0, np.int32)
        return np.concatenate([soft, ids]).astype(np.int32)

    def encode_bare(self, text: str) -> Ids:
        """A text's own ids alone; raises as `encode`."""
        return self._ids(text, lambda: self.vocabulary.encode(text))

    def encode_target(self, text: str, target: str) -> Ids:
        """What the model is to answer to a text, as ids.

        Raises:
          UserError: what is no text, or a vocabulary that is not the model's.
        """
        return self._ids(target, lambda: self.layout.target_ids(text, target))

    def _ids(self, text: str, encode: Callable[[], list[int]]) -> Ids:
        try:
            ids = encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{text[:40]!r} is no text ({error.reason}): correct it") from error
        if ids and max(ids) >= (size := self.description.model.vocab_size):
            raise UserError(
                f"the vocabulary gives id {max(ids)} in {text[:40]!r}, but the model has vocab_size"
                f" = {size}: restore the vocabulary that it was made with"
            )
        return np.asarray(ids, np.int32)

    def room(self, output: int) -> int:
        """How many tokens an input may have, with so many behind it."""
        context = self.description.model.context
        return self.input_length if context is None else min(self.input_length, context - output)

    def check_output(self, output: int) -> None:
        """Raises UserError for outputs that leave no room for an input."""
        context = self.description.model.context
        if context is not None and output >= context:
            raise UserError(
                f"max_length = {output}: the model's context of {context} has no room for so long"
                " an output and an input: set less"
            )

    def check_lengths(self, rows: Iterable[Ids], what: str = "text", output: int = 0) -> None:
        """Raises UserError for a row, or outputs, of more tokens than there is room for."""
        self.check_output(output)
        for i, row in enumerate(rows):
            self.check_length(row, f"{what} {i}", output)

    def check_length(self, row: Ids, what: str, output: int = 0) -> None:
        """Raises UserError for more tokens than there is room for, with `output` behind them."""
        room = self.room(output)
        if len(row) > room:
            raise UserError(
                f"{what} has {len(row)} tokens, more than input_length = {self.input_length}:"
                " shorten it, or load the model with a larger one"
                if room == self.input_length
                else f"{what} has {len(row)} tokens, and the model's context of {room + output} has"
                f" room for {room} and {output} of an output: shorten either"
            )

    def fingerprints(self) -> dict[str, str]:
        """What all its answers come from: weights with prompts, architecture, vocabulary."""
        built = [config_to_json(self.description.model), self.description.prompts]
        return {
            "model": digest(self.variables),
            "architecture": _fingerprint(built),
            "vocabulary": _fingerprint(
                self.vocabulary.settings(), b"".join(self.vocabulary.files().values())
            ),
        }


def _fingerprint(settings: Any, content: bytes = b"") -> str:
    text = json.dumps(settings, sort_keys=True, default=str)
    return fingerprint(text.encode() + b"\0" + content)


def _check_texts(texts: Sequence[str], what: str) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{what}s = {repr(texts)[:40]}: give a list of texts")
