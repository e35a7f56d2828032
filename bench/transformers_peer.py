"""The work of `bench.train_step` and `bench.generation` as Transformers and PEFT do it.

    python -m bench.transformers_peer --model t5 --work finetune

The same sizes, rows, tokens that the loss is on, and optimizers; random weights, no dropout. Prompt
tuning is PEFT's, which freezes the model. On a GPU where torch sees one.
"""

import argparse
import contextlib
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import transformers
from peft import PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from bench.generation import INPUTS, OUTPUTS, batches
from bench.sizes import SIZES, Size

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="t5")
    parser.add_argument(
        "--work", choices=("finetune", "prompt_tuning", "generate"), default="finetune"
    )
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args(argv)
    size = SIZES[args.model]
    if args.work == "generate":
        result = generation(size)
    else:
        result = training(size, args.work == "prompt_tuning", args.steps, args.dtype)
    result["peak_rss_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)
    if DEVICE == "cuda":
        result["peak_device_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"model": args.model, "work": args.work} | result | versions))


def build(size: Size) -> torch.nn.Module:
    """A random model of the same sizes."""
    ours = size.config
    if ours.kind == "decoder_only":
        config = LlamaConfig(
            vocab_size=ours.vocab_size, hidden_size=ours.emb_dim, intermediate_size=ours.mlp_dim,
            num_hidden_layers=ours.num_layers, num_attention_heads=ours.num_heads,
            num_key_value_heads=ours.num_kv_heads, rms_norm_eps=ours.rms_norm_eps,
            rope_theta=ours.rope_theta, tie_word_embeddings=True, eos_token_id=None,
        )  # fmt: skip
        return LlamaForCausalLM(config).to(DEVICE)
    config = T5Config(
        vocab_size=ours.vocab_size, d_model=ours.emb_dim, d_kv=ours.head_dim, d_ff=ours.mlp_dim,
        num_layers=ours.num_encoder_layers, num_decoder_layers=ours.num_decoder_layers,
        num_heads=ours.num_heads, dropout_rate=0.0, feed_forward_proj="gated-gelu",
        tie_word_embeddings=False, eos_token_id=None, decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config).to(DEVICE)


def tuned(model: torch.nn.Module, size: Size) -> torch.nn.Module:
    """PEFT's prompt in front of the input, the model frozen."""
    causal = size.config.kind == "decoder_only"
    kind = "CAUSAL_LM" if causal else "SEQ_2_SEQ_LM"
    config = PromptTuningConfig(
        task_type=kind, num_virtual_tokens=size.prompt, num_transformer_submodules=1
    )
    return get_peft_model(model, config)


def optimizer(model: torch.nn.Module, size: Size, frozen: bool) -> torch.optim.Optimizer:
    """AdamW for a decoder; T5's Adafactor, for prompts without its factors, as ours."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if size.config.kind == "decoder_only":
        return torch.optim.AdamW(parameters, 1e-3)
    return transformers.Adafactor(
        parameters, lr=1e-3, scale_parameter=not frozen, relative_step=False, warmup_init=False
    )


def training(size: Size, frozen: bool, steps: int, dtype: str) -> dict[str, float]:
    """The median of steps."""
    model = build(size)
    model.config.use_cache = False
    model = (tuned(model, size) if frozen else model).train()
    update = optimizer(model, size, frozen)
    ids = torch.tensor(size.rows(), device=DEVICE).long()
    if size.config.kind == "decoder_only":
        labels = ids.clone()
        labels[:, : size.inputs] = -100  # no loss on the input
        batch = {"input_ids": ids, "labels": labels}
    else:
        batch = {"input_ids": ids[:, : size.inputs], "labels": ids[:, size.inputs :].contiguous()}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    half = torch.autocast(DEVICE, torch.bfloat16)

    def step():
        with half if dtype == "bfloat16" else contextlib.nullcontext():
            loss = model(**batch).loss
        loss.backward()
        update.step()
        update.zero_grad()

    median = statistics.median([timed(step) for _ in range(steps + 2)][2:])
    return {
        "ms_per_step": round(1000 * median, 1),
        "examples_per_second": round(size.batch / median, 2),
    }


def generation(size: Size) -> dict[str, float]:
    """All inputs, after the first ones once."""
    model, causal = build(size).eval(), size.config.kind == "decoder_only"

    def generate(tokens, segments):
        model.generate(
            input_ids=torch.tensor(tokens, device=DEVICE).long(),
            attention_mask=torch.tensor(segments, device=DEVICE).long(),
            max_new_tokens=OUTPUTS, min_new_tokens=OUTPUTS, do_sample=False, pad_token_id=0,
        )  # fmt: skip

    made = list(batches(size, left=causal))
    with torch.inference_mode():
        generate(*made[-1])
        seconds = timed(lambda: [generate(*batch) for batch in made])
    return {
        "seconds": round(seconds, 2),
        "tokens_per_second": round(INPUTS * OUTPUTS / seconds, 1),
    }


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes, on the device too."""
    begun = time.perf_counter()
    work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
