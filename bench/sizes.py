"""What is measured: sizes of models, lengths of rows, and random tokens that all tools read.

t5            T5 1.1 with d_model 512, 6 heads of 64, d_ff 1024, 8 + 8 layers, vocabulary 32128
smollm2_135m  30 layers of 576, 9 heads, 3 key heads, vocabulary 49152
t5_1_1_base, t5_1_1_large, t5_1_1_xl
              as published, at the paper's lengths: for a GPU, in bfloat16
"""

import dataclasses

import numpy as np

from promot_jax import models


@dataclasses.dataclass(frozen=True)
class Size:
    """A model and its rows.

    Attributes:
      config: the model's.
      inputs: tokens of an input.
      targets: of a target.
      prompt: of a soft prompt, in addition to the input, where one is tuned.
      batch: rows of a step.
    """

    config: models.Config
    inputs: int
    targets: int
    prompt: int
    batch: int = 8

    def rows(self) -> np.ndarray:
        """The tokens of every row of a step, input and target, without padding."""
        shape = self.batch, self.inputs + self.targets
        return np.random.default_rng(0).integers(2, 32000, shape, np.int32)

    def asked(self, count: int) -> list[np.ndarray]:
        """The tokens of inputs to generate for, a third to all of `inputs` long, longest first."""
        rng = np.random.default_rng(1)
        lengths = np.sort(rng.integers(self.inputs // 3, self.inputs, count, endpoint=True))[::-1]
        return [rng.integers(2, 32000, length, np.int32) for length in lengths]


def t5(width: int, heads: int, layers: int, mlp: int, scan: bool = False) -> models.T5Config:
    """A T5 1.1."""
    return models.T5Config(
        vocab_size=32128, emb_dim=width, num_heads=heads, head_dim=64, mlp_dim=mlp,
        num_encoder_layers=layers, num_decoder_layers=layers, scan_layers=scan,
    )  # fmt: skip


SMOLLM2 = models.DecoderConfig(
    vocab_size=49152, emb_dim=576, num_heads=9, num_kv_heads=3, num_layers=30, head_dim=64,
    mlp_dim=1536, max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=1e5,
)  # fmt: skip
SIZES = {
    "t5": Size(t5(512, 6, 8, 1024), 128, 32, 100),
    "smollm2_135m": Size(SMOLLM2, 96, 32, 20),
    "t5_1_1_base": Size(t5(768, 12, 12, 2048), 512, 114, 100, batch=64),
    "t5_1_1_large": Size(t5(1024, 16, 24, 2816, scan=True), 512, 114, 100, batch=32),
    "t5_1_1_xl": Size(t5(2048, 32, 24, 5120, scan=True), 512, 114, 100, batch=8),
}


def flops(size: Size, tuned: bool) -> float:
    """Of a training step, as models are compared (PaLM's appendix B): recomputation not counted.

    Twice every matrix's weights for each token that it sees, and attention's two products, which
    are not halved for what is masked; times 3 for the gradients, or 2 where the weights are frozen.
    """
    inputs, targets = size.inputs + tuned * size.prompt, size.targets
    paths = models.abstract(models.build(size.config, ()))
    total = 0.0
    for path, leaf in paths.items():
        head = path.endswith("logits_dense/kernel") or (
            path.endswith("embedding") and size.config.logits_via_embedding
        )
        if path.endswith("kernel") or head:
            total += 2 * leaf.size * _tokens(path, head, inputs, targets, size.config.kind)
    width = size.config.num_heads * size.config.head_dim
    if size.config.kind == "decoder_only":
        pairs = size.config.num_layers * (inputs + targets) ** 2
    else:
        pairs = size.config.num_encoder_layers * inputs**2
        pairs += size.config.num_decoder_layers * targets * (targets + inputs)
    return size.batch * (2 if tuned else 3) * (total + 4 * width * pairs)


def _tokens(path: str, head: bool, inputs: int, targets: int, kind: str) -> int:
    """How many of a row a matrix sees."""
    if head:
        return targets
    if kind == "decoder_only":
        return inputs + targets
    crossing = "encoder_decoder_attention" in path and path.split("/")[-2] in ("key", "value")
    return inputs if path.startswith("params/encoder") or crossing else targets
