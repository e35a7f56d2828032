"""Which of the many rows count, and what the table says about them."""

import io
import json
import re

import pytest
from report_workdirs import rows_of, write_results
from rich.console import Console

from promot_jax.errors import UserError
from promot_jax.report import markdown_table, report, summary, terminal_table
from promot_jax.report.results import Checkpoint
from promot_jax.report.rows import read_rows
from promot_jax.report.table import Results
from promot_jax.report.text import percent, rate_text


def row(**changes):
    plain = {
        "method": "m", "stage": "model", "step": 10, "task": "t", "group": "target", "shots": 0,
        "prompt": False, "metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 100,
        "format_share": None, "selected": True, "seed": 0, "learning_rate": 1e-3,
    }  # fmt: skip
    return plain | changes


def held(**changes):
    return row(task="h", group="qa", **changes)


def final(rows, measure=Checkpoint.target):
    (line,) = Results(rows).lines
    return line.final(measure)


def test_last_stage_with_selected_rows_is_shown():
    rows = [
        row(stage="prompt", value=0.2),
        row(stage="model", step=0, value=0.3, selected=False),
        row(stage="model", step=50, value=0.9),
        row(stage="model", step=100, value=0.8, selected=False),
        row(stage="later", value=0.1, selected=False),
    ]
    assert final(rows).value == 0.9
    assert list(Results(rows).lines[0].curve(Checkpoint.target)) == [0, 50, 100]


def test_unfinished_run_shows_its_last_step_and_says_so():
    rows = [row(step=step, value=step / 10, selected=False) for step in (0, 5)]
    assert final(rows).value == 0.5
    assert "No checkpoint selected yet" in Results(rows).notes()[0]


def test_target_is_scored_with_the_prompt_and_held_out_without():
    both = [(True, 0.9), (False, 0.1)]
    for order in (both, both[::-1]):
        rows = [make(prompt=p, value=v) for make in (row, held) for p, v in order]
        assert final(rows).value == 0.9
        assert final(rows, Checkpoint.held).value == 0.1


def test_target_counts_with_the_fewest_shots_and_held_out_with_all():
    rows = [make(shots=k, value=v) for make in (row, held) for k, v in ((4, 0.8), (1, 0.6))]
    assert final(rows).value == 0.6
    assert final(rows, Checkpoint.held).value == pytest.approx(0.7)


def test_first_metric_of_a_task_counts_and_a_repeated_row_replaces():
    rows = [held(value=0.2), held(metric="f1", value=0.9), held(value=0.3)]
    assert final(rows, Checkpoint.held).value == 0.3


def test_seeds_give_mean_and_sd():
    rows = [row(seed=seed, value=value) for seed, value in enumerate((0.8, 0.9, 1.0))]
    score = final(rows)
    assert (score.value, score.sd, score.seeds) == pytest.approx((0.9, 0.1, 3))
    assert "0.900 ± 0.100" in markdown_table(rows)


def test_kept_uses_the_tasks_that_base_has_too():
    base = {"method": "base", "learning_rate": None}
    rows = [held(**base, value=0.8), held(value=0.6), row(task="x", group="qa", value=0.0)]
    results = Results(rows)
    assert results.kept(results.lines[1]) == pytest.approx(0.75)
    assert "| 0.750 |" in markdown_table(rows)
    assert "same held-out tasks" in results.notes()[0]


def test_no_base_no_kept():
    assert "kept" not in markdown_table(rows_of("promot"))


def test_metrics_of_different_scales_become_percentages():
    bleu = row(task="mt", group="translation", metric="bleu", value=30.0, scale=100)
    rows = [row(value=0.9, scale=1), held(value=0.5, scale=1), bleu]
    assert final(rows, Checkpoint.held).value == pytest.approx(40.0)
    assert final(rows).value == pytest.approx(90.0)
    assert Results(rows_of("promot")).notes() == []


