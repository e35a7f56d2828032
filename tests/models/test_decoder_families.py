"""Every family against Transformers' own model: as near to the exact logits as theirs are."""

import hf_decoders as hf
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from promot_jax.models import Decoding, generate, nested

pytestmark = pytest.mark.skipif(not hf.INSTALLED, reason="needs torch and transformers")
ROWS, LENGTH = 3, 23
IDS = np.random.default_rng(0).integers(3, 101, (ROWS, LENGTH)).astype(np.int32)
LENGTHS = np.array([23, 11, 6])
EOS, NEW = 5, 8


@pytest.fixture(scope="module", params=hf.FAMILIES)
def made(request):
    """(Transformers' model, its logits for `IDS`, the exact ones)."""
    model = hf.model(request.param)
    ids = IDS.astype(np.int64)
    return model, hf.logits(model, input_ids=ids), hf.logits(model, True, input_ids=ids)


def every_position(ids, **more):
    """A batch whose targets are all positions."""
    positions = np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
    return {"decoder_input_tokens": ids, "decoder_target_positions": positions} | more


def apply(model, variables, batch):
    return np.asarray(jax.jit(lambda v, b: model.apply(nested(v), b))(variables, batch))


def check(got, theirs, exact):
    """The error is at most three times theirs; a flat tolerance would hide a wrong switch."""
    assert np.abs(got - exact).max() <= 3 * np.abs(theirs - exact).max()


@pytest.mark.parametrize("changes", [{}, {"scan_layers": True, "remat": True}], ids=["", "scan"])
def test_logits(made, changes):
    """Scanned layers too: what they see and their rope are picked by number."""
    model, theirs, exact = made
    ours, variables = hf.ours(model, **changes)
    check(apply(ours, variables, every_position(IDS)), theirs, exact)


def test_padding_and_packing(made):
    """Each text alone, in a padded row and packed into one row with others gives the same."""
    model, theirs, exact = made
    ours, variables = hf.ours(model)
    padded = np.where(np.arange(LENGTH) < LENGTHS[:, None], IDS, 0)
    got = apply(ours, variables, every_position(padded))
    for row, length in enumerate(LENGTHS):
        check(got[row, :length], theirs[row, :length], exact[row, :length])
    parts = [np.arange(n) for n in LENGTHS]
    packed = {
        "decoder_positions": np.concatenate([*parts, [0, 0]]),
        "decoder_segment_ids": np.repeat([1, 2, 3, 0], [*LENGTHS, 2]),
    }
    packed = {name: x[None].astype(np.int32) for name, x in packed.items()}
    ids = np.concatenate([IDS[row, part] for row, part in enumerate(parts)] + [[0, 0]])
    got = apply(ours, variables, every_position(ids[None].astype(np.int32), **packed))[0]
    for row, start in enumerate(np.cumsum([0, *LENGTHS[:2]])):
        part = parts[row]
        check(got[start + part], theirs[row, part], exact[row, part])


@pytest.mark.parametrize(("scan", "beams"), [(False, 2), (True, 1)])
def test_prefill_and_steps_are_the_whole(made, scan, beams):
    """Rows of different lengths, each continued with its own next tokens; beams share `kept`."""
    model, theirs, exact = made
    ours, variables = hf.ours(model, scan_layers=scan)
    variables, steps = nested(variables), 4
    lengths = LENGTHS - [6, 5, 5]
    inputs = np.where(np.arange(LENGTH - 3) < lengths[:, None], IDS[:, : LENGTH - 3], 0)
    segments = (np.arange(LENGTH - 3) < lengths[:, None]).astype(np.int32)

    @jax.jit
    def run(variables, inputs, segments, tokens):
        first, cache, kept = ours.apply(variables, inputs, segments, steps + 2, method="prefill")
        cache = jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), cache)
        found = [jnp.repeat(first, beams, axis=0)]
        for index in range(1, steps + 1):
            token = jnp.repeat(tokens[:, index - 1], beams, axis=0)
            logits, cache = ours.apply(
                variables, token, cache, kept, jnp.int32(index), method="decode_step"
            )
            found.append(logits)
        return jnp.stack(found, axis=1)

    tokens = np.stack([IDS[row, n : n + steps] for row, n in enumerate(lengths)])
    got = run(variables, inputs, segments, tokens)
    for row, n in enumerate(lengths):
        part = slice(n - 1, n + steps)
        for beam in range(beams):
            check(got[row * beams + beam], theirs[row, part], exact[row, part])


@pytest.mark.parametrize("beams", [1, 4])
def test_generate(made, beams):
    """Greedy search, and beams by Transformers' rules, row by row: theirs would be padded left."""
    import torch

    model, _, _ = made
    ours, variables = hf.ours(model)
    segments = (np.arange(LENGTH) < LENGTHS[:, None]).astype(np.int32)
    how = Decoding(NEW, beams=beams, beam_search="huggingface", length_penalty=1.0)
    run = jax.jit(lambda v, ids: generate(ours, v, ids, segments, how, (EOS,))[0])
    got = np.asarray(run(variables, np.where(segments == 1, IDS, 0)))
    for row, length in enumerate(LENGTHS):
        ids = torch.tensor(IDS[row : row + 1, :length].astype(np.int64))
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=beams, do_sample=False,
            max_new_tokens=NEW, eos_token_id=EOS, pad_token_id=0, length_penalty=1.0,
            early_stopping=False,
        )[0, length:].tolist()  # fmt: skip
        if EOS in found:
            found = found[: found.index(EOS) + 1]
        assert got[row, : len(found)].tolist() == found


def test_prompts_lie_where_peft_keeps_them(made):
    """[prompt | text] as PEFT makes it: the table's rows scaled where they are, prompts never."""
    model, _, _ = made
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((5, hf.SIZES["hidden_size"])).astype(np.float32)
    ours, variables = hf.ours(model, prompts=(("other", 2), ("own", 3)))
    variables = variables | {"prompt/other": rows[:2], "prompt/own": rows[2:]}
    ids = np.concatenate([np.tile([103, 104, 105], (ROWS, 1)), IDS[:, :12]], axis=1)
    import torch

    with torch.no_grad():
        text = model.get_input_embeddings()(torch.tensor(IDS[:, :12].astype(np.int64))).numpy()
    embeds = np.concatenate([np.tile(rows[2:], (ROWS, 1, 1)), text], axis=1)
    theirs, exact = (hf.logits(model, double, inputs_embeds=embeds) for double in (False, True))
    check(apply(ours, variables, every_position(ids.astype(np.int32))), theirs, exact)


@pytest.mark.parametrize("name", ["llama", "qwen2_window", "gemma2", "gemma3", "olmo2"])
def test_bfloat16_stays_near(name):
    """Not much farther from the exact logits than Transformers in bfloat16 are."""
    import torch

    model = hf.model(name)
    exact = hf.logits(model, True, input_ids=IDS.astype(np.int64))
    ours, variables = hf.ours(model, dtype="bfloat16", param_dtype="bfloat16")
    got = apply(ours, variables, every_position(IDS))
    assert got.dtype == np.float32
    with torch.no_grad():
        theirs = model.bfloat16()(torch.tensor(IDS.astype(np.int64))).logits.float().numpy()
    error, their_error = (np.sqrt(np.mean((x - exact) ** 2)) for x in (got, theirs))
    assert error <= 1.5 * their_error
