"""What compiled programs exchange between eight devices: no whole batch, no whole head."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from shardings_run import ANSWERS, MESHES, ROWS, SCORES, SIZES, STEPS, TARGETS
from tiny_training import DECODER, T5

HERE = Path(__file__).parent
EMBED, VOCAB = SIZES["emb_dim"], SIZES["vocab_size"]
HIDDEN = ROWS * TARGETS * EMBED  # the smallest activation of the whole batch


@pytest.fixture(scope="module")
def compiled(on_eight_devices):
    """What `shardings_run.py` prints."""
    return on_eight_devices(HERE / "shardings_run.py")


def parts(shapes) -> set[tuple[int, ...]]:
    """Shapes of the matrices of a model, of one layer, and of what a mesh makes of them."""
    found = set()
    for shape in shapes:
        for whole in (shape, shape[1:]):
            for cuts in itertools.product((1, 2, 4, 8), repeat=len(whole)):
                if all(size % cut == 0 for size, cut in zip(whole, cuts, strict=True)):
                    found.add(tuple(s // c for s, c in zip(whole, cuts, strict=True) if s > c))
    return found


STEP_NAMES = [" ".join(case) for case in STEPS]
ANSWER_NAMES = [" ".join(map(str, case)) for case in ANSWERS]


@pytest.mark.parametrize("name", STEP_NAMES)
def test_a_step_lays_out_its_activations(compiled, name):
    least = {T5: 60, DECODER: 30}
    assert compiled["steps"][name]["constraints"] > least[name.split()[0]]


@pytest.mark.parametrize("name", STEP_NAMES)
def test_a_step_exchanges_matrices_and_no_batch(compiled, name):
    """The loss gathers a few positions of each row at a time."""
    matrices = parts(compiled["shapes"][name.split()[0]])
    for _, shape in compiled["steps"][name]["exchanges"]:
        assert tuple(shape) in matrices or math.prod(shape) < HIDDEN, shape


@pytest.mark.parametrize("name", [n for n in STEP_NAMES if "fsdp" in n])
def test_neither_head_nor_table_is_whole(compiled, name):
    """Nor their gradients; on a `data` mesh, which has them whole, they are summed whole."""
    part = VOCAB * EMBED // MESHES[name.split()[1]]["fsdp"]
    sizes = [math.prod(shape) for _, shape in compiled["steps"][name]["exchanges"]]
    assert max(sizes) <= part
    sizes = [math.prod(shape) for _, shape in compiled["steps"][f"{T5} data"]["exchanges"]]
    assert max(sizes) == VOCAB * EMBED


def test_between_slices_there_is_no_row(compiled):
    """A slice gathers its own rows alone."""
    for _, shape in compiled["steps"][f"{T5} slice_fsdp"]["exchanges"]:
        assert ROWS not in shape, shape
    assert any(ROWS in shape for _, shape in compiled["steps"][f"{DECODER} fsdp"]["exchanges"])


@pytest.mark.parametrize("name", [" ".join(case) for case in SCORES])
def test_scoring_gathers_a_few_positions(compiled, name):
    matrices = parts(compiled["shapes"][name.split()[0]])
    for _, shape in compiled["scores"][name]["exchanges"]:
        assert math.prod(shape) < (VOCAB * EMBED if tuple(shape) in matrices else HIDDEN), shape


@pytest.mark.parametrize("name", ANSWER_NAMES)
def test_no_step_of_decoding_gathers_weights(compiled, name):
    """Each layer's are gathered once, for the inputs; a step exchanges its rows alone."""
    matrices = {s for s in parts(compiled["shapes"][name.split()[0]]) if len(s) > 1}
    exchanges = compiled["answers"][name]["exchanges"]
    in_steps = {tuple(shape) for step, shape in exchanges if step}
    assert in_steps and not in_steps & matrices
    assert {tuple(shape) for step, shape in exchanges if not step} & matrices
    rows = ROWS * int(name.split()[2])
    assert max(math.prod(shape) for shape in in_steps) < rows * VOCAB  # nor all logits


@pytest.mark.parametrize("name", ANSWER_NAMES)
def test_decoding_needs_no_more_memory_than_a_step(compiled, name):
    kind, mesh, _ = name.split()
    assert compiled["answers"][name]["bytes"] < compiled["steps"][f"{kind} {mesh}"]["bytes"]


@pytest.mark.parametrize("name", ANSWER_NAMES)
def test_eight_devices_answer_as_one(compiled, name):
    one, eight = compiled["answers"][name]["ids"]
    np.testing.assert_array_equal(one, eight)
    assert len(np.unique(one)) > 5