def test_the_adjusted_mean_is_above_chance_and_by_group():
    """By hand: (0.75 - 0.5) / 0.5 = 0.5, (0.5 - 1/3) / (2/3) = 0.25; qa: 0.2 and 0.4."""
    rows = [row()] + [
        row(task=task, group=group, value=value, low=value, high=value, chance=chance)
        for task, group, value, chance in (
            ("wic", "nli", 0.75, 0.5),
            ("cb", "nli", 0.5, 1 / 3),
            ("a", "qa", 0.2, 0.0),
            ("b", "qa", 0.4, 0.0),
        )
    ]
    assert final(rows, Checkpoint.held).value == pytest.approx((0.75 + 0.5 + 0.2 + 0.4) / 4)
    assert final(rows, Checkpoint.adjusted).value == pytest.approx((0.375 + 0.3) / 2)
    head, _, line = markdown_table(rows).splitlines()
    names, cells = ([cell.strip() for cell in text.split("|")] for text in (head, line))
    shown = dict(zip(names, cells, strict=True))
    assert shown["nli"].startswith("0.625") and shown["nli, chance-adjusted"].startswith("0.375")
    assert shown["held-out mean"].startswith("0.46")
    assert shown["chance-adjusted mean"].startswith("0.338")
    assert "qa, chance-adjusted" not in shown
    assert "chance" not in markdown_table(rows_of("promot"))


def test_each_number_of_shots_has_a_mean():
    rows = [row()] + [
        row(task=task, group="qa", shots=shots, value=value)
        for task, shots, value in (("a", 1, 0.2), ("b", 1, 0.4), ("a", 4, 0.5), ("b", 4, 0.7))
    ]
    head, _, line = markdown_table(rows).splitlines()
    names, cells = ([cell.strip() for cell in text.split("|")] for text in (head, line))
    shown = dict(zip(names, cells, strict=True))
    assert shown["held-out mean"].startswith("0.450")
    assert shown["held-out mean, 1-shot"].startswith("0.300")
    assert shown["held-out mean, 4-shot"].startswith("0.600")
    assert "1-shot" not in markdown_table([row(), held(shots=1)])


def test_shortened_inputs_are_said():
    (note,) = Results([row(), held(shots=4, too_long=7, mean_shots=0.64)]).notes()
    assert "h 4-shot (7 of 100 rows; all have 0.64 shots on average)" in note


def test_learning_rates_each_have_a_line_and_curves_use_a_common_gentle_one():
    rows = []
    for method in ("finetune", "promot"):
        for rate, value in ((1e-4, 0.7), (3e-4, 0.98), (1e-3, 0.985)):
            rows.append(row(method=method, learning_rate=rate, value=value))
    rows.append(row(method="prompt_tuning", learning_rate=0.03))
    results = Results(rows)
    assert results.sweep and len(results.lines) == 7
    shown = {line.method: line.learning_rate for line in results.shown}
    assert shown == {"finetune": 3e-4, "promot": 3e-4, "prompt_tuning": 0.03}
    assert "| finetune | 1e-3 | 0.985" in markdown_table(rows)


def test_curve_takes_only_steps_of_all_seeds():
    rows = [row(seed=seed, step=step) for seed in (0, 1) for step in (0, 10)]
    rows.append(row(seed=0, step=20))
    assert list(Results(rows).lines[0].curve(Checkpoint.target)) == [0, 10]


def test_a_terminal_of_80_characters_holds_five_methods():
    names = ("base", "prompt_tuning", "finetune", "promot", "joint[b]")
    rows = [row(method=name, value=i / 10) for i, name in enumerate(names)]
    rows += [held(method=name, value=0.5 + i / 10) for i, name in enumerate(names)]
    console = Console(width=80, file=io.StringIO(), markup=False, emoji=False)
    console.print(terminal_table(rows))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert list(names) in lines
    assert ["target:", "t", "(accuracy)", *(f"{i / 10:.3f}" for i in range(5))] in lines
    assert ["held-out", "mean", *(f"{0.5 + i / 10:.3f}" for i in range(5))] in lines


def names_of(table):
    """The columns of a Markdown table."""
    return [name.strip() for name in table.splitlines()[0].strip("|").split("|")]


