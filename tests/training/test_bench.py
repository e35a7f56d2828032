"""What benches measure, and the table that they print."""

import numpy as np
import pytest

from bench.gpu_table import table
from bench.sizes import SIZES
from bench.train_step import batch

LINES = [
    {"shape": "qwen 3", "implementation": "cudnn", "ms": 1.5, "error": 0.004, "device": "a card"},
    {"shape": "qwen 3", "implementation": "splash", "left out": "it runs on TPUs"},
    {
        "tool": "promot_jax", "work": "finetune", "model": "t5", "method": "finetune", "packed": 1,
        "ms_per_step": 70.0, "examples_per_second": 12.5, "mfu": 0.41, "device": "a card",
    },
    {"model": "t5", "work": "finetune", "times_as_fast": 2.0, "share_of_peak_rss_gib": 0.9},
    {"model": "t5", "method": "prompt_tuning", "packed": 3, "ms_per_step": 60.0, "mfu": None},
]  # fmt: skip


def test_one_table():
    head, *rows, devices = (line.split() for line in table(LINES).splitlines())
    assert head[:3] == ["what", "by", "ms"] and devices == ["on", "a", "card"]
    assert rows == [
        ["qwen", "3", "cudnn", "1.5"],
        ["qwen", "3", "splash", "left", "out"],
        ["t5", "finetune", "promot_jax", "70.0", "12.5", "0.41"],
        ["t5", "finetune", "2.0"],
        ["t5", "prompt_tuning", "3", "a", "row", "promot_jax", "60.0"],
    ]


@pytest.mark.parametrize("model", ["t5_1_1_base", "smollm2_135m"])
def test_packed_rows_have_several_prompts(model):
    size, packed = SIZES[model], batch(SIZES[model], True, 3)
    ids = packed.get("encoder_input_tokens", packed["decoder_input_tokens"])
    segments = packed.get("encoder_segment_ids", packed.get("decoder_segment_ids"))
    assert (np.unique(segments[segments > 0]) == [1, 2, 3]).all()
    assert (np.sum(ids == size.config.vocab_size, axis=1) == 3).all()  # a prompt's first vector
    alone = batch(size, True)
    assert packed["decoder_loss_weights"].sum() == size.batch * (size.targets // 3) * 3
    assert alone["decoder_loss_weights"].all()
