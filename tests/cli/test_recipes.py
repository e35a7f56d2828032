"""Recipes of several tasks, and the joint one, run whole on the lab's base model."""

import json

import pytest
from command_lines import FAST, flags

from promot_jax.run import LanguageModel

SMALL = {
    "BASE": "promot_jax/assets/lab/base", "WORKDIR": "out",
    "PROMPT_LENGTH": 4, "PROMPT_STEPS": 2, "PROMPT_EVALUATE_EVERY": 2, "STEPS": 2,
    "EVALUATE_EVERY": 1, "INPUT_LENGTH": 48, "TARGET_LENGTH": 12, "BATCH_SIZE": 8, "BEAMS": 1,
    "EVAL_LIMIT": 8, "EVAL_BATCH_SIZE": 8, "EVAL_INPUT_LENGTH": 32, "MAX_OUTPUT_LENGTH": 4,
    "HELD_OUT": ["lab_qa"], "SHOTS": (0,),
}  # fmt: skip
NLI, QUELLAN = "lab_nli", "lab_translate_quellan"
JOINT = {"TASK": NLI, "UNFREEZE": 1}
SEVERAL = {"TASK": [NLI, QUELLAN]}
SEQUENCE = {"FIRST_TASK": NLI, "TASK": QUELLAN}
# recipe -> its settings, and the targets of each stage with whether they have a prompt
RECIPES = {
    "promot_joint": (JOINT, {"1-prompt": {NLI: True}, "2-model": {NLI: True}}),
    "multitask_promot": (
        SEVERAL,
        {"1-prompt": {NLI: True, QUELLAN: True}, "2-model": {NLI: True, QUELLAN: True}},
    ),
    "multitask_finetune": (SEVERAL, {"1-model": {NLI: False, QUELLAN: False}}),
    "sequential_promot": (
        SEQUENCE,
        {
            "1-first_prompt": {NLI: True},
            "2-first_model": {NLI: True},
            "3-prompt": {QUELLAN: True},
            "4-model": {QUELLAN: True, NLI: True},
        },
    ),
    "sequential_finetune": (
        SEQUENCE,
        {"1-first_model": {NLI: False}, "2-model": {QUELLAN: False, NLI: False}},
    ),
}


def run(promot, folder, recipe):
    settings, _ = RECIPES[recipe]
    files = [f"--gin_file=gin/recipes/{recipe}.gin", "--gin_file=gin/models/lab.gin"]
    done = promot(["run", *files, *flags(**SMALL | settings), *FAST], folder)
    assert done.code == 0, done.err
    return folder / "out"


@pytest.mark.parametrize("recipe", RECIPES)
def test_results(promot, tmp_path, recipe):
    out = run(promot, tmp_path, recipe)
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
    _, stages = RECIPES[recipe]
    assert {row["method"] for row in rows} == {recipe}
    targets = {stage: {} for stage in stages}
    for row in rows:
        assert row["n"] == 8 and row["low"] <= row["value"] <= row["high"]
        if row["group"] == "target":
            targets[row["stage"]][row["task"]] = row["prompt"]
        else:
            assert (row["task"], row["prompt"]) == ("lab_qa", False)
    assert targets == stages
    for stage in stages:
        steps = {row["step"] for row in rows if row["stage"] == stage}
        chosen = {row["step"] for row in rows if row["stage"] == stage and row["selected"]}
        assert steps == ({0, 2} if "prompt" in stage else {0, 1, 2})
        assert len(chosen) == 1 and chosen <= steps - {0}
    if recipe == "sequential_promot":
        check_prompts(out)


LAB = ["--gin_file=gin/runs/lab.gin"]
RATES = [(NLI, 3.0), (QUELLAN, 1.0), ("lab_senses", 0.0)]
MIXES = f"import seqio\nfrom tasks import lab\nseqio.MixtureRegistry.add('mixed', {RATES})\n"


def small(**settings):
    """`SMALL` as far as gin/runs/lab.gin does not say it."""
    return flags(**{k: v for k, v in SMALL.items() if k not in ("BASE", "HELD_OUT")} | settings)


@pytest.mark.parametrize(("recipe", "order"), [("multitask_promot", -1), ("finetune", 1)])
def test_several_tasks_of_the_lab_in_any_order_of_files(promot, tmp_path, recipe, order):
    files = [f"--gin_file=gin/recipes/{recipe}.gin", *LAB][::order]
    done = promot(["run", *files, *small(TASK=[NLI, QUELLAN]), *FAST], tmp_path)
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    targets = {(row["task"], row["prompt"]) for row in rows if row["group"] == "target"}
    assert targets == {(task, recipe != "finetune") for task in (NLI, QUELLAN)}
    about = json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))
    assert about["targets"] == [NLI, QUELLAN]
    assert len(about["prompts"]) == (0 if recipe == "finetune" else 2)


def test_mixture_with_rates(promot, tmp_path):
    """A module of the user's registers it; it is trained at its rates and scored task by task."""
    (tmp_path / "mixes.py").write_text(MIXES, encoding="utf-8")
    files = ["--gin_file=gin/recipes/multitask_promot.gin", *LAB]
    settings = small(TASK="mixed", MODULES="mixes")
    done = promot(["run", *files, *settings, *FAST], tmp_path)
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert {row["task"] for row in rows if row["group"] == "target"} == {NLI, QUELLAN}
    assert "lab_senses" in {row["task"] for row in rows if row["group"] != "target"}


def check_prompts(out):
    """Each prompt changes in the stage that trains it, and in no other."""
    prompts = {
        stage: {
            name: LanguageModel(str(out / stage), {"data": 1}).variables[f"prompt/{name}"].tolist()
            for name in ("first", "target")
        }
        for stage in ("1-first_prompt", "2-first_model", "3-prompt", "4-model")
    }
    first, target = ([prompts[stage][name] for stage in prompts] for name in ("first", "target"))
    assert first[0] == first[1] == first[2] == first[3]
    assert target[0] == target[1] != target[2] == target[3]
