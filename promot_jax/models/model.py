"""What the rest of the project knows of a model; `t5.py` and `decoder.py` are the two kinds.

A batch is what `data.layouts` makes of (input, target) pairs for the model's kind. Padding is
segment 0, whatever ids it has.
"""

from typing import Any, Protocol

from jaxtyping import Array, Float, Int, PRNGKeyArray

from promot_jax.models.config import Config

Batch = dict[str, Array]
START = 0  # what an encoder-decoder's outputs are behind: T5's padding
Cache = Any  # a tree of arrays, the batch along their first axis, or behind that of scanned layers


class Model(Protocol):
    """A Flax module of either kind.

    Attributes:
      config: sizes and switches.
      prompts: (name, length) of every soft prompt, in the order of their ids.
      soft_cap: of the logits; None: they are not capped.
      embedding_scale: what a row of the table is multiplied with when it is looked up.
    """

    config: Config
    prompts: tuple[tuple[str, int], ...]
    soft_cap: float | None
    embedding_scale: float

    def hidden(
        self, batch: Batch, dropout_key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch targets embed"]:
        """What the head turns into logits, one vector for each of the batch's target tokens."""

    def head(self) -> Float[Array, "embed vocab"]:
        """The matrix from hidden to logits, float32, scaled where the model scales."""

    def logits(self, hidden: Float[Array, "... embed"]) -> Float[Array, "... vocab"]:
        """Logits in float32: the head's, capped where the model caps them."""

    def prefill(
        self,
        inputs: Int[Array, "batch inputs"],
        segments: Int[Array, "batch inputs"],
        length: int,
    ) -> tuple[Float[Array, "batch vocab"] | None, Cache, Cache]:
        """Reads inputs, padded on the right (segment 0).

        Returns:
          The logits of the first output token, or None where `decode_step` makes them, as those of
          number 0 behind `START`; the cache of outputs of up to `length` tokens, which follows a
          beam; and what is kept of the inputs, the same for all beams of a row.
        """

    def decode_step(
        self, token: Int[Array, " rows"], cache: Cache, kept: Cache, index: Int[Array, ""]
    ) -> tuple[Float[Array, "rows vocab"], Cache]:
        """Logits of output token number `index`, behind `token`; and the new cache.

        Rows are those of the inputs, or several beams of each, one behind the other; what is kept
        of the inputs has one row for all of them.
        """
