"""Token ids in, token ids or scores out, on a mesh; one compilation for each shape."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool, Float, Int

from promot_jax.models import T5, Decoding, Variables, generate, score
from promot_jax.training import replicated, use
from promot_jax.training.mesh import BATCH


class Generator:
    """`generator(variables, tokens, decoding, rows)` -> ids; every host gives and gets all rows."""

    def __init__(self, model: T5, mesh: Mesh):
        self.mesh = mesh
        self.rows = mesh.shape["data"] * mesh.shape["fsdp"]
        everywhere = {"out_shardings": replicated(mesh)}
        self._generate = jax.jit(
            lambda variables, tokens, rows, decoding: generate(
                model, variables, tokens, decoding, rows
            ),
            static_argnames="decoding",
            **everywhere,
        )
        self._score = jax.jit(functools.partial(score, model), **everywhere)

    def __call__(
        self,
        variables: Variables,
        tokens: Int[np.ndarray, "batch inputs"],
        decoding: Decoding,
        rows: Sequence[int] | None = None,
    ) -> Int[np.ndarray, "batch outputs"]:
        """Generates for a batch; `rows` are the rows' numbers, for sampling (None: 0, 1, ...)."""
        rows = np.asarray(range(len(tokens)) if rows is None else rows, np.int32)
        return self._run(self._generate, variables, tokens, rows, decoding=decoding)[0]

    def score(
        self,
        variables: Variables,
        inputs: Int[np.ndarray, "batch inputs"],
        targets: Int[np.ndarray, "batch targets"],
    ) -> tuple[Float[np.ndarray, " batch"], Bool[np.ndarray, " batch"]]:
        """Log-likelihoods of targets, and whether greedy search produces them."""
        return self._run(self._score, variables, inputs, targets)

    def _run(
        self, function: Callable, variables: Variables, *batches: np.ndarray, **settings: Any
    ) -> tuple[np.ndarray, ...]:
        """Calls a jitted function; rows are added for the mesh's sake and taken off again."""
        count = len(batches[0])
        sharding = NamedSharding(self.mesh, PartitionSpec(BATCH))

        def place(rows):
            rows = np.concatenate([rows, np.repeat(rows[-1:], -count % self.rows, axis=0)])
            return jax.make_array_from_callback(rows.shape, sharding, lambda index: rows[index])

        with use(self.mesh):
            results = function(variables, *map(place, batches), **settings)
        return tuple(np.asarray(result)[:count] for result in results)
