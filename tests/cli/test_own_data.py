"""Files of one's own with something odd in them that must work, and what is said of them."""

import json

from command_lines import own_task, run

LAB = ["--gin_file=gin/models/of_base.gin", "--gin.BASE='promot_jax/assets/lab/base'"]


def trained(promot, folder, name, content, *more):
    """A run on a file, on the lab's base model: what it said, and the rows of its results."""
    (folder / name).write_bytes(content.encode())
    arguments = [a for a in run(*own_task(name, f"odd_{folder.name}"), *more) if "models/" not in a]
    done = promot([*arguments, *LAB], folder)
    assert done.code == 0, done.err
    return done.err, json.loads((folder / "out/results.json").read_text(encoding="utf-8"))


def test_targets_that_the_vocabulary_cannot_write(promot, tmp_path):
    words = ["échoué", "réussi", "no  way", "yes", "x²"]
    rows = "".join(f"Anna owns lamp {i}.\t{words[i % 5]}\n" for i in range(60))
    said, results = trained(promot, tmp_path, "odd.tsv", rows)
    *before, _ = said.partition("1-model 2/2")
    assert "targets cannot be written with this vocabulary" in before[0]
    assert "'x²' becomes 'x2' (it cannot write '²', 'é', all spaces)" in before[0]
    assert "evaluation on odd_" in before[0] and "; at best exact_match 0." in before[0]
    for row in results:
        assert 0 < row["unwritable"] <= row["n"]
        assert row["ceiling"] == 1 - row["unwritable"] / row["n"]


def test_brackets_line_ends_and_names(promot, tmp_path):
    rows = (json.dumps({"0": f"[/URL] Anna {i}", "answer.1": "True"}) for i in range(60))
    templates = [
        "--gin.data.file_task.inputs='{0} [b]'",
        "--gin.data.file_task.targets='{answer.1}'",
    ]
    said, results = trained(promot, tmp_path, "odd.jsonl", "\ufeff" + "\r".join(rows), *templates)
    assert "such as '[/URL] Anna 1 [b]' -> 'True'" in said
    assert "cannot be written" not in said
    assert not any("ceiling" in row for row in results)
