"""Token ids in, token ids or scores out, on a mesh; one compilation for each shape."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Lowered
from jaxtyping import Bool, Float, Int

from promot_jax.lost import came_on
from promot_jax.models import Batch, Decoding, Model, Variables, generate, score
from promot_jax.training import replicated, use
from promot_jax.training.mesh import BATCH, batch_shards

Tokens = Int[np.ndarray, "batch length"]


class Generator:
    """`generator(variables, tokens, segments, decoding, rows)` -> ids.

    Every host gives and gets all rows. `options` are the compiler's, by XLA's names.
    """

    def __init__(
        self, model: Model, mesh: Mesh, vocabulary, options: Mapping[str, Any] | None = None
    ):
        self.mesh = mesh
        self.rows = batch_shards(mesh)
        self._sharding = NamedSharding(mesh, PartitionSpec(BATCH))
        self._vocabulary = vocabulary
        everywhere = {"out_shardings": replicated(mesh), "compiler_options": options}
        self._generate = jax.jit(
            lambda variables, tokens, segments, rows, decoding, stop_ids: generate(
                model, variables, tokens, segments, decoding, stop_ids, rows
            ),
            static_argnames=("decoding", "stop_ids"),
            **everywhere,
        )
        self._score = jax.jit(functools.partial(score, model), **everywhere)

    def __call__(
        self,
        variables: Variables,
        tokens: Tokens,
        segments: Tokens,
        decoding: Decoding,
        rows: Sequence[int] | None = None,
    ) -> Int[np.ndarray, "batch outputs"]:
        """Generates for a batch; `rows` are the rows' numbers, for sampling (None: 0, 1, ...).

        An output ends with a token that ends it, or that holds one of `decoding.stop_texts`, which
        the caller cuts off; a text over several tokens ends nothing here.
        """
        rows = np.asarray(range(len(tokens)) if rows is None else rows, np.int32)
        batch, how = (tokens, segments, rows), self._how(decoding)
        return self._run(self._generate, variables, batch, **how)[0]

    def lower(self, variables: Variables, rows: int, length: int, decoding: Decoding) -> Lowered:
        """The program that generates for a batch of this size; variables may be abstract."""
        rows += -rows % self.rows
        batch = [
            jax.ShapeDtypeStruct(shape, np.int32, sharding=self._sharding)
            for shape in ((rows, length), (rows, length), (rows,))
        ]
        with use(self.mesh):
            return self._generate.lower(variables, *batch, **self._how(decoding))

    def _how(self, decoding: Decoding) -> dict[str, Any]:
        return {"decoding": decoding, "stop_ids": self._stop_ids(decoding.stop_texts)}

    def score(
        self, variables: Variables, batch: Batch
    ) -> tuple[Float[np.ndarray, " batch"], Bool[np.ndarray, " batch"]]:
        """Log-likelihoods of a batch's targets, and whether greedy search produces them."""
        return self._run(self._score, variables, (batch,))

    @functools.cache  # noqa: B019  (as old as the model)
    def _stop_ids(self, stop_texts: tuple[str, ...]) -> tuple[int, ...]:
        vocabulary = self._vocabulary
        ends = vocabulary.stop_ids
        if not stop_texts:
            return tuple(ends)
        texts = ((i, vocabulary.decode([i])) for i in range(vocabulary.vocab_size))
        held = (i for i, text in texts if any(stop in text for stop in stop_texts))
        return tuple(sorted({*ends, *held}))

    def _run(
        self, function: Callable, variables: Variables, batches: Any, **settings: Any
    ) -> tuple[np.ndarray, ...]:
        """Calls a jitted function; rows are added for the mesh's sake and taken off again."""
        count = len(jax.tree.leaves(batches)[0])

        def place(rows):
            rows = np.concatenate([rows, np.repeat(rows[-1:], -count % self.rows, axis=0)])
            return jax.make_array_from_callback(
                rows.shape, self._sharding, lambda index: rows[index]
            )

        came_on()
        with use(self.mesh):
            results = function(variables, *jax.tree.map(place, batches), **settings)
        return tuple(np.asarray(result)[:count] for result in results)
