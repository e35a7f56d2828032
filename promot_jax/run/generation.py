"""Token ids in, token ids out, on a mesh; one compilation for each shape and way of decoding."""

import functools

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from promot_jax.models import T5, Decoding, Variables, generate
from promot_jax.training import replicated, use
from promot_jax.training.mesh import BATCH


class Generator:
    """`generator(variables, tokens, decoding)` -> ids; every host gives and gets all rows."""

    def __init__(self, model: T5, mesh: Mesh):
        self.mesh = mesh
        self.rows = mesh.shape["data"] * mesh.shape["fsdp"]
        function = functools.partial(generate, model)
        self._jitted = jax.jit(function, static_argnums=2, out_shardings=replicated(mesh))

    def __call__(
        self, variables: Variables, tokens: Int[np.ndarray, "batch inputs"], decoding: Decoding
    ) -> Int[np.ndarray, "batch outputs"]:
        """Generates for a batch; rows are added for the mesh's sake and taken off again."""
        count = len(tokens)
        tokens = np.concatenate([tokens, np.repeat(tokens[-1:], -count % self.rows, axis=0)])
        sharding = NamedSharding(self.mesh, PartitionSpec(BATCH))
        inputs = jax.make_array_from_callback(tokens.shape, sharding, lambda index: tokens[index])
        with use(self.mesh):
            ids, _ = self._jitted(variables, inputs, decoding)
        return np.asarray(ids)[:count]
