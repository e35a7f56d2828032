"""Command lines with work directories, results and names that cannot be."""

import json

from command_lines import ASKED, LONG, Bad, infer, run

DIRECTORIES = [
    Bad("workdir is a URL", run(WORKDIR="s3://abc/b"), ["WORKDIR", "'s3://abc/b'", "gs://"]),
    Bad("workdir in no bucket", run(WORKDIR="gs://none-such/b"), ["gs://none-such/b'", "no such"]),
    Bad("workdir a?b", run(WORKDIR="gs://abc/a?b"), ["WORKDIR", "'gs://abc/a?b'", "has a '?'"]),
    Bad("name of a workdir too long", run(WORKDIR="a" * 300), ["WORKDIR", "too long"]),
    Bad(
        "base of another vocabulary",
        run("--gin_file=mine.gin", BASE="trained"),
        ["BASE = '", "trained' has another vocabulary", "of_base"],
        {
            "mine.gin": "from __gin__ import dynamic_registration\nfrom promot_jax import data\n"
            "VOCABULARY = @data.byte()\n"
        },
    ),
    Bad(
        "workdir in a file",
        run(WORKDIR="mine.tsv/out"),
        ["WORKDIR = 'mine.tsv/out'", "choose another"],
    ),
    Bad("workdir is a file", run(WORKDIR="mine.tsv"), ["WORKDIR = 'mine.tsv'", "choose another"]),
    Bad("foreign files", run(WORKDIR="."), ["WORKDIR = '.'", "choose an empty or new"]),
    Bad("workdir of another run", run(WORKDIR="trained"), ["WORKDIR = 'trained'", "another run"]),
    Bad("no base", run(BASE="none"), ["BASE = 'none'", "check the path"]),
    Bad("base is no workdir", run(BASE="."), ["BASE = '", "is no work directory"]),
    Bad(
        "base of another size",
        run("--gin.models.T5Config.mlp_dim=64", BASE="trained"),
        ["mlp_dim", "192", "64", "MODEL"],
    ),
    Bad("eval of no workdir", ["eval", "none", *run()[3:]], ["'none'", "check the path"]),
    Bad(
        "infer of no workdir",
        ["infer", "none", "--input=mine.tsv", "--output=o.jsonl"],
        ["'none'", "check the path"],
    ),
    Bad("report of no results", ["report", "."], ["results.json", "promot run"]),
]

CHECKPOINTS = [
    Bad(
        "workdir with a backslash", run(WORKDIR="a\\b"), ["'a\\\\b'", "backslash", "choose another"]
    ),
]

NAMES = [
    Bad("stage: slash", run("--gin.model/run.Stage.name='../x'"), ["Stage.name = '../x'"]),
    Bad("stage: NUL", run("--gin.model/run.Stage.name='x\\0'"), ["Stage.name = 'x\\x00'"]),
    Bad("stage: long", run(f"--gin.model/run.Stage.name={LONG!r}"), ["Stage.name", "short name"]),
    Bad("stage: new line", run("--gin.model/run.Stage.name='a\\nb'"), ["Stage.name = 'a\\nb'"]),
    Bad(
        "prompt: NUL", run("--gin.models.Prompt.name='x\\0'", recipe="promot"), ["Prompt.name = 'x"]
    ),
    Bad("prompt: long", run(f"--gin.models.Prompt.name={LONG!r}", recipe="promot"), ["short name"]),
    Bad("method: slash", run("--gin.run.Run.method='a/b'"), ["Run.method = 'a/b'"]),
    Bad("method: long", run(f"--gin.run.Run.method={LONG!r}"), ["Run.method", "short name"]),
    Bad("workdir: NUL", run("--gin.WORKDIR='a\\0b'"), ["WORKDIR", "'a\\x00b'", "NUL"]),
    Bad("base: NUL", run("--gin.BASE='a\\0b'"), ["BASE", "'a\\x00b'", "NUL"]),
    Bad("base: long", run(BASE=LONG), ["BASE", "too long"]),
    Bad("base: unknown home", run(BASE="~/none"), ["BASE = '", "check the path"]),
    Bad("base: URL", run(BASE="gs://bucket/base"), ["BASE = 'gs://bucket/base'"]),
    Bad("base places of another type", run(BASE_PLACES=3), ["base_places = 3", "a list, each a"]),
    Bad("workdir: empty", run(WORKDIR=""), ["WORKDIR = ''", "name a directory"]),
    Bad("workdir: a text", run(WORKDIR="mine.tsv/a/b"), ["WORKDIR = 'mine.tsv/a/b'"]),
    Bad("infer: base of another type", infer("--base"), ["--base", "expected one argument"], ASKED),
    Bad(
        "export: base of a prompt",
        ["export", "trained", "o.npy", "--base=trained"],
        ["--base has no effect"],
    ),
]


