"""How a model reads an (input, target) pair: the one place where the kinds of models differ.

    encoder-decoder   encoder: prompt | input | EOS      decoder: target | EOS
    decoder-only      prompt | BOS | input | target | EOS, of which target and EOS are predicted

To an encoder-decoder, input and target are two texts. To a decoder they are one, and what joins
them is the task's shot template: an input is followed by the same characters in training, in a
shot and where an answer is to begin. White space in front of the target belongs to the target:
byte-level vocabularies write " True" as one token, which is not that of "True". With a vocabulary
that is set to chat, the input is the user's turn and the target the assistant's.

Arrays have T5X's names. Padding comes last in a row and is segment 0, whatever ids it has. Packed
rows tell their examples apart by segments, from 1 on. Targets lie compactly, one column for each
token to predict; a decoder, which has them in one row with its inputs, also gets
`decoder_target_positions`: the column of its input whose output predicts the token.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Int

from promot_jax.data.templates import Template
from promot_jax.errors import UserError
from promot_jax.vocabularies import Vocabulary

Ids = Int[np.ndarray, " tokens"]
Arrays = dict[str, np.ndarray]
TEMPLATE = "{inputs} {targets}"  # of a text that belongs to no task
WORD = "a"  # no vocabulary joins it with white space


class Layout(Protocol):
    """How a model reads a task's pairs.

    Attributes:
      one_text: input and target are one text to the model.
    """

    one_text: bool

    def before(self, inputs: str) -> str:
        """The text in front of a target."""

    def input_ids(self, text: str) -> list[int]:
        """What `before` gives as ids, ready for an answer to begin."""

    def target_ids(self, inputs: str, targets: str) -> list[int]:
        """The ids to predict."""

    def all_input_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """`input_ids` of many."""

    def all_target_ids(self, inputs: Sequence[str], targets: Sequence[str]) -> list[list[int]]:
        """`target_ids` of many."""

    def ready(self, ids: list[int], add_eos: bool, inputs: bool) -> list[int]:
        """An input or target that comes as ids; `add_eos` is its SeqIO feature's."""

    def answer(self, text: str) -> str:
        """The answer in an output."""

    def stop_texts(self, separator: str, targets: Iterable[str]) -> tuple[str, ...]:
        """What ends an output, of a task whose shots have a separator."""

    def empty(self, rows: int, inputs: int, targets: int, packed: bool = False) -> Arrays:
        """Arrays of padding, for rows of so many input and target tokens."""

    def write(self, batch: Arrays, row: int, pairs: Iterable[tuple[Ids, Ids]]) -> None:
        """Writes pairs, prompts in front of their inputs, into a row of padding."""


class _OneByOne:
    """What is encoded alone is encoded as a list of one."""

    def input_ids(self, text: str) -> list[int]:
        return self.all_input_ids([text])[0]

    def target_ids(self, inputs: str, targets: str) -> list[int]:
        return self.all_target_ids([inputs], [targets])[0]


class EncoderDecoder(_OneByOne):
    """Two texts, each with EOS."""

    one_text = False

    def __init__(self, vocabulary: Vocabulary, template: str = TEMPLATE):
        self._vocabulary = vocabulary

    def before(self, inputs: str) -> str:
        return inputs

    def all_input_ids(self, texts: Sequence[str]) -> list[list[int]]:
        eos = self._vocabulary.eos_id
        return [[*ids, eos] for ids in self._vocabulary.encode_all(texts)]

    def all_target_ids(self, inputs: Sequence[str], targets: Sequence[str]) -> list[list[int]]:
        return self.all_input_ids(targets)

    def ready(self, ids: list[int], add_eos: bool, inputs: bool) -> list[int]:
        eos = [self._vocabulary.eos_id]
        return ids + eos if add_eos and ids[-1:] != eos else ids

    def answer(self, text: str) -> str:
        return text

    def stop_texts(self, separator: str, targets: Iterable[str]) -> tuple[str, ...]:
        return ()  # it learned where a target ends

    def empty(self, rows: int, inputs: int, targets: int, packed: bool = False) -> Arrays:
        batch = {
            "encoder_input_tokens": np.zeros((rows, inputs), np.int32),
            "encoder_segment_ids": np.zeros((rows, inputs), np.int32),
            "decoder_input_tokens": np.zeros((rows, targets), np.int32),
            "decoder_target_tokens": np.zeros((rows, targets), np.int32),
            "decoder_loss_weights": np.zeros((rows, targets), np.float32),
        }
        # Unpacked, the causal mask alone hides a target's padding.
        return batch | (
            {"decoder_segment_ids": np.zeros((rows, targets), np.int32)} if packed else {}
        )

    def write(self, batch: Arrays, row: int, pairs: Iterable[tuple[Ids, Ids]]) -> None:
        x_end = y_end = 0
        for segment, (inputs, targets) in enumerate(pairs, start=1):
            x, y = x_end, y_end
            x_end, y_end = x + len(inputs), y + len(targets)
            batch["encoder_input_tokens"][row, x:x_end] = inputs
            batch["encoder_segment_ids"][row, x:x_end] = segment
            batch["decoder_target_tokens"][row, y:y_end] = targets
            batch["decoder_input_tokens"][row, y + 1 : y_end] = targets[:-1]  # starts with pad
            batch["decoder_loss_weights"][row, y:y_end] = 1
            if "decoder_segment_ids" in batch:
                batch["decoder_segment_ids"][row, y:y_end] = segment


