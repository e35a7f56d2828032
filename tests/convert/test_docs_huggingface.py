"""docs/huggingface.md, its commands and its Python, with a tiny FLAN-T5 and some rows of RTE."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hf_models
import pytest
from safetensors.numpy import load_file

from promot_jax.run import LanguageModel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/huggingface.md").read_text(encoding="utf-8")
SETTINGS = {
    "BATCH_SIZE": 4, "INPUT_LENGTH": 128, "EVAL_INPUT_LENGTH": 128, "EVAL_BATCH_SIZE": 4,
    "EVAL_LIMIT": 4, "PROMPT_LENGTH": 3, "PROMPT_STEPS": 2, "STEPS": 2, "EVALUATE_EVERY": 2,
    "PROMPT_EVALUATE_EVERY": 2, "BEAMS": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the page's commands have run."""
    root = tmp_path_factory.mktemp("docs")
    hf_models.save("flan_t5", root / "model")
    rows = [
        {"premise": f"The {a} is {b}.", "hypothesis": f"The {a} is {c}.", "label": int(b != c)}
        for a in ("boat", "door", "lamp")
        for b in ("red", "green")
        for c in ("red", "green")
    ]
    (root / "data/rte").mkdir(parents=True)
    for split in ("train", "validation"):
        lines = "".join(json.dumps(row | {"idx": i}) + "\n" for i, row in enumerate(rows))
        (root / f"data/rte/{split}.jsonl").write_text(lines, encoding="utf-8")
    settings = SETTINGS | {"DATA_DIR": str(root / "data")}
    environment = os.environ | {
        "MODEL": str(root / "model"),
        "SETTINGS": " ".join(f"--gin.{name}={value!r}" for name, value in settings.items()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    commands = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    script = "set -eu\n" + "".join(commands)
    subprocess.run(["sh", "-c", script], cwd=root, env=environment, check=True)
    return root


def answers(path: Path) -> list[str]:
    return [json.loads(line)["output"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_there_and_back(folder):
    """What was exported and imported again has the same bits and gives the same answers."""
    assert len(answers(folder / "answers.jsonl")) == 2
    for file in ("served.jsonl", "again.jsonl"):
        assert answers(folder / file) == answers(folder / "answers.jsonl")
    tuned = load_file(folder / "runs/flan_rte_hf/model.safetensors")
    before = load_file(folder / "model/model.safetensors")
    assert set(tuned) == set(before)
    again = LanguageModel(str(folder / "runs/again_rte"), {"data": 1})
    assert again.prompts == ("target", "rte")
    assert any((tuned[name] != before[name]).any() for name in tuned)
    rows = json.loads((folder / "runs/flan_rte/results.json").read_text(encoding="utf-8"))
    assert {row["task"] for row in rows} == {"rte"}


@pytest.mark.skipif(not hf_models.INSTALLED, reason="needs make parity")
def test_transformers_and_peft_give_the_same_answers(folder):
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    ours = [re.sub(r"<extra_id_\d+>", " ", text) for text in answers(folder / "answers.jsonl")]
    assert [text.split() for text in theirs] == [text.split() for text in ours]
    assert any(text.split() for text in theirs)