def reporting(name: str, rows: str | bytes, says: list[str]) -> Bad:
    """`promot report` on a results.json that holds something else."""
    return Bad(f"report: {name}", ["report", "."], says, {"results.json": rows})


def scored(**changes: object) -> str:
    """A results.json of one row."""
    row = {"method": "m", "task": "t", "group": "qa", "value": 0.5, "step": 1, "stage": "1-a"}
    return json.dumps([row | changes])


REPORT = [
    reporting("an empty list", "[]", ["results.json", "at least one row", "restore it"]),
    reporting("an object", "{}", ["results.json is damaged", "no JSON list", "restore it"]),
    reporting("text", "none", ["results.json is damaged", "restore it"]),
    reporting("nothing", "", ["results.json is damaged"]),
    reporting("half a file", scored()[:-9], ["results.json is damaged"]),
    reporting("nested too deeply", "[" * 200_000, ["results.json is damaged", "nested too"]),
    reporting("not UTF-8", b'[{"method": "\xe9"}]', ["results.json is damaged", "utf-8"]),
    reporting("NaN", scored(value=float("nan")), ["results.json is damaged", "NaN"]),
    reporting("out of range", scored(value=10**400), ["row 1", "value = 1000"]),
    reporting("endless", scored().replace("0.5", "1e999"), ["row 1", "value = inf"]),
    reporting("a row that is none", "[3]", ["row 1", "no JSON object"]),
    reporting("no method", '[{"task": "t", "group": "g", "value": 1}]', ["row 1", "method = None"]),
    reporting("a method in a list", scored(method=["m"]), ["row 1", "method = ['m']"]),
    reporting("a value in words", scored(value="high"), ["row 1", "value = 'high'", "a number"]),
    reporting("a value that is true", scored(value=True), ["row 1", "value = True"]),
    reporting("no value", scored(value=None), ["no row with a value"]),
    reporting("a step in words", scored(step="1"), ["row 1", "step = '1'", "whole number"]),
    reporting("half a row", scored(n=2.5), ["row 1", "n = 2.5", "whole number"]),
    reporting("fewer than no rows", scored(n=-1), ["row 1", "n = -1"]),
    reporting("a flag", scored(prompt=1), ["row 1", "prompt = 1", "true or false"]),
    reporting("always guessed", scored(chance=1), ["row 1", "chance = 1"]),
    reporting("a share above 1", scored(format_share=1.5), ["row 1", "format_share = 1.5"]),
    reporting("a scale below 0", scored(scale=-1), ["row 1", "scale = -1"]),
    reporting("an altered row", scored(check="0" * 16), ["row 1", "checksum"]),
    Bad("report: nowhere", ["report", "~/no such run"], ["no such run", "does not exist"]),
    Bad("report: NUL", ["report", "a\0b"], ["'a\\x00b'", "no path"]),
    Bad("report: a long name", ["report", "x" * 300], ["is no path", "too long"]),
    Bad("report: a file", ["report", "mine.tsv"], ["'mine.tsv' is no directory"]),
    Bad("report: a stage", ["report", "trained/2-model"], ["is a stage of", "trained"]),
    Bad("report: a URL", ["report", "gs://bucket/run"], ["gs://bucket/run", "does not exist"]),
]