class DecoderOnly(_OneByOne):
    """One text: what stands in front of the target, the target, EOS."""

    one_text = True

    def __init__(self, vocabulary: Vocabulary, template: str = TEMPLATE):
        """Raises UserError for a template in which the target does not follow the input."""
        self._vocabulary = vocabulary
        pieces = Template(template).pieces
        if [name for _, name in pieces] != ["inputs", "targets", None]:
            raise UserError(
                f"shot_template = {template!r}: a decoder reads the input first and answers behind"
                " it: name {inputs}, then {targets}, each once"
            )
        self._front, between, self._end = (text for text, _ in pieces)
        self._between = between.rstrip()
        self._glue = between[len(self._between) :]

    def before(self, inputs: str) -> str:
        return f"{self._front}{inputs}{self._between}"

    def all_input_ids(self, texts: Sequence[str]) -> list[list[int]]:
        vocabulary = self._vocabulary
        if vocabulary.chat:  # the template writes BOS itself, where there is one
            return vocabulary.encode_all([vocabulary.render(text) for text in texts])
        bos = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
        return [self._read([*bos, *ids]) for ids in vocabulary.encode_all(texts)]

    def _read(self, ids: list[int]) -> list[int]:
        """Something to answer to: where no BOS is put in front, of no text one end."""
        return ids or [self._vocabulary.prefix_id]

    def all_target_ids(self, inputs: Sequence[str], targets: Sequence[str]) -> list[list[int]]:
        vocabulary = self._vocabulary
        if not vocabulary.chat:
            texts = [f"{self._glue}{text}{self._end}" for text in targets]
            return [[*ids, vocabulary.eos_id] for ids in self._behind(texts)]
        pairs = zip(inputs, targets, strict=True)
        turns = [vocabulary.turn(self.before(text), target)[1] for text, target in pairs]
        return [self._one_turn(ids) for ids in vocabulary.encode_all(turns)]

    def _one_turn(self, ids: list[int]) -> list[int]:
        stop_ids = self._vocabulary.stop_ids
        ends = [i + 1 for i, token in enumerate(ids) if token in stop_ids]
        return ids[: ends[0]] if ends else [*ids, self._vocabulary.eos_id]

    def _behind(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """The ids of texts as they are behind a word: Llama 2's puts a space in front of all."""
        word = self._vocabulary.encode(WORD)
        wholes = self._vocabulary.encode_all([WORD + text for text in texts])
        for text, whole in zip(texts, wholes, strict=True):
            apart = whole[: len(word)] == word
            yield whole[len(word) :] if apart else self._vocabulary.encode(text)

    def ready(self, ids: list[int], add_eos: bool, inputs: bool) -> list[int]:
        eos, bos = [self._vocabulary.eos_id], self._vocabulary.bos_id
        if not inputs:
            return ids + eos if add_eos and ids[-1:] != eos else ids
        ids = ids[:-1] if ids[-1:] == eos else ids  # the text goes on
        return self._read(ids if bos is None or ids[:1] == [bos] else [bos, *ids])

    def answer(self, text: str) -> str:
        return text.removeprefix(self._glue).removesuffix(self._end)

    def stop_texts(self, separator: str, targets: Iterable[str]) -> tuple[str, ...]:
        """The separator: a base model goes on with a further shot. Not where answers have it."""
        inside = not separator.strip(" ") or any(separator in target for target in targets)
        return () if inside else (separator,)

    def empty(self, rows: int, inputs: int, targets: int, packed: bool = False) -> Arrays:
        whole = (rows, inputs + targets)
        batch = {
            "decoder_input_tokens": np.zeros(whole, np.int32),
            "decoder_target_tokens": np.zeros((rows, targets), np.int32),
            "decoder_target_positions": np.zeros((rows, targets), np.int32),
            "decoder_loss_weights": np.zeros((rows, targets), np.float32),
        }
        # Unpacked, positions count from 0, and the causal mask alone hides the padding.
        names = ("decoder_segment_ids", "decoder_positions") if packed else ()
        return batch | {name: np.zeros(whole, np.int32) for name in names}

    def write(self, batch: Arrays, row: int, pairs: Iterable[tuple[Ids, Ids]]) -> None:
        x_end = y_end = 0
        for segment, (inputs, targets) in enumerate(pairs, start=1):
            x, y, read = x_end, y_end, [*inputs, *targets[:-1]]
            x_end, y_end = x + len(read), y + len(targets)
            first = x + len(inputs) - 1  # predicts the target's first token
            batch["decoder_input_tokens"][row, x:x_end] = read
            batch["decoder_target_tokens"][row, y:y_end] = targets
            batch["decoder_target_positions"][row, y:y_end] = first + np.arange(len(targets))
            batch["decoder_loss_weights"][row, y:y_end] = 1
            if "decoder_segment_ids" in batch:
                batch["decoder_segment_ids"][row, x:x_end] = segment
                batch["decoder_positions"][row, x:x_end] = np.arange(x_end - x)


LAYOUTS = {"encoder_decoder": EncoderDecoder, "decoder_only": DecoderOnly}


def make_layout(kind: str, vocabulary: Vocabulary, template: str = TEMPLATE) -> Layout:
    """The layout of a kind of model (`Config.kind`), for a task with this shot template."""
    return LAYOUTS[kind](vocabulary, template)


def padded(rows: Sequence[Ids], size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs as arrays of tokens and segments, [size, length]; the last row fills them up."""
    tokens, segments = np.zeros((2, size, length), np.int32)
    for i in range(size):
        row = rows[min(i, len(rows) - 1)]
        tokens[i, : len(row)] = row
        segments[i, : len(row)] = 1
    return tokens, segments


def cut(text: str, stop_texts: Iterable[str]) -> str:
    """What stands in front of the first of them."""
    return text[: min([text.find(stop) for stop in stop_texts if stop in text], default=None)]
