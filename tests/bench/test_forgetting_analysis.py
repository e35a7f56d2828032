"""From rows to what a page says, on rows whose answers are made up."""

import numpy as np
import pytest

from bench.forgetting import analysis, rows
from bench.forgetting.analysis import HELD_OUT, RELATED

NLI = "lab_nli"


def point(target, kept, stage="model", step=9, scored=NLI, chosen=None, **more):
    """300 rows a task; `chosen`: the shares of validation rows, where they differ from test's."""

    def bits(share, on_validation):
        found, validation = np.zeros(300, bool), rows.chosen_by(300)
        for where, right in ((validation, on_validation), (~validation, share)):
            found[np.flatnonzero(where)[: round(right * where.sum())]] = True
        return rows.pack(found)

    places = [(scored, target, 0), *((task, kept, 1) for task in (*HELD_OUT, *RELATED))]
    right = {name: bits(share, (chosen or (target, kept))[i]) for name, share, i in places}
    return {"stage": stage, "step": step, "rows": 300, "right": right,
            "format": dict.fromkeys(right, 0.25)} | more  # fmt: skip


def row(method, points, base=0, seed=0, **knobs):
    name = f"{method}-{base}-{seed}-{knobs}"
    return {"name": name, "method": method, "target": NLI, "base": base, "seed": seed,
            "knobs": knobs, "points": points, "measured": {}}  # fmt: skip


FT = [point(0.5, 0.9, step=3), point(0.8, 0.6, step=6), point(1.0, 0.2)]


def test_a_level_follows_the_best_rate_of_a_base():
    made = [
        row("fine-tuning", FT, seed=seed, LEARNING_RATE=rate)
        for seed in (0, 1)
        for rate in (1e-4, 1e-3)
    ]
    made += [row("fine-tuning", [point(0.6, 0.9)], base=1, LEARNING_RATE=1e-4)]
    assert analysis.levels(analysis.points(made), NLI, 0.9) == pytest.approx({0: 0.9, 1: 0.54})


def test_what_is_kept_is_read_between_points():
    made = [row("fine-tuning", FT, LEARNING_RATE=1e-4)]
    found = analysis.readings(analysis.points(made), NLI, 0.9)["fine-tuning"][0, 0]
    assert (found.kept, found.target) == pytest.approx((0.4, 0.9))
    assert (found.related, found.format) == pytest.approx((0.4, 0.25))


def test_test_rows_are_reported_and_validation_rows_choose():
    lucky = point(0.9, 0.1, chosen=(0.9, 0.8))
    plain = point(0.9, 0.5, chosen=(0.9, 0.5))
    made = [row("fine-tuning", [lucky, plain, point(1.0, 0.0)], LEARNING_RATE=1e-4)]
    found = analysis.readings(analysis.points(made), NLI, 0.9)["fine-tuning"][0, 0]
    assert found.kept == pytest.approx(0.1)


def test_points_behind_a_training_count_for_a_method_of_their_own():
    swept = [point(0.9, 0.8, stage="wise_ft", step=1, coefficient=0.5)]
    made = [row("fine-tuning", FT + swept, LEARNING_RATE=1e-4)]
    found = analysis.points(made)
    assert len(found[NLI, "fine-tuning"][0, 0]) == 3
    assert found[NLI, "fine-tuning + WiSE-FT"][0, 0][0].about["coefficient"] == 0.5


def test_what_was_not_tuned_is_no_point():
    begun = [point(0.0, 1.0, step=0), *FT]
    found = analysis.points([row("fine-tuning", begun), row("ProMoT", begun)])
    assert len(found[NLI, "fine-tuning"][0, 0]) == 3
    assert len(found[NLI, "ProMoT"][0, 0]) == 4  # its prompt was tuned


def test_a_variant_is_scored_as_it_was_asked():
    tagged = point(0.9, 0.5, scored="lab_nli_tagged")
    found = analysis.points([row("text tag", [tagged], LEARNING_RATE=1e-4)])
    assert found[NLI, "text tag"][0, 0][0].target == pytest.approx(0.9)


def test_a_level_that_is_not_reached_leaves_a_pair_out_of_a_comparison():
    made = [row("fine-tuning", FT, base, LEARNING_RATE=1e-4) for base in range(4)]
    made += [row("ProMoT", [point(0.95, 0.9)], base) for base in range(3)]
    made += [row("ProMoT", [point(0.5, 0.9)], 3)]
    every = analysis.readings(analysis.points(made), NLI, 0.9)
    assert every["ProMoT"][3, 0] is None
    found, adjusted = analysis.against(every, "fine-tuning", ["ProMoT"])["ProMoT"]
    assert (found.mean, found.pairs) == (pytest.approx(0.5), 3)
    assert adjusted == found.p < 0.01
    assert analysis.against(every, "fine-tuning", [])["ProMoT"] == (found, None)
    assert analysis.mean_of(every["ProMoT"]).mean == pytest.approx(0.9)


def test_lost_and_won_are_of_the_same_rows():
    base = analysis.bases([row("base", [point(0.0, 0.8)])])[NLI, 0]
    tuned = analysis.points([row("ProMoT", [point(1.0, 0.5)])])[NLI, "ProMoT"][0, 0][0]
    assert analysis.changes(tuned, base) == pytest.approx((0.3, 0.0))
