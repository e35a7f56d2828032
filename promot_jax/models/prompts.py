"""Soft prompts: named runs of extra token ids, and how their vectors begin.

Ids `vocab_size ... vocab_size + n - 1` look up rows of the `prompt` collection. Several prompts lie
one behind the other in that range, in the order in which they are declared, so whoever puts ids in
front of a text chooses which prompt it gets, and whoever leaves them out removes it.

An initialiser is a closure `(key, embedding [vocab, embed], length) -> [length, embed]`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from promot_jax.errors import UserError, check_range, check_types, check_values
from promot_jax.paths import as_path, is_name, resolve

Initializer = Callable[
    [PRNGKeyArray, Float[Array, "vocab embed"], int], Float[Array, "length embed"]
]


class Encoder(Protocol):
    """What a vocabulary is to an initialiser."""

    def encode(self, text: str) -> Sequence[int]: ...


def sampled_vocabulary(top: int = 5000) -> Initializer:
    """Embeddings drawn from the first `top` ids, the frequent ones (Lester et al. 2021)."""
    check_values(sampled_vocabulary, {"top": top})
    check_range("sampled_vocabulary.top", top, 1, 2**31)

    def init(key, embedding, length):
        top_here = min(top, embedding.shape[0])
        ids = jax.random.choice(key, top_here, (length,), replace=length > top_here)
        return embedding[ids]

    return init


def random_uniform(scale: float = 0.5) -> Initializer:
    """Uniform in [-scale, scale): the default of google-research/prompt-tuning."""
    check_values(random_uniform, {"scale": scale})
    check_range("random_uniform.scale", scale, 0, 1e6)
    return lambda key, embedding, length: jax.random.uniform(
        key, (length, embedding.shape[1]), embedding.dtype, -scale, scale
    )


def from_text(text: str, vocabulary: Encoder) -> Initializer:
    """The embeddings of a text's tokens, repeated until the prompt is full."""
    check_values(from_text, {"text": text})
    ids = list(vocabulary.encode(text))
    if not ids:
        raise UserError(
            f"from_text.text = {text!r} has no token: give a text that the vocabulary encodes"
        )
    return lambda key, embedding, length: embedding[jnp.resize(jnp.asarray(ids), length)]


def class_labels(labels: Sequence[str], vocabulary: Encoder) -> Initializer:
    """Each label's mean embedding first, sampled vocabulary for the rest (Lester et al. 2021)."""
    check_values(class_labels, {"labels": labels})
    ids = [list(vocabulary.encode(label)) for label in labels]
    if not ids or not all(ids):
        raise UserError(
            f"class_labels.labels = {list(labels)}: every label needs at least one token"
        )

    def init(key, embedding, length):
        means = jnp.stack([embedding[jnp.asarray(i)].mean(axis=0) for i in ids])[:length]
        rest = sampled_vocabulary()(key, embedding, max(length - len(ids), 1))
        return jnp.concatenate([means, rest])[:length].astype(embedding.dtype)

    return init


def from_file(path: str) -> Initializer:
    """A `.npy` array [length, embed], the format of google-research/prompt-tuning."""
    check_values(from_file, {"path": path})
    try:
        with as_path(resolve(path)).open("rb") as file:
            array = np.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"from_file.path = {path!r} is no readable .npy file: {error}") from error

    def init(key, embedding, length):
        if array.shape != (length, embedding.shape[1]):
            raise UserError(
                f"from_file.path = {path!r} holds a prompt of shape {array.shape}, but the run"
                f" needs {(length, embedding.shape[1])}: set Prompt.length to {array.shape[0]} or"
                " give another file"
            )
        return jnp.asarray(array, embedding.dtype)

    return init


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A named soft prompt of `length` vectors.

    Raises:
      UserError: `length` is not positive, or the name could not be that of a directory.
    """

    name: str
    length: int = 100
    init: Initializer = dataclasses.field(default_factory=sampled_vocabulary, compare=False)

    def __post_init__(self):
        check_types(self)
        if not is_name(self.name) or not self.name.strip("."):
            raise UserError(f"Prompt.name = {self.name!r}: set a short name without slashes")
        if self.length < 1:
            raise UserError(
                f"Prompt.length = {self.length!r} (prompt {self.name!r}): set a positive number"
            )
        check_range(f"Prompt.length (prompt {self.name!r})", self.length, 1, 10**6)


def prompt_ids(prompts: Sequence[Prompt], vocab_size: int) -> dict[str, np.ndarray]:
    """The token ids of every prompt, in the order of declaration.

    Raises:
      UserError: two prompts share a name.
    """
    ids, start = {}, vocab_size
    for prompt in prompts:
        if prompt.name in ids:
            raise UserError(f"two prompts are named {prompt.name!r}: give each Prompt.name once")
        ids[prompt.name] = np.arange(start, start + prompt.length, dtype=np.int32)
        start += prompt.length
    return ids


def check_init(prompts: Sequence[Prompt], embedding: jax.ShapeDtypeStruct) -> None:
    """Raises UserError for a prompt whose initialiser, which may be anybody's, fails."""
    for prompt in prompts:
        make = lambda key, table, p=prompt: p.init(key, table, p.length)  # noqa: E731
        try:
            shape = getattr(jax.eval_shape(make, jax.random.key(0), embedding), "shape", None)
        except Exception as error:  # gin adds lines of who called it
            said = str(error).partition("\n")[0]
            where = f"Prompt.init (prompt {prompt.name!r}) fails: "
            raise UserError(f"{'' if isinstance(error, UserError) else where}{said}") from error
        if shape != (prompt.length, embedding.shape[1]):
            raise UserError(
                f"Prompt.init (prompt {prompt.name!r}) makes {shape}, not"
                f" {(prompt.length, embedding.shape[1])}: give another"
            )


def init_prompts(
    key: PRNGKeyArray, embedding: Float[Array, "vocab embed"], prompts: Sequence[Prompt]
) -> dict[str, Float[Array, "length embed"]]:
    """The `prompt` collection at the start of training; each prompt draws from a key of its own.

    Prompts are float32, whatever the model is: they are small, and small updates must not be lost.
    """
    return {
        p.name: p.init(jax.random.fold_in(key, i), embedding, p.length).astype(jnp.float32)
        for i, p in enumerate(prompts)
    }
