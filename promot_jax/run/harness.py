"""A work directory as the model `promot` of lm-evaluation-harness (PyPI: lm-eval).

    python -m promot_jax.run.harness run --model promot \\
        --model_args path=runs/demo/promot,prompt=target --tasks boolq --batch_size 64

is the harness's own command line with one model more. From Python:

    import promot_jax.run.harness
    lm_eval.simple_evaluate("promot", {"path": "runs/demo/promot"}, tasks=["boolq"])

With `prompt` left out, the same model answers without its soft prompt: the difference between the
base model's scores and these is what tuning made it forget.

Conventions are those of the harness's own `hf`. An encoder-decoder's encoder reads the context and
EOS, and the decoder is scored on the continuation, which does not end in EOS. A decoder reads BOS,
where its tokenizer puts one, and context and continuation as one text. With --apply_chat_template
the harness writes conversations by the model's own template.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ModuleNotFoundError as error:
    raise SystemExit(f"lm-evaluation-harness is needed ({error}): pip install lm_eval") from error

from promot_jax.errors import UserError
from promot_jax.models import Decoding
from promot_jax.run.inference import BATCH_SIZE, INPUT_LENGTH, LanguageModel, check_batch_size

MAX_GEN_TOKS = 256  # the harness's default
# What a task's `generation_kwargs` may say besides `until` and `do_sample`, and Decoding's names.
SETTINGS = {
    "max_gen_toks": "max_length", "temperature": "temperature", "top_k": "top_k", "top_p": "top_p",
    "num_beams": "beams", "length_penalty": "length_penalty",
}  # fmt: skip
SAMPLING = ("temperature", "top_k", "top_p")  # without do_sample, of no effect


@register_model("promot")
class HarnessModel(TemplateLM):
    """The model of a work directory with one of its prompts, or none.

    Attributes:
      model: what the harness asks.
      prompt: name of the soft prompt in front of every context, or None.
    """

    def __init__(
        self,
        path: str,
        prompt: str | None = None,
        batch_size: int | str = BATCH_SIZE,
        mesh: Mapping[str, int] | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        base: str | None = None,
        input_length: int = INPUT_LENGTH,
        lora: float = 1.0,
    ):
        """`path`, `mesh`, `input_length`, `lora` as in `LanguageModel`; `base`: where it lies now.

        The harness gives `max_batch_size` and `device` to every model; JAX chooses the device.

        Raises:
          UserError: no such work directory or prompt, or a batch size that is no positive number.
        """
        super().__init__()
        if str(batch_size).startswith("auto"):
            batch_size = BATCH_SIZE
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise UserError(f"batch_size = {batch_size!r}: set a number of at least 1")
        check_batch_size(int(batch_size))
        self.path, self.prompt, self.batch_size = path, prompt, int(batch_size)
        self.model = LanguageModel(path, mesh, [base] if base else (), input_length, float(lora))
        self.model.encode("", prompt)  # raises where there is no such prompt
        self.backend = "causal" if self.model.layout.one_text else "seq2seq"
        self._soft = [] if prompt is None else self.model.prompt_ids[prompt].tolist()

    @property
    def tokenizer_name(self) -> str:
        """Tells the harness's caches of requests apart."""
        return self.path

    @property
    def eot_token_id(self) -> int:
        """EOS."""
        return self.model.vocabulary.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What alone is read where a context is empty: a BOS that the vocabulary has, or EOS."""
        return self.model.vocabulary.prefix_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: object
    ) -> list[int]:
        """Tokens, and unless `add_special_tokens` is False EOS or, of a decoder, BOS."""
        ids = self.model.encode_bare(string).tolist()
        return ids if add_special_tokens is False else self.model.layout.ready(ids, True, True)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: object
    ) -> list[tuple[float, bool]]:
        contexts = [self._soft + context for _, context, _ in requests]
        continuations = [continuation for _, _, continuation in requests]
        self.model.check_lengths(contexts, "context")
        self.model.check_lengths(continuations, "continuation")
        scores = self.model.score_ids(contexts, continuations, self.batch_size)
        return [(score.log_likelihood, score.greedy) for score in scores]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, in windows of what the model has room for.

        Raises:
          UserError: an encoder-decoder, which has none of a text without an input.
        """
        if not self.model.layout.one_text:
            raise UserError(
                "the model 'promot' is an encoder-decoder and has no rolling log-likelihood: leave"
                " out tasks of output_type loglikelihood_rolling (perplexities)"
            )
        found = []
        for request in requests:
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0]),
                self.prefix_token_id,
                self.model.room(0) - len(self._soft),
                context_len=1,
            )
            pairs = [(("", ""), *make_disjoint_window(window)) for window in windows]
            found.append(sum(score for score, _ in self._loglikelihood_tokens(pairs)))
        return found

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the model's own template writes it.

        Raises:
          UserError: it has none.
        """
        text = self.model.vocabulary.converse(chat_history, add_generation_prompt)
        if add_generation_prompt:
            return text
        begun = chat_history[-1]["content"].strip()  # of an answer, which is to go on
        return text[: text.rindex(begun) + len(begun)]

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template, for the harness's record of what it did; a name chooses none here."""
        if not chat_template:
            return None
        return getattr(self.model.vocabulary, "template", None)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Outputs, cut before the first of a request's stop sequences.

        Raises:
          UserError: `generation_kwargs` that promot_jax does not have.
        """
        outputs = [""] * len(requests)
        alike: dict[str, list[int]] = {}  # requests decoded in one way share batches
        for i, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(i)
        for rows in alike.values():
            decoding = _decoding(requests[rows[0]].args[1])
            inputs = [np.array(self._soft + self.tok_encode(requests[i].args[0])) for i in rows]
            self.model.check_lengths(inputs, "context", decoding.max_length)
            found = self.model.generate_ids(inputs, decoding, self.batch_size)
            for i, text in zip(rows, found, strict=True):
                outputs[i] = text
        return outputs


def _decoding(generation_kwargs: Mapping[str, Any]) -> Decoding:
    """A request's way of decoding."""
    kwargs = dict(normalize_gen_kwargs(generation_kwargs, MAX_GEN_TOKS))
    stops, sampled = [stop for stop in kwargs.pop("until") if stop], kwargs.pop("do_sample")
    if unknown := set(kwargs) - set(SETTINGS):
        raise UserError(
            f"generation_kwargs has {sorted(unknown)[0]!r}: promot has until, do_sample,"
            f" {', '.join(SETTINGS)}"
        )
    if sampled:
        kwargs = {"temperature": 1.0} | kwargs  # Transformers' default
    else:
        kwargs = {name: value for name, value in kwargs.items() if name not in SAMPLING}
    named = {SETTINGS[name]: value for name, value in kwargs.items()}
    named |= {"stop_texts": tuple(stops)}
    return Decoding(**{"beam_search": "huggingface", "length_penalty": 1.0} | named)


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
