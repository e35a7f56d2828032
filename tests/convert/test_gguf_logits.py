"""Models of GGUF files compute what Transformers compute from the same files."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import gguf_models
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf_models import ARCHITECTURES, MIXED, SENTENCEPIECE
from test_gguf import REAL, REAL_MODELS, compare, needs_real, needs_transformers, transformers

from promot_jax.convert import open_source
from promot_jax.convert.source import Source
from promot_jax.models import nested
from promot_jax.models.decoder import Decoder
from promot_jax.models.layout import stack_layers

NEW = 16  # tokens of a continuation
PROMPTS = [
    *(f"The capital of {x} is" for x in ("France", "Japan", "Egypt", "Canada", "Peru", "Norway")),
    *(f"Q: What is the opposite of {x}? A:" for x in ("hot", "early", "brave", "full", "loud")),
    *(f"{n} + {n + 3} =" for n in (2, 5, 11, 40)),
    *(f"def {name}(" for name in ("add", "sort_words", "read_file", "main")),
    "import numpy as np\n\nx = np.",
    "for i in range(10):\n    print(",
    "<html>\n  <body>\n    <h1>",
    "SELECT name, age FROM",
    "Once upon a time, there was a",
    "It was a dark and stormy night, and",
    "Water boils at a temperature of",
    "The sun rises in the",
    "My favourite food is",
    "Dear Sir or Madam,\n\nI am writing to",
    "Ingredients:\n- 2 eggs\n- 1 cup of flour\n-",
    "Q: Who wrote Hamlet?\nA:",
    "Q: How many legs does a spider have?\nA:",
    "Translate to French: good morning ->",
    "Yesterday I go, today I went. Correct the",
    "The three primary colours are",
    "One, two, three, four,",
    "Monday, Tuesday, Wednesday,",
    "In 1969, the first man",
    "The chemical symbol of gold is",
    "Photosynthesis is the process by which",
    "A triangle has three",
    "Bonjour, je m'appelle",
    "Ich bin ein",
    "El gato está en la",
    "Привет, как",
    "東京は日本の",
    "Ελλάδα είναι",
    "The following is a list of animals: cat, dog,",
    "To be, or not to be, that is",
    "Roses are red, violets are",
    "Knock knock. Who's there?",
    "x",
]


class Both(NamedTuple):
    """A file's model, as Transformers' and as ours."""

    theirs: Any
    tokenizer: Any
    source: Source
    model: Decoder
    variables: dict


def both(path: Path) -> Both:
    from transformers import AutoTokenizer

    source, theirs = open_source(str(path)), transformers(path)
    del theirs.config.quantization_config  # the copy in float64 is not
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    variables = {
        ours: jnp.asarray(tensor.read(), jnp.float32) for ours, tensor in source.tensors.items()
    }
    config = dataclasses.replace(source.config, scan_layers=True)  # compiles faster
    return Both(theirs.eval(), tokenizer, source, Decoder(config), nested(stack_layers(variables)))


@pytest.fixture(scope="module", params=REAL_MODELS)
def found(request) -> Both:
    """Of a real file, read once."""
    return both(Path(REAL) / request.param)


def check_logits(found: Both, ids: np.ndarray, columns: np.ndarray) -> None:
    """At the columns, ours are as near to the exact logits as theirs: 3 times their error."""
    from tests.models import hf_decoders

    given = {"input_ids": ids.astype(np.int64), "logits_to_keep": columns}
    theirs, exact = (hf_decoders.logits(found.theirs, double, **given) for double in (False, True))
    places = np.tile(columns.astype(np.int32), (len(ids), 1))
    batch = {"decoder_input_tokens": ids.astype(np.int32), "decoder_target_positions": places}
    ours = np.asarray(jax.jit(found.model.apply)(found.variables, batch))
    assert np.abs(ours - exact).max() <= 3 * np.abs(theirs - exact).max()


@needs_transformers
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_logits(kind, tmp_path):
    types = MIXED | {"ffn_down.weight": "Q6_K" if kind in SENTENCEPIECE else "Q4_K"}
    path = gguf_models.write(tmp_path / "a.gguf", kind, types, tied=kind != "qwen2")
    ids = np.random.default_rng(0).integers(5, gguf_models.VOCABULARY, (3, 40))
    check_logits(both(path), ids, np.arange(40))


@needs_real
def test_the_same_bits_of_real_models(found):
    compare(found.source, found.theirs)


@needs_real
def test_logits_of_real_models(found):
    """Of a row that reaches beyond Gemma's windows."""
    length = 40 + (found.source.config.sliding_window or 160)
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    ids = found.source.vocabulary.encode(text)[: length - 1]
    columns = np.array([0, 1, 5, 100, length - 30, length - 1])
    check_logits(found, np.array([[found.tokenizer.bos_token_id, *ids]]), columns)


@needs_real
def test_greedy_continuations_of_real_models(found):
    """Of 50 prompts, token for token."""
    vocabulary = found.source.vocabulary
    front = [] if vocabulary.bos_id is None else [vocabulary.bos_id]
    rows = [[*front, *vocabulary.encode(text)] for text in PROMPTS]
    assert rows == [found.tokenizer(text)["input_ids"] for text in PROMPTS]
    wanted = generate(found, rows)
    for text, ours, theirs in zip(PROMPTS, continued(found, rows), wanted, strict=True):
        assert ours == theirs, text


def generate(found: Both, rows: list[list[int]]) -> list[list[int]]:
    """Transformers' greedy continuations, cut behind a stop id."""
    import torch

    length = max(map(len, rows))
    ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    settings = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        out = found.theirs.generate(input_ids=ids, attention_mask=mask, **settings)
    return [cut(found, row[length:].tolist()) for row in out]


def continued(found: Both, rows: list[list[int]]) -> list[list[int]]:
    """Ours."""
    length, model = max(map(len, rows)), found.model
    ids = np.array([row + [0] * (length - len(row)) for row in rows], np.int32)
    segments = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], np.int32)

    @jax.jit
    def run(variables):
        first, cache, kept = model.apply(variables, ids, segments, NEW, method="prefill")

        def step(carry, index):
            token, cache = carry
            logits, cache = model.apply(variables, token, cache, kept, index, method="decode_step")
            new = logits.argmax(-1)
            return (new, cache), new

        token = first.argmax(-1)
        _, tokens = jax.lax.scan(step, (token, cache), jnp.arange(1, NEW))
        return jnp.concatenate([token[None], tokens]).T

    return [cut(found, row) for row in np.asarray(run(found.variables)).tolist()]


def cut(found: Both, ids: list[int]) -> list[int]:
    stops = [i for i, token in enumerate(ids) if token in found.source.vocabulary.stop_ids]
    return ids[: stops[0] + 1] if stops else ids
