"""All twelve tasks of the paper through one `promot eval`, with small random models."""

import json
import os
import shutil
from pathlib import Path

import pytest
from command_lines import decoder, flags, own_task

SHARED = Path(os.environ.get("PROMOT_SHARED", Path(__file__).parents[3] / "shared"))
SPM = SHARED / "spm" / "t5.spiece.model"
LIMIT = 3
TINY = {"emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 32} | dict.fromkeys(
    ("num_encoder_layers", "num_decoder_layers"), 1
)


def t5(*more: str) -> list[str]:
    """`promot run` of a small T5 with its published vocabulary."""
    small = [f"--gin.models.T5Config.{name}={value}" for name, value in TINY.items()]
    files = ["--gin_file=gin/recipes/finetune.gin", "--gin_file=gin/models/t5_1_1_small.gin"]
    own = own_task("mine.tsv", "twelve")
    return ["run", *files, *own, *small, *flags(VOCABULARY_FILE=str(SPM)), *more]


def gemma(*more: str) -> list[str]:
    """`promot run` of a tiny Gemma with a small tokenizer, which writes most words in letters."""
    wide = "--gin.models.DecoderConfig.max_position_embeddings=512"
    return decoder(wide, *own_task("mine.tsv", "twelve"), *more)


@pytest.fixture(scope="module", params=[t5, gemma], ids=["t5", "gemma"])
def results(request, promot, rows, tuned, tmp_path_factory):
    """The rows of results.json, and the samples by file name."""
    if not SPM.exists() or not (SHARED / "data").exists():
        pytest.skip("rows and T5's vocabulary are not there")
    folder = tmp_path_factory.mktemp("twelve")
    (folder / "mine.tsv").write_text(rows, encoding="utf-8")
    shutil.copytree(tuned / "hf", folder / "hf")
    short = flags(
        WORKDIR="out", STEPS=1, EVAL_LIMIT=1, BATCH_SIZE=2, INPUT_LENGTH=32, TARGET_LENGTH=8,
        BEAMS=1, MAX_OUTPUT_LENGTH=2, EVAL_BATCH_SIZE=2,
    )  # fmt: skip
    made = promot(request.param(*short), folder)
    assert made.code == 0, made.err
    settings = flags(
        DATA_DIR=str(SHARED / "data"), EVAL_LIMIT=LIMIT, EVAL_BATCH_SIZE=LIMIT, BEAMS=1,
        EVAL_INPUT_LENGTH=256, MAX_OUTPUT_LENGTH=4,
    )  # fmt: skip
    done = promot(["eval", "out", "--gin_file=gin/tasks/all_twelve.gin", *settings], folder)
    assert done.code == 0, done.err
    found = folder / "out" / "evaluation"
    samples = {
        path.name: [json.loads(line) for line in path.open(encoding="utf-8")]
        for path in found.glob("1-evaluation/samples/*.jsonl")
    }
    assert (found / "report.html").exists()
    return json.loads((found / "results.json").read_text(encoding="utf-8")), samples


def test_every_task_with_every_number_of_shots(results):
    rows, samples = results
    tasks = {row["task"] for row in rows}
    assert len(tasks) == 12
    assert {(row["task"], row["shots"]) for row in rows} == {
        (task, shots) for task in tasks for shots in (0, 1, 4)
    }
    assert set(samples) == {f"{task}.{k}shot.0.jsonl" for task in tasks for k in (0, 1, 4)}


def test_no_row_is_lost_and_what_is_too_long_is_counted(results):
    rows, samples = results
    assert {row["n"] for row in rows} == {LIMIT}
    assert {len(lines) for lines in samples.values()} == {LIMIT}
    too_long = {(row["task"], row["shots"]): row.get("too_long", 0) for row in rows}
    assert too_long["xsum", 4] == too_long["wiki_lingua", 4] == LIMIT
    assert too_long["trivia_qa", 0] == too_long["wic", 0] == 0


def test_scores_have_intervals_scales_and_signatures(results):
    rows, _ = results
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    by_metric = {row["metric"]: row for row in rows}
    assert set(by_metric) == {"accuracy", "exact_match", "f1", "bleu", "rouge2"}
    assert {name: row["scale"] for name, row in by_metric.items()} == {
        name: 100 if name == "bleu" else 1 for name in by_metric
    }
    assert {name for name, row in by_metric.items() if "signature" not in row} == {"accuracy"}
    groups = {row["group"] for row in rows}
    assert groups == {"target", "nli/wsd", "qa", "translation", "summarization"}