def test_what_a_method_is_judged_by_comes_first(tmp_path):
    """On the page, in Markdown and on a terminal."""
    rows = rows_of("base") + rows_of("finetune") + rows_of("promot")
    rows = [row | {"chance": 0.5 if row["group"] == "qa" else 0.0} for row in rows]
    wanted = [
        "method", "target: lab\\_nli (accuracy)", "held-out mean", "format share", "kept",
        "held-out mean, 0-shot", "held-out mean, 1-shot", "chance-adjusted mean", "qa",
        "translation", "summary", "qa, chance-adjusted",
    ]  # fmt: skip
    plain = [name.replace("\\", "") for name in wanted]
    assert [name.replace("\\", "") for name in names_of(markdown_table(rows))] == plain
    page = report(str(write_results(tmp_path, rows))).read_text(encoding="utf-8")
    assert re.findall('<th scope="col">(.*?)</th>', page) == plain
    assert re.findall('data-name="(.*?)"', page)[: len(plain) - 1] == plain[1:]
    assert list(terminal_table(rows).columns[0].cells) == plain[1:]
    sweep = rows + rows_of("promot", rate=1e-3)
    assert names_of(markdown_table(sweep))[:2] == ["method", "learning rate"]


@pytest.mark.parametrize(("scale", "shape"), [(1, r"-?\d\.\d{3}"), (100, r"-?\d+\.\d\d")])
def test_all_numbers_of_a_table_have_one_unit(tmp_path, scale, shape):
    guessed = {"group": "nli", "chance": 0.5, "value": 0.0, "format_share": 0.25}
    rows = [
        row(),
        row(task="wic", **guessed),
        row(task="mt", group="mt", value=0.3 * scale, low=0, high=scale, scale=scale),
    ]
    rows += [r | {"method": "base", "value": r["value"] or 0.1} for r in rows]
    rows = [r | {"format_share": 0.25} for r in rows]
    cells = markdown_table(rows).splitlines()[2:]
    numbers = [number for line in cells for number in re.findall(r"-?\d+(?:\.\d+)?", line)]
    assert numbers and [number for number in numbers if not re.fullmatch(shape, number)] == []
    shares = {"0.250", "-1.000"} if scale == 1 else {"25.00", "-100.00"}
    assert shares <= set(numbers)
    said = "All scores are shares of 1." if scale == 1 else "All scores are percentages."
    page = report(str(write_results(tmp_path, rows))).read_text(encoding="utf-8")
    assert said in page and terminal_table(rows).caption == said


def test_targets_that_cannot_be_written_are_noted(tmp_path):
    rows = [row(), held(unwritable=12, ceiling=0.94), held(shots=1, unwritable=12, ceiling=0.94)]
    rows += [r | {"method": "b"} for r in rows]
    note = "Targets that the model's vocabulary cannot write: h (12 of 100 rows; at most 0.940)."
    assert Results(rows).notes() == [note]
    bleu = held(unwritable=3, ceiling=61.5, scale=100)
    assert "h (3 of 100 rows; at most 61.50)" in Results([row(), bleu]).notes()[0]
    page = report(str(write_results(tmp_path, rows))).read_text(encoding="utf-8")
    assert note.replace("'", "&#x27;") in page
    assert summary(str(tmp_path))[1] == [note]


def test_markdown_is_rectangular_whatever_the_names():
    rows = [row(method="a|b"), held(method="a|b"), row(method="c")]
    lines = markdown_table(rows).replace("\\|", "").splitlines()
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "does not exist"),
        ("{", "is damaged"),
        ("[]", "at least one row"),
        ('{"rows": []}', "holds no JSON list"),
        ("[3]", "row 1"),
        ('[{"method": "m", "task": "t", "group": "qa"}]', "row 1 .*value"),
        (json.dumps([row(), row(value="high")]), "row 2"),
        (json.dumps([row(value=None)]), "no row with a value"),
    ],
)
def test_bad_results_are_a_user_error_of_one_line(tmp_path, text, says):
    if text is not None:
        (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says) as error:
        report(str(tmp_path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report.html").exists()


def test_rows_survive_the_file(tmp_path):
    rows = rows_of("promot")
    assert read_rows(write_results(tmp_path, rows)) == rows


def test_numbers_as_people_write_them():
    shares = {0.97: "97 %", 0.996: "99.6 %", 1.0: "100 %", 0.001: "0.1 %"}
    assert {share: percent(share) for share in shares} == shares
    rates = {3e-4: "3e-4", 0.2: "2e-1", 1.5e-3: "1.5e-3", None: "–"}
    assert {rate: rate_text(rate) for rate in rates} == rates
