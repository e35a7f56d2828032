"""A work directory named as sweeps name them, through every verb."""

import json

from command_lines import ASKED, SMALL, flags, own_task

NAME = "lr[1e-3] *50%?{a,b}"


def test_every_verb_reads_what_run_left(promot, rows, tmp_path):
    (tmp_path / "mine.tsv").write_text(rows, encoding="utf-8")
    (tmp_path / "asked.jsonl").write_text(ASKED["asked.jsonl"], encoding="utf-8")
    task = own_task("mine.tsv", "odd_names")
    files = ["--gin_file=gin/recipes/finetune.gin", "--gin_file=gin/models/lab.gin"]
    run = ["run", *files, *task, *flags(**SMALL, WORKDIR=NAME)]
    below = ["run", *files, *task, *flags(**SMALL, WORKDIR=f"below/{NAME}", BASE=NAME)]
    infer = ["infer", NAME, "--input=asked.jsonl", f"--output={NAME}/o.jsonl", "--max_length=4"]
    small = {name: SMALL[name] for name in ("INPUT_LENGTH", "EVAL_LIMIT", "EVAL_BATCH_SIZE")}
    scores = ["eval", NAME, *task, *flags(**small)]
    others = [["report", NAME], ["inspect", NAME], ["export", NAME, f"{NAME}/hf"]]
    for arguments in (run, run, below, infer, scores, *others):
        result = promot(arguments, tmp_path)
        assert result.code == 0, result.err
    answers = (tmp_path / NAME / "o.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["inputs"] for line in answers] == ["what?"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"mine.tsv", "asked.jsonl", "below", NAME}  # nothing went elsewhere
