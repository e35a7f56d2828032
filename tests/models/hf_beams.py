"""Beam searches of Transformers on a tiny T5 1.1: live where it is installed, recorded where not.

    python tests/models/hf_beams.py    records them again, into goldens/hf_beams.npz

The weights are NumPy's numbers either way (`tiny_models.variables_of`). After an output's EOS
Transformers' beam search repeats EOS; here there is padding.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
from tiny_models import batch_of, tiny, variables_of

from promot_jax.convert.huggingface import names, transposed

GOLDEN = Path(__file__).parent / "goldens" / "hf_beams.npz"
INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
BEAMS, EOS, ROWS = 4, 1, 6
SEEDS = (0, 1, 2)
# (most tokens of an output, length penalty)
SEARCHES = ((1, 1.0), (12, 1.0), (12, 0.0), (12, 2.0), (12, -1.0))
HEAD = "params/decoder/logits_dense/kernel"
MODEL = tiny(prompts=())
INPUTS = batch_of(rows=ROWS, inputs=9)["encoder_input_tokens"]


def variables(seed: int) -> dict[str, np.ndarray]:
    """Random ones that end some outputs early."""
    drawn = {path: np.array(value) for path, value in variables_of(MODEL, seed).items()}
    drawn[HEAD][:, EOS] *= 2
    return drawn


def of_transformers(seed: int):
    """Transformers' model of the same weights."""
    import torch
    import transformers

    ours = MODEL.config
    config = transformers.T5Config(
        vocab_size=ours.vocab_size, d_model=ours.emb_dim, d_kv=ours.head_dim, d_ff=ours.mlp_dim,
        num_layers=ours.num_encoder_layers, num_heads=ours.num_heads,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config).eval()
    # Tied when made, whatever the settings say; a file with both matrices unties them.
    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    parameters, drawn = dict(model.named_parameters()), variables(seed)
    theirs = names(ours)
    assert set(theirs.values()) == set(parameters) and set(theirs) == set(drawn)
    with torch.no_grad():
        for path, name in theirs.items():
            parameters[name].copy_(
                torch.tensor(np.ascontiguousarray(transposed(path, drawn[path])))
            )
    return model


def search(model, length: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """All beams [rows, beams, length], best first, and their scores."""
    import torch

    tokens = torch.tensor(INPUTS).long()
    found = model.generate(
        input_ids=tokens, attention_mask=(tokens > 0).long(), num_beams=BEAMS,
        num_return_sequences=BEAMS, max_new_tokens=length, length_penalty=penalty,
        early_stopping=False, do_sample=False, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    ids = np.zeros((ROWS, BEAMS, length), np.int32)
    given = found.sequences[:, 1:].numpy().reshape(ROWS, BEAMS, -1)
    ids[..., : given.shape[-1]] = given
    ids[np.cumsum(ids == EOS, axis=-1) - (ids == EOS) > 0] = 0
    return ids, found.sequences_scores.numpy().reshape(ROWS, BEAMS)


def live() -> dict[str, np.ndarray]:
    """What Transformers find: "ids/<seed>/<number of the search>" and "scores/..."."""
    results = {}
    for seed in SEEDS:
        model = of_transformers(seed)
        for k, how in enumerate(SEARCHES):
            results[f"ids/{seed}/{k}"], results[f"scores/{seed}/{k}"] = search(model, *how)
    return results


def expected() -> dict[str, np.ndarray]:
    """Live where Transformers are installed, or recorded."""
    if INSTALLED:
        return live()
    with np.load(GOLDEN) as file:
        return dict(file)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    sys.exit(np.savez_compressed(GOLDEN, **live()))
