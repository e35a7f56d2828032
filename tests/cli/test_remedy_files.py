"""Remedies that change what a stage minimises or how it steps, with recipes and each other."""

import re

import pytest
from test_gin_files import GIN, made

TERMS = ("l2sp", "ewc", "kl", "kl_without_prompt", "kl_task")
WEIGHTS = ("stm", "dft", "eaft", "talr", "flow")
STEPS = ("l2sp_decoupled", "finch", "mofo", "half_finetune", "freeze_lower", "sam")
NEEDED = {"ewc": "EWC_TASK = 'lab_qa'", "kl_task": "KL_TASK = 'lab_qa'"}
FIRST = "FIRST_TASK = 'lab_translate_quellan'"


def run_of(recipe, *names):
    """A run of a recipe with remedies."""
    files = [f"gin/remedies/{name}.gin" for name in names]
    needed = [NEEDED[name] for name in names if name in NEEDED] + [FIRST] * ("seq" in recipe)
    files = [f"gin/recipes/{recipe}.gin", *files, "gin/runs/lab.gin"]
    return made(files, ["WORKDIR = 'out'", *needed])


def text_of(made) -> str:
    """What is in it, without the addresses of functions."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(made))


def test_each_changes_the_run():
    """No two alike."""
    names = sorted(path.stem for path in (GIN / "remedies").glob("*.gin"))
    assert set(names) >= {*TERMS, *WEIGHTS, *STEPS}
    alone = [(name,) for name in TERMS + WEIGHTS + STEPS]
    found = [text_of(run_of("promot", *each)) for each in ((), *alone)]
    assert len(set(found)) == len(found) == 17


@pytest.mark.parametrize(
    "recipe",
    ["finetune", "promot_joint", "multitask_promot", "multitask_finetune", "sequential_promot"],
)
def test_all_at_once_behind_a_recipe(recipe):
    """On the stage that tunes the model, in whatever order, and nowhere before."""
    *before, stage = run_of(recipe, *TERMS, *WEIGHTS, *STEPS).stages
    again = run_of(recipe, *STEPS, *WEIGHTS, *TERMS).stages[-1]
    assert text_of(stage) == text_of(again)
    assert {term.name for term in stage.terms} == set(TERMS)
    assert set(stage.further) == {"kl_without_prompt", "kl_task"}
    assert all(data.prompts is None for data in stage.further.values())
    assert [type(weight).__name__.lower() for weight in stage.token_weights] == [*WEIGHTS]
    assert stage.sam_radius == 0.05 and stage.compares
    (part,) = [part for part in stage.train if part.pattern == "params"]
    assert len(part.filters) == 4 and part.frozen
    assert not any(stage.terms or stage.token_weights or stage.sam_radius for stage in before)


def test_lora_is_what_is_trained_and_taken_back():
    """In the place of the model, behind whatever comes before; as stage one the model is again."""
    prompt, model, back = run_of("promot", "lora", "wise_ft", "kl").stages
    assert [part.pattern for stage in (prompt, model) for part in stage.train] == ["prompt", "lora"]
    assert [term.name for term in model.terms] == ["kl"]
    assert back.transform.pattern == "lora/*/b"
    assert run_of("finetune", "lora").model.lora.scale == 2
    first, second, back = run_of("lora_promot", "wise_ft").stages
    assert [part.pattern for stage in (first, second) for part in stage.train] == ["lora", "params"]
    assert [asked.lora for stage in (first, second) for asked in stage.evaluations] == [1, 0, 1, 0]
    assert back.transform.pattern == "params"
    assert run_of("finetune").model.lora is None
