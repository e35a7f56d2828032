"""Lists of runs that experiments share: recipes, with remedies behind them."""

import argparse
from pathlib import Path

import pytest

from bench import experiment, real_table
from promot_jax.report.results import checkpoints_of
from promot_jax.report.rows import parse_rows


def test_a_method_is_a_recipe_with_remedies():
    assert experiment.method("promot+lora+wise_ft") == "promot+lora+wise_ft"
    for text, says in (("tune", "none of finetune"), ("promot+tune", "'tune' is no remedy: dft")):
        with pytest.raises(argparse.ArgumentTypeError, match=says):
            experiment.method(text)


def test_runs_have_names_bases_and_rates_of_their_own():
    names = ["finetune+lora", "lora_promot", "promot+l2sp"]
    listed = list(experiment.methods(Path("root"), [0], [1e-4], names))
    given = {name: (method, set(settings)) for name, method, settings in listed}
    assert list(given) == ["base", "prompt_tuning", *(f"{name}-lr0.0001" for name in names)]
    prompt = {"BASE = 'root/prompt_tuning'", experiment.SECOND_STAGE}
    method, of = given["finetune+lora-lr0.0001"]
    assert method == "finetune+lora" and not prompt & of
    assert {"run.Run.method = 'finetune+lora'", "LORA_LEARNING_RATE = 0.0001"} <= of
    method, of = given["lora_promot-lr0.0001"]
    assert method == "lora_promot" and not prompt & of and "LEARNING_RATE = 0.0001" in of
    method, of = given["promot+l2sp-lr0.0001"]
    assert prompt <= of and "LEARNING_RATE = 0.0001" in of


def row(method, stage, step, group, value, **more):
    found = {
        "method": method, "stage": stage, "step": step, "group": group, "value": value,
        "task": group, "metric": "accuracy", "scale": 1.0, "n": 10, "low": value, "high": value,
        "shots": 0, "prompt": False, "seed": 0, "learning_rate": 1e-4, "format_share": 0.0,
        "selected": False, "split": "validation",
    }  # fmt: skip
    return found | more


def test_what_is_taken_away_is_a_method_of_its_own():
    scores = [
        ("base", "1-evaluation", 0, 0.0, 0.9, {"learning_rate": None, "seed": None}),
        ("promot", "1-prompt", 2, 0.6, None, {"learning_rate": 1e-2}),
        ("lora_promot", "1-lora", 2, 0.6, 0.9, {"learning_rate": 1e-3}),
        ("lora_promot", "1-lora", 4, 0.8, 0.9, {"learning_rate": 1e-3}),
        ("lora_promot", "2-model", 4, 0.85, 0.8, {}),
        ("lora_promot", "3-wise_ft", 1, 0.8, 0.8, {"coefficient": 1.0, "learning_rate": None}),
        ("lora_promot", "3-wise_ft", 2, 0.4, 0.85, {"coefficient": 0.5, "learning_rate": None}),
    ]
    rows = [
        row(method, stage, step, group, value, **more)
        for method, stage, step, target, held, more in scores
        for group, value in (("target", target), ("held_out", held))
        if value is not None
    ]
    found = real_table.curves(real_table.rated(checkpoints_of(parse_rows(rows))))
    names = {"": 1e-4, ": lora": 1e-3, ": wise_ft": 1e-4}
    assert set(found) == {(f"lora_promot{name}", rate, 0) for name, rate in names.items()}
    taken = found["lora_promot: lora", 1e-3, 0]
    assert [point.step for point in taken] == [2, 4]
    assert real_table.reading(taken, 0.7)["held out, 0-shot"] == pytest.approx(0.9)
    back = found["lora_promot: wise_ft", 1e-4, 0]
    assert [point.step for point in back] == [0.5, 1.0]
    assert real_table.reading(back, 0.6)["held out, 0-shot"] == pytest.approx(0.825)
