"""The page and its picture are made from rows, few or many, and from nothing else."""

import numpy as np
import pytest
from test_forgetting_analysis import FT, NLI, point
from test_forgetting_analysis import row as made_up

from bench.forgetting import page, plan, rows
from promot_jax.errors import UserError

MARKS = "".join(f"\n## {name}\n\n<!-- {name} -->\n" for name in page.SECTIONS)


def row(method, points, base=0, seed=0, **knobs):
    """A row of a run that is in the table."""
    runs = plan.runs_of(plan.NAMED[method], NLI, base, seed or 0)
    name = next(run.name for run in runs if run.about["knobs"] == knobs)
    return made_up(method, points, base, seed, **knobs) | {"name": name}


def made(pairs):
    """Rows of three methods with so many pairs; fine-tuning keeps 0.4 at 90 %, ProMoT 0.9."""
    found = [
        row("base", [point(0.0, 1.0, step=0)], base, None) for base in sorted({b for b, _ in pairs})
    ]
    for base, seed in pairs:
        swept = [point(0.96, 0.6, stage="wise_ft", step=1, coefficient=0.5)]
        found.append(row("fine-tuning", FT + swept, base, seed, LEARNING_RATE=3e-4))
        found.append(row("ProMoT", [point(0.96, 0.9)], base, seed, LEARNING_RATE=3e-4))
    common = {"machine": "a machine", "version": "v1"}
    measured = {
        "base": {},
        "fine-tuning": drift(4.0),
        "ProMoT": drift(0.5),
    }
    return {
        each["name"]: each | common | {"measured": {"cpu_seconds": 30.0} | measured[each["method"]]}
        for each in found
    }


def drift(kl):
    """What a run is measured on; of these rows all is kept or lost with `kl`."""
    kl = {"kl": {"target": kl, "plain": kl, "held_out": kl}}
    return kl | {"distance": 0.1, "rate_sqrt_loss": 0.2, "first_loss": 1.5, "updates": 600}


def like(other, row):
    """A row with what another one has of machine and measured."""
    return other | row | {"measured": other["measured"]}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A page made of rows: its text, and its picture."""

    def write(known, text=MARKS):
        rows.write(tmp_path / "rows.jsonl.xz", known.values())
        (tmp_path / "prose.md").write_text(text, encoding="utf-8")
        monkeypatch.setattr(page, "PROSE", tmp_path / "prose.md")
        page.main([f"--rows={tmp_path / 'rows.jsonl.xz'}", f"--page={tmp_path / 'page.md'}"])
        return (tmp_path / "page.md").read_text(encoding="utf-8"), tmp_path / "page_front.png"

    return write


def table(text, method):
    """The cells of a method's first line."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {method} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_one_pair_has_means_and_no_intervals(written):
    text, picture = written(made([(0, 0)]))
    assert "left out" not in text
    assert table(text, "ProMoT")[:4] == ["ProMoT", "0.900", "0.900", "not reached"]
    assert table(text, "fine-tuning")[1] == "0.400"
    assert "1 pairs" not in text
    lacking = next(line for line in text.splitlines() if line.startswith("- not run yet: "))
    names = lacking.removeprefix("- not run yet: ").rstrip(".").split("; ")
    assert {"EWC", "text tag"} <= set(names) and not {"ProMoT", "fine-tuning"} & set(names)
    assert picture.stat().st_size > 10_000


def test_several_pairs_have_intervals_and_tests(written):
    text, _ = written(made([(base, seed) for base in (0, 1, 2) for seed in (0, 1)]))
    cells = table(text, "fine-tuning + WiSE-FT")
    assert cells[1].startswith("0.600 (")
    assert cells[4].startswith("-0.300 (") and cells[5] != "–"  # than ProMoT, and tested
    assert cells[6].startswith("+0.300 (")  # than fine-tuning
    assert table(text, "fine-tuning")[-2:] == ["6 of 6", "1 (3)"]
    assert "6 pairs of a base and a seed (3 bases)" in text


def test_seeds_of_one_base_have_no_interval(written):
    text, _ = written(made([(0, 0), (0, 1)]))
    assert table(text, "fine-tuning + WiSE-FT")[4:7] == ["-0.300", "–", "+0.300"]


def test_rows_that_the_table_no_longer_has_are_left_out(written):
    known = made([(0, 0)])
    old = dict(next(row for row in known.values() if row["method"] == "ProMoT"))
    text, _ = written(known | {"old": old | {"name": "old", "seed": 9}})
    assert "- left out: 1 row of runs that are not in the table." in text
    assert "1 pair of a base and a seed" in text


def test_what_explains_is_told_from_the_ends_of_runs(written):
    text, _ = written(made([(base, 0) for base in range(3)]))
    ladder = text.partition("## ladder")[2]
    around = "(+0.68 to +0.72)"  # of rows alone
    assert table(ladder, "ProMoT")[1:] == [
        "1.50", "0.200", "0.960", "0.900", f"+0.700 {around}", "–", "0.900 (0.89–0.91)", "3",
    ]  # fmt: skip
    assert table(ladder, "fine-tuning")[4:6] == ["0.200", "–"]
    assert "over 6 runs" in text
    assert table(text, "KL on held-out rows")[1:] == ["1.00"]
    assert "distance of the weights" not in text  # the same in all runs


