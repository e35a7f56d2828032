"""The step of `bench.train_step --model smollm2_135m`, as Transformers and PEFT do it.

    python -m bench.transformers_step --method finetune

The same rows, the loss on the same tokens, AdamW. Prompt tuning is PEFT's, which freezes the model.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence

import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from bench.train_step import CONFIGS, LENGTHS, rows

NAME = "smollm2_135m"


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=("finetune", "prompt_tuning"), default="finetune")
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args(argv)
    model = build(args.method == "prompt_tuning")
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), 1e-3)
    ids = torch.tensor(rows(NAME)).long()
    labels = ids.clone()
    labels[:, : LENGTHS[NAME][0]] = -100  # no loss on the input
    seconds = []
    for _ in range(args.steps + 2):
        begun = time.perf_counter()
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result = {"method": args.method, "peak_rss_gib": round(peak, 3)}
    result["ms_per_step"] = round(1000 * statistics.median(seconds[2:]), 1)
    print(json.dumps(result | {"torch": torch.__version__, "threads": torch.get_num_threads()}))


def build(tuned: bool) -> torch.nn.Module:
    """A random model of the same sizes, with PEFT's prompt in front or not."""
    ours = CONFIGS[NAME]
    config = LlamaConfig(
        vocab_size=ours.vocab_size, hidden_size=ours.emb_dim, intermediate_size=ours.mlp_dim,
        num_hidden_layers=ours.num_layers, num_attention_heads=ours.num_heads,
        num_key_value_heads=ours.num_kv_heads, rms_norm_eps=ours.rms_norm_eps,
        rope_theta=ours.rope_theta, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    if not tuned:
        return model.train()
    length = LENGTHS[NAME][2]
    return get_peft_model(
        model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=length)
    ).train()


if __name__ == "__main__":
    main()
