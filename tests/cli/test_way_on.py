"""Advice that a message gives is followed as it stands, and works."""

import json
import re
import shlex
import shutil

import numpy as np
from command_lines import flags
from test_bad_input import one_line

from promot_jax.run import LanguageModel


def test_after_nan(promot, trained, tmp_path):
    """A stage that diverges leaves its checkpoints whole; the flags in the message go on."""
    folder, arguments = trained
    wild = [*arguments, *flags(WORKDIR=str(tmp_path / "w"))]
    # Each update multiplies the weights by a million; no rate spoils so small a model so fast.
    wild += [*flags(STEPS=9, EVALUATE_EVERY=9), "--gin.training.adafactor.weight_decay_rate=1e6"]
    done = promot(wild, folder)
    assert done.code == 1, done.err
    line = done.err.splitlines()[-1]
    assert re.match(r"promot: .* (is|are) .* of stage 2-model: give the same command", line), line
    given = [word for word in shlex.split(line) if word.startswith("--gin.")]
    assert given[0].startswith("--gin.BASE=") and "--gin.prompt/run.Stage.steps=0" in given
    assert "/1-prompt" in given[0]
    base = LanguageModel(str(tmp_path / "w"), {"data": 1}).variables
    assert all(np.isfinite(np.asarray(x)).all() for x in base.values())
    calm = [
        *flags(WORKDIR=str(tmp_path / "again")),
        "--gin.training.adafactor.weight_decay_rate=0.0",
    ]
    done = promot([*wild, *calm, *given], folder)
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / "again/results.json").read_text(encoding="utf-8"))
    assert {row["stage"] for row in rows} == {"1-prompt", "2-model"}
    model = LanguageModel(str(tmp_path / "again"), {"data": 1})
    np.testing.assert_array_equal(model.variables["prompt/target"], base["prompt/target"])


def test_what_may_change_between_two_starts(promot, trained, tmp_path):
    """What goes on after out of memory, in the same WORKDIR; another batch size does not."""
    folder, arguments = trained
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/out/2-model")
    other = flags(BATCH_SIZE=4)
    one_line(promot([*arguments, *other], tmp_path / "run"), ["there: BATCH_SIZE = 8; now:"])
    smaller = flags(ACCUMULATE=4, EVAL_BATCH_SIZE=4, MESH={"data": 1, "fsdp": -1})
    done = promot([*arguments, *smaller], tmp_path / "run")
    assert done.code == 0 and (tmp_path / "run/out/2-model/checkpoints/2").is_dir(), done.err