def test_rungs_are_compared_at_one_rate_with_the_same_pairs(written):
    known = made([(base, 0) for base in range(4)])
    other = row("ProMoT", [point(0.99, 0.1)], LEARNING_RATE=1e-3)
    alone = next(row for row in known.values() if row["method"] == "ProMoT")
    text, _ = written(known | {other["name"]: like(alone, other)})
    assert table(text.partition("## ladder")[2], "ProMoT")[4:] == [
        "0.900", "+0.700 (+0.68 to +0.72)", "–", "0.900 (0.89–0.91)", "3",
    ]  # fmt: skip


def test_a_stage_one_is_not_the_end_of_a_run(written):
    """LoRA's stage has more steps than the model's, and counts for another method."""
    points = [point(0.8, 1.0, stage="lora", step=1000), point(0.95, 0.7, step=600)]
    knobs = {"LEARNING_RATE": 3e-4, "LORA_LEARNING_RATE": 1e-3}
    known = made([(base, 0) for base in range(2)])
    alone = next(row for row in known.values() if row["method"] == "ProMoT")
    for base in range(2):
        new = row("ProMoT, LoRA as the prompt", points, base, **knobs)
        known[new["name"]] = like(alone, new)
    text, _ = written(known)
    assert table(text.partition("## ladder")[2], "ProMoT, LoRA as the prompt")[3:5] == [
        "0.950", "0.700",
    ]  # fmt: skip
    ends = text.partition("## ends")[2]
    assert table(ends, "LoRA, taken away")[2:5] == ["0.800", "–", "1.000"]
    assert table(ends, "ProMoT, LoRA as the prompt")[2:5] == ["0.950", "–", "0.700"]


def test_what_is_added_is_beside_promot_alone(written):
    known = made([(base, 0) for base in range(3)])
    alone = next(row for row in known.values() if row["method"] == "ProMoT")
    knobs = {"LEARNING_RATE": 3e-4, "KL_WITHOUT_PROMPT_WEIGHT": 0.1}
    for base in range(3):
        more = row("ProMoT + KL without prompt", [point(0.96, 0.95)], base, **knobs)
        known[more["name"]] = like(alone, more)
    text, _ = written(known)
    cells = table(text.partition("## added")[2], "KL without prompt")
    assert cells[1].startswith("+0.050 (")
    assert cells[-2:] == ["3/3/0", "3/3/0"]


def test_what_comes_back_is_of_the_other_skills_and_of_no_method(written):
    known = made([(0, 0)])
    points = [point(1.0, 0.2, step=6), point(0.9, 0.6, stage="recovery", step=3)]
    again = row("recovery after ProMoT", points, LEARNING_RATE=1e-3, RECOVERY_ROWS=10)
    common = known[f"{NLI}/base0-seed0/promot-lr0.0003"]
    text, _ = written(known | {again["name"]: like(common, again)})
    cells = table(text, "after ProMoT")
    changed = "0.200 → 0.600"
    assert cells[1:] == ["0.001", "10", changed, changed, "50%", "25.0% → 25.0%", "1"]
    assert "| recovery" not in text.partition("## methods")[0]
    assert "2 runs are too few" in text.partition("## predictors")[2]


def test_noise_is_told_in_units_of_the_prompts_size(written):
    known = made([(0, 0)])
    points = [
        point(0.9 if kept == 1 else 0.3, 0.2, stage="noise", step=n, coefficient=kept)
        for n, kept in enumerate((1.0, 0.75), 1)
    ]
    noisy = row("noise on ProMoT's prompt", points, LEARNING_RATE=3e-4)
    common = known[f"{NLI}/base0-seed0/promot-lr0.0003"]
    text, _ = written(known | {noisy["name"]: like(common, noisy)})
    assert "| 0.0 | 0.900 | 1 |\n| 0.5 | 0.300 | 1 |" in text
    assert "noise on" not in text.partition("## noise")[0]


def test_the_pages_own_prose_can_be_filled_and_made_again(written):
    known, prose = made([(0, 0), (0, 1)]), page.PROSE.read_text(encoding="utf-8")
    once, _ = written(known, prose)
    assert set(page.MARK.findall(prose)) == set(page.SECTIONS)
    assert not page.MARK.findall(once)
    assert written(known, prose)[0] == once


def test_a_mark_of_another_name_and_no_rows_are_said(written):
    with pytest.raises(UserError, match="'matchd' is none of"):
        written(made([(0, 0)]), "<!-- matchd -->\n")
    with pytest.raises(UserError, match="there are no rows"):
        written({})


def test_chosen_and_reported_rows_are_apart():
    chosen = rows.chosen_by(300)
    assert np.count_nonzero(chosen) == 100


def test_what_was_spent(written):
    text, _ = written(made([(0, 0), (1, 0)]), "<!-- budgets -->")
    assert table(text, "fine-tuning")[1:] == ["0.0003", "600", "0.200", "1.000", "0.200", "2"]
    assert table(text, "ProMoT")[1:] == ["0.0003", "1500 + 600", "0.200", "0.960", "0.900", "2"]
