"""What a plan says of memory, against a run: the same method, on 8 CPU devices."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def both(on_eight_devices, tmp_path_factory):
    """What `plan_and_run.py` prints."""
    return on_eight_devices(HERE / "plan_and_run.py", str(tmp_path_factory.mktemp("plan")))


@pytest.mark.parametrize("stage", ["1-prompt", "2-model"])
def test_a_step_takes_what_was_planned(both, stage):
    (step,) = (x for x in both["planned"]["programs"] if (x["stage"], x["name"]) == (stage, "step"))
    planned, found = step["memory"], both["found"][stage]
    assert planned["parameters"] == pytest.approx(found["parameters"], rel=0.01)
    assert planned["optimizer"] == found["optimizer"]
    assert planned["batch"] == 2 * found["batch"]  # the next one lies there too
    assert planned["working"] == pytest.approx(found["temporary"], rel=0.1)
    assert step["times"] == 2


def test_evaluations_ask_in_the_batches_that_were_planned(both):
    """Two of 24 rows, at the end of each of two stages, in batches of 16: the last has 8."""
    (asked,) = (x for x in both["planned"]["programs"] if x["name"] == "evaluation")
    assert asked["times"] == len(both["found"]["generated"]) == 4
    assert asked["size"] == "16 x 32 + 4"
    assert [16, 32] in both["found"]["generated"]


def test_random_weights_are_a_program_of_their_own(both):
    made, first = both["planned"]["programs"][:2]
    assert made["name"] == "initialisation"
    assert made["memory"]["parameters"] == pytest.approx(first["memory"]["parameters"], rel=0.01)
    assert 0 <= made["memory"]["working"] < 2 * made["memory"]["parameters"]


def test_a_plan_of_cpu_devices_counts_all(both):
    """What is optimised has gradients, so that stage two has the greater part of everything."""
    one, two = (
        next(x for x in both["planned"]["programs"] if x["stage"] == stage and x["name"] == "step")
        for stage in ("1-prompt", "2-model")
    )
    assert one["cost"]["flops"] < two["cost"]["flops"]
    assert one["cost"]["traffic"] < two["cost"]["traffic"]
    kinds = {x["kind"] for x in two["cost"]["collectives"]}
    assert "all-gather" in kinds and kinds & {"all-reduce", "reduce-scatter"}
