"""Command lines: of a small run that works, and of many that have one thing wrong."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save

SCRIPT = Path(sys.executable).with_name("promot")

# A run of seconds on the lab's model: prompt stage, model stage, an evaluation after each.
SMALL = {
    "PROMPT_LENGTH": 4, "PROMPT_STEPS": 2, "PROMPT_EVALUATE_EVERY": 2, "STEPS": 2,
    "EVALUATE_EVERY": 2, "INPUT_LENGTH": 64, "TARGET_LENGTH": 16, "BATCH_SIZE": 8, "BEAMS": 1,
    "EVAL_LIMIT": 8, "EVAL_BATCH_SIZE": 8, "MAX_OUTPUT_LENGTH": 8,
}  # fmt: skip


def flags(**settings) -> list[str]:
    """--gin.NAME=VALUE for macros."""
    return [f"--gin.{name}={value!r}" for name, value in settings.items()]


def own_task(path: str, name: str) -> list[str]:
    """The three settings that make a file a task."""
    return [
        "--gin.TASK=@data.file_task()",
        f"--gin.data.file_task.name={name!r}",
        f"--gin.data.file_task.train={path!r}",
    ]


class Bad(NamedTuple):
    """A command line, the files it finds, and what its one line on stderr must say."""

    name: str
    arguments: list[str]
    says: list[str]
    files: dict[str, str | bytes] = {}


def run(*more: str, recipe: str = "finetune", **settings) -> list[str]:
    """`promot run` on the file mine.tsv; `more` comes last and wins."""
    return [
        "run",
        f"--gin_file=gin/recipes/{recipe}.gin",
        "--gin_file=gin/models/lab.gin",
        *own_task("mine.tsv", "NAME"),
        *flags(**{"WORKDIR": "out"} | SMALL | settings),
        *more,
    ]


def reading(name: str, content: str | bytes, says: list[str], *more: str) -> Bad:
    """A run on a file of the reader's own that has something wrong."""
    path = "own.jsonl" if "json" in name else "own.tsv"
    return Bad(name, run(*own_task(path, "NAME"), *more), says, {path: content})


PREFIX = "--gin.data.file_task"
DATA = [
    Bad("unknown task", run(TASK="lab_nly", MODULES=["tasks.lab"]), ["'lab_nly'", "'lab_nli'"]),
    reading("empty", "", ["'own.tsv'", "no rows"]),
    reading(
        "bad row",
        "a\tb\nc\td\ne\n",
        ["'own.tsv'", "line 3: 1 columns instead of 2", "correct or remove"],
    ),
    reading(
        "bad json",
        '{"inputs": "a", "targets": "b"}\n{"inputs"\n',
        ["'own.jsonl'", "line 2: not JSON"],
    ),
    reading(
        "no column",
        "premis\tlabel\na\tb\n",
        ["'premise'", "did you mean 'premis'"],
        f"{PREFIX}.inputs='{{premise}}?'",
        f"{PREFIX}.targets='{{label}}'",
    ),
    reading("not utf-8", b"a\tb\n\xff\tc\n", ["'own.tsv'", "line 2: not UTF-8"]),
    reading(
        "bad template",
        "a\tb\nc\td\n",
        ["template inputs = '{inputs'"],
        f"{PREFIX}.inputs='{{inputs'",
    ),
    reading(
        "bad metric", "a\tb\nc\td\n", ["'acuracy'", "'accuracy'"], f"{PREFIX}.metric='acuracy'"
    ),
    Bad("no file", run(*own_task("none.tsv", "NAME")), ["'none.tsv'", "check the path"]),
    Bad("wrong ending", run(*own_task("mine.doc", "NAME")), ["'mine.doc'", ".tsv"]),
    Bad("nothing fits", run(INPUT_LENGTH=2), ["none of", "input_length=2", "needs"]),
    Bad("bad too_long", run(TOO_LONG="cut"), ["too_long='cut'", "'trim'"]),
    Bad("too many shots", run(TRAIN_SHOTS=(99,)), ["shots=99", "ask for fewer"]),
    Bad("unknown split", run(EVAL_SPLIT="validaton"), ["'validaton'", "'validation'"]),
    Bad("unknown module", run(MODULES=["tasks.labb"]), ["'tasks.labb'", "PYTHONPATH"]),
    Bad(
        "module of errors",
        run(MODULES=["broken"]),
        ["'broken'", "no_such"],
        {"broken.py": "import no_such"},
    ),
    Bad("no SentencePiece model", run(VOCABULARY_FILE="mine.tsv"), ["'mine.tsv'", "spm_train"]),
    Bad("no vocabulary", run(VOCABULARY_FILE="no.model"), ["'no.model'", "check the path"]),
    Bad(
        "vocabulary too large",
        run("--gin.models.T5Config.vocab_size=100"),
        ["the vocabulary has", "T5Config.vocab_size = 100", "set the model's own"],
    ),
]

TRAINING = [
    Bad(
        "no room for the prompt",
        run(recipe="promot", PROMPT_LENGTH=64),
        ["'target'", "64", "input_length"],
    ),
    Bad(
        "no match",
        run("--gin.model/training.Part.pattern='params/encodr'"),
        ["Part.pattern = 'params/encodr'", "'params/encoder'"],
    ),
    Bad(
        "array of two parts",
        run("--gin.model/run.Stage.train=[@model/training.Part(), @model/training.Part()]"),
        ["'params'", "both cover params/", "narrow"],
    ),
    Bad("batch and mesh", run(BATCH_SIZE=3), ["batch_size = 3", "set a multiple of 2"]),
    Bad("mesh and devices", run(MESH={"data": 3}), ["MESH = {'data': 3}", "2 devices"]),
    Bad("unknown mesh axis", run(MESH={"model": 2}), ["'model'", "data, fsdp, tensor"]),
    Bad(
        "mesh and model",
        run("--gin.models.T5Config.num_heads=3", MESH={"tensor": 2}),
        ["MESH", "tensor = 2", "divisor"],
    ),
    Bad("accumulation", run(ACCUMULATE=3), ["3 accumulation steps", "multiple of 6"]),
    Bad("negative steps", run(STEPS=-1), ["steps = -1", "0 or more"]),
    Bad("smoothing", run(LABEL_SMOOTHING=1.5), ["label_smoothing = 1.5", "[0, 1)"]),
    Bad("never unfrozen", run(recipe="promot_joint", UNFREEZE=100), ["unfreeze = 100", "2 steps"]),
    Bad("select", run("--gin.model/run.Stage.select='lab_qa'"), ["select = 'lab_qa'", "add it"]),
    Bad(
        "prompt of training",
        run("--gin.data.TrainData.prompts='taget'", recipe="promot"),
        ["'taget'", "'target'"],
    ),
    Bad(
        "prompt of evaluation",
        run("--gin.target/evaluation.Evaluation.prompt='taget'", recipe="promot"),
        ["Evaluation.prompt", "'taget'", "'target'"],
    ),
    Bad(
        "decoding", run("--gin.models.Decoding.temperature=1.0", BEAMS=4), ["beams", "temperature"]
    ),
    Bad("model", run("--gin.models.T5Config.emb_dim=0"), ["T5Config.emb_dim = 0", "positive"]),
]

SETTINGS = [
    Bad("unknown gin name", run("--gin.models.T5Confg.emb_dim=8"), ["T5Confg"]),
    Bad("unknown gin argument", run("--gin.models.T5Config.embdim=8"), ["'embdim'", "T5Config"]),
    Bad("unknown setting", run(BATCHSIZE=8), ["--gin.BATCHSIZE", "'BATCH_SIZE'"]),
    Bad("gin syntax of a flag", run("--gin.STEPS=[1,"), ["--gin.STEPS = [1,"]),
    Bad(
        "gin syntax of a file",
        run("--gin_file=mine.gin"),
        ["mine.gin", "line 2"],
        {"mine.gin": "STEPS = 1\nSEED == 3\n"},
    ),
    Bad(
        "unknown import",
        run("--gin_file=mine.gin"),
        ["no_such_module"],
        {"mine.gin": "import no_such_module\n"},
    ),
    Bad(
        "settings missing",
        ["run", "--gin_file=gin/recipes/promot.gin"],
        ["WORKDIR", "MODEL", "VOCABULARY", "TASK", "--gin.NAME=VALUE"],
    ),
    Bad(
        "no such gin file",
        run("--gin_file=gin/recipes/promt.gin"),
        ["promt.gin", "'gin/recipes/promot.gin'"],
    ),
    Bad("no gin file", ["run"], ["--gin_file", "gin/recipes/promot.gin"]),
    Bad("unknown flag", run("--workdir=out"), ["'--workdir=out'", "--help"]),
    Bad("unknown verb", ["train"], ["'train'", "--help"]),
    Bad("no verb", [], ["verb", "--help"]),
]

# What only a program written in gin can get wrong: values of another type, or out of range.
VALUES = {
    "STEPS": (2.5, "a whole number"), "LEARNING_RATE": ("x", "a number or a function"),
    "BATCH_SIZE": ("x", "a whole number"), "INPUT_LENGTH": (64.0, "a whole number"),
    "OPTIMIZER": ("adam", "a function"), "Z_LOSS": (-1, "0 or more"), "BEAMS": (1.5, "a whole"),
    "MESH": ({"data": "x"}, "a mapping to a whole number"), "SEED": (-1, "a whole number from 0"),
    "BASE": (3, "a text"), "WORKDIR": (3, "a text"), "MODEL": ("t5", "a T5Config"),
    "VOCABULARY": ("x", "a Vocabulary"), "EVAL_SPLIT": (3, "a text or a mapping to a text"),
    "TRAIN_SHOTS": ((1.5,), "a whole number or a list"), "PACKING": ("x", "True or False"),
    "EVALUATE_EVERY": (1.5, "a whole number or None"),
}  # fmt: skip
VALUES = [
    Bad(f"{name} of another type", run(**{name: value}), [repr(value), f"set {wanted}"])
    for name, (value, wanted) in VALUES.items()
] + [
    Bad("negative rate", run(LEARNING_RATE=-1.0), ["Part.learning_rate = -1.0", "0 or more"]),
    Bad("large seed", run(SEED=2**70), ["seed", "a whole number from 0"]),
    Bad("infinite rate", run("--gin.LEARNING_RATE=1e999"), ["learning_rate", "inf"]),
    Bad(
        "initialiser not called",
        run(recipe="promot", PROMPT_INIT=1) + ["--gin.PROMPT_INIT=@models.sampled_vocabulary"],
        ["Prompt.init", "a function (called"],
    ),
    Bad("early unfreezing", run(recipe="promot_joint", UNFREEZE=-1), ["unfreeze = -1", "0 or"]),
    Bad("prompt's name", run("--gin.models.Prompt.name='../x'", recipe="promot"), ["'../x'"]),
    Bad("text without quotes", run("--gin.WORKDIR=runs/x"), ["--gin.WORKDIR", "quotes of its own"]),
    Bad("no recipe", run()[:1] + run()[2:], ["add a recipe", "gin/recipes/promot.gin"]),
    Bad(
        "no base for of_base",
        [a.replace("models/lab", "models/of_base") for a in run()],
        ["BASE = None", "work directory to start from"],
    ),
    Bad(
        "misspelt setting of a file",
        run("--gin_file=mine.gin"),
        ["STEPSS", "'STEPS'"],
        {"mine.gin": "STEPSS = 3\n"},
    ),
    Bad(
        "module that fails",
        run(MODULES=["failing"]),
        ["'failing'", "ZeroDivisionError"],
        {"failing.py": "1 / 0\n"},
    ),
    Bad(
        "file of another type",
        run("--gin.data.file_task.train=3"),
        ["file_task.train = 3", "a text"],
    ),
]

DIRECTORIES = [
    Bad("workdir is a URL", run(WORKDIR="gs://a/b"), ["'gs://a/b'", "mount the bucket"]),
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


def infer(*more: str) -> list[str]:
    """`promot infer` on the file asked.jsonl."""
    return ["infer", "trained", "--input=asked.jsonl", "--output=o.jsonl", "--batch_size=4", *more]


ASKED = {"asked.jsonl": '{"inputs": "what?"}\n'}
INFER = [
    Bad(
        "infer: bad line",
        infer(),
        ["line 2", '"inputs"'],
        {"asked.jsonl": '{"inputs": "a"}\n{"input": "b"}\n'},
    ),
    Bad(
        "infer: prompt of a line",
        infer(),
        ["'taget'", "'target'"],
        {"asked.jsonl": '{"inputs": "a", "prompt": "taget"}\n'},
    ),
    Bad("infer: prompt", infer("--prompt=taget"), ["'taget'", "'target'"], ASKED),
    Bad("infer: no input", infer("--input=none.jsonl"), ["--input none.jsonl"], ASKED),
    Bad("infer: no output", infer("--output=mine.tsv/o"), ["--output mine.tsv/o"], ASKED),
    Bad("infer: output is a folder", infer("--output=trained"), ["--output trained"], ASKED),
    Bad(
        "infer: output of other input",
        infer(),
        ["--output o.jsonl exists", "o.jsonl.made_by.json", "give another"],
        ASKED | {"o.jsonl": '{"inputs": "who?", "prompt": null, "output": "x"}\n'},
    ),
    Bad(
        "infer: output that is the input",
        infer("--output=asked.jsonl"),
        ["--output asked.jsonl would overwrite the --input", "give another"],
        ASKED,
    ),
    Bad(
        "infer: half a character",
        infer(),
        ["line 1"],
        {"asked.jsonl": '{"inputs": "\\ud800"}\n'},
    ),
    Bad("infer: temperature", infer("--temperature=nan"), ["temperature = nan", "finite"], ASKED),
    Bad("infer: seed", infer("--seed=99999999999"), ["seed = 99999999999"], ASKED),
    Bad("infer: batch size", infer("--batch_size=0"), ["--batch_size = 0", "1 to 1024"], ASKED),
    Bad("infer: number", infer("--beams=two"), ["--beams", "'two'"], ASKED),
    Bad("infer: beams", infer("--beams=0"), ["beams = 0"], ASKED),
    Bad("infer: whose beams", infer("--beam_search=hf"), ["beam_search = 'hf'", "t5x"], ASKED),
    Bad(
        "infer: too long",
        infer("--input_length=1", "--too_long=error"),
        ["line 1", "input_length = 1"],
        ASKED,
    ),
    Bad("infer: what is too long", infer("--too_long=cut"), ["too_long = 'cut'", "'flag'"], ASKED),
    Bad("infer: nothing to score", infer("--score"), ["line 1", '"targets"'], ASKED),
    Bad("infer: mesh", infer("--mesh=fsdp"), ["--mesh", "'fsdp'"], ASKED),
    Bad("infer: mesh axis", infer("--mesh=model=2"), ["'model'", "data, fsdp, tensor"], ASKED),
    Bad("infer: flag", infer("--gin.BEAMS=2"), ["'--gin.BEAMS=2'", "--help"], ASKED),
]

CONVERT = [
    Bad(
        "export: prompt", ["export", "trained", "o", "--prompt=target"], ["--prompt has no effect"]
    ),
    Bad("export: type", ["export", "trained", "o.npy", "--dtype=float32"], ["--dtype has no"]),
    Bad("import: sentinels", ["import", "trained", "o", "--extra_ids=3"], ["--extra_ids has no"]),
    Bad("import: rubbish", ["import", "mine.tsv", "o"], ["'mine.tsv' is no checkpoint"]),
    Bad("inspect: rubbish", ["inspect", "bad.npy"], ["'bad.npy'", "npy"], {"bad.npy": "x"}),
]

CHECKPOINTS = [
    Bad(
        "workdir with a backslash", run(WORKDIR="a\\b"), ["'a\\\\b'", "backslash", "choose another"]
    ),
]


def setting(name: str, says: list[str], *more: str, **settings) -> Bad:
    """A run with a setting that no run can have."""
    return Bad(name, run(*more, **settings), says)


def gin_file(name: str, content: str | bytes, says: list[str], *others: str) -> Bad:
    """A run with a gin file of the reader's own; `others`: the content of files beside it."""
    files = {"mine.gin": content} | {f"other{i}.gin": text for i, text in enumerate(others)}
    return Bad(name, run("--gin_file=mine.gin"), says, files)


HUGE = 10**30
# Files and settings that nobody can mean: each is one line, before any long work.
ABSURD = [
    reading(
        "nan in json",
        '{"inputs": "a", "targets": NaN}\n' * 9,
        ["9 malformed", "line 1: ", "NaN is no JSON"],
    ),
    reading("utf-16", "a b\tc\n".encode("utf-16"), ["'own.tsv' is UTF-16", "save it as UTF-8"]),
    reading("latin-1", "a b\tcafé\n".encode("latin-1"), ["line 1: not UTF-8", "'a b", "save the"]),
    reading("semicolons", "inputs;targets\na;b\n", ["semicolons (';')", "save it with tabs"]),
    reading("commas in tsv", "inputs,targets\na,b\n", ["commas (',')", "name it .csv"]),
    reading(
        "unknown header",
        "review\tsentiment\n" + "it is good\tTrue\nit is bad\tFalse\n" * 3,
        ["begins with the names ['review', 'sentiment']", "inputs='{review}'"],
    ),
    reading("nul", "a\0b\tc\n", ["line 1: 'inputs' has a NUL"]),
    reading("deep json", "[" * 99999, ["line 1: not JSON (nested too deeply)"]),
    reading(
        "wide template",
        "a\tb\n",
        ["'inputs:>1000000000000'"],
        f"{PREFIX}.inputs='{{inputs:>1000000000000}}'",
    ),
    reading(
        "shot template",
        "a\tb\nc\td\n",
        ["shot_template", "'input'", "'inputs'"],
        f"{PREFIX}.shot_template='{{input}} {{targets}}'",
    ),
    setting("train is no file", ["'.tsv'", "check the path"], *own_task(".tsv", "NAME")),
    setting("no train", ["file_task.train = ''"], *own_task("", "NAME")),
    gin_file("true", "STEPS = 1\nPACKING = true\n", ["mine.gin, line 2: true", "write True"]),
    gin_file("open list", "SEED = 0\nSHOTS = [1,\nSEED = 1\n", ["line 2: a bracket", "closed"]),
    gin_file("arithmetic", "STEPS = 10**30\n", ["mine.gin, line 1", "no arithmetic"]),
    gin_file("cyclic macros", "Z_LOSS = %SEED\nSEED = %Z_LOSS\n", ["circle, %SEED = %Z_LOSS"]),
    gin_file("cycle through a list", "SHOTS = [%SHOTS]\n", ["in a circle"]),
    gin_file("no include", "include 'none.gin'\n", ["mine.gin includes none.gin", "not exist"]),
    gin_file(
        "cyclic include",
        "include 'other0.gin'\n",
        ["mine.gin includes other0.gin includes mine.gin: a circle"],
        "include 'mine.gin'\n",
    ),
    gin_file("latin-1 gin", b"# caf\xe9\nSTEPS = 1\n", ["mine.gin, line 1: not UTF-8", "save"]),
    gin_file("deep gin", "SHOTS = " + "[" * 9999 + "]" * 9999, ["mine.gin", "nested too deeply"]),
    gin_file("long text", f"SEED = '{'x' * 99999}'\n", ["seed = 'xxx", "a whole number"]),
    gin_file("nul in gin", "STEPS = 1\0\n", ["mine.gin, line 1"]),
    Bad("gin file is a directory", run("--gin_file=."), ["--gin_file=. is a directory"]),
    Bad("name of a gin file too long", run(f"--gin_file={'a' * 300}"), ["--gin_file", "too long"]),
    Bad("no gin file at home", run("--gin_file=~/no.gin"), ["--gin_file=~/no.gin does not exist"]),
    Bad(
        "two recipes",
        run("--gin_file=gin/recipes/promot.gin"),
        ["gin/recipes/finetune.gin and gin/recipes/promot.gin both make a run", "leave one"],
    ),
    Bad(
        "two models",
        run("--gin_file=gin/models/mt5_small.gin"),
        ["gin/models/lab.gin and gin/models/mt5_small.gin disagree: ", "leave one"],
    ),
    Bad(
        "module that exits",
        run(MODULES=["exits"]),
        ["'exits'", "SystemExit: 3"],
        {"exits.py": "import sys\nsys.exit(3)\n"},
    ),
    Bad(
        "gin module that exits",
        run("--gin_file=mine.gin"),
        ["mine.gin", "ends the program (exit code 3)"],
        {"mine.gin": "import exits_too\n", "exits_too.py": "import sys\nsys.exit(3)\n"},
    ),
    setting("endless", ["steps = 1000", "2147483647"], STEPS=HUGE // 10**15),
    setting("number of 31 digits", ["steps = 1000", "below 2**63"], STEPS=HUGE),
    setting("rate of 401 digits", ["learning_rate = 1000", "below 2**63"], LEARNING_RATE=10**400),
    setting("large batch", ["batch_size=10000", "GB of memory", "set less"], BATCH_SIZE=10**12),
    setting("long inputs", ["input_length=10000", "GB of memory"], INPUT_LENGTH=10**9),
    setting("long targets", ["target_length=10000", "GB of memory"], TARGET_LENGTH=10**9),
    setting("large evaluation batch", ["batch_size = 1000"], EVAL_BATCH_SIZE=10**12),
    setting("rows", ["max_rows"], "--gin.data.TrainData.max_rows=9000000000000000000"),
    setting("layers", ["layers = 1000"], "--gin.models.T5Config.num_encoder_layers=10000000"),
    setting("width", ["MODEL", "GB of memory"], "--gin.models.T5Config.mlp_dim=10000000"),
    setting("vocabulary", ["vocab_size = 1000"], "--gin.models.T5Config.vocab_size=10000000000"),
    Bad("long prompt", run(recipe="promot", PROMPT_LENGTH=10**9), ["Prompt.length", "1000000"]),
    setting(
        "optimizer's argument",
        ["adamw.b1 = 'x'", "a number"],
        "--gin.training.adamw.b1='x'",
        "--gin.OPTIMIZER=@training.adamw",
    ),
    setting(
        "optimizer's range",
        ["adamw.b2 = 1.5", "[0, 1)"],
        "--gin.training.adamw.b2=1.5",
        "--gin.OPTIMIZER=@training.adamw",
    ),
    setting("adafactor", ["adafactor.factored = 'x'"], "--gin.training.adafactor.factored='x'"),
    setting("high rate", ["learning_rate begins at 1e+30", "0 to 1e6"], LEARNING_RATE=1e30),
    setting("z loss", ["z_loss = 1e+300", "0 to"], Z_LOSS=1e300),
    Bad(
        "prompt's initialiser",
        run("--gin.models.sampled_vocabulary.top='x'", recipe="promot"),
        ["sampled_vocabulary.top = 'x'", "a whole number"],
    ),
    reading("long name of a task", "a\tb\nc\td\n", ["200 bytes"], f"{PREFIX}.name='{'a' * 201}'"),
    reading("workbook", b"PK\x03\x04\xff\0", ["'own.tsv' is a ZIP archive", "Excel"]),
    reading("LFS", "version https://git-lfs.github.com/spec/v1\n", ["Git LFS", "git lfs pull"]),
    reading("list in json", '[{"inputs": "a", "targets": "b"}]', ["line 1: a JSON list", "a line"]),
    setting("modules", ["MODULES = 3", "a module"], MODULES=3),
    setting("held out", ["HELD_OUT = 3", "a list of names"], HELD_OUT=3),
    setting("task of another type", ["task = 3", "a text or a list"], TASK=3),
    setting("no task at all", ["name at least one task"], TASK=[]),
    setting("unknown task of several", ["'lab_nly'", "'lab_nli'"], TASK=["lab_nli", "lab_nly"]),
    setting("old name of several tasks", ["--gin.TASKS", "'TASK'"], TASKS=["lab_nli"]),
]


def asking(name: str, content: str | bytes, says: list[str], *more: str) -> Bad:
    """`promot infer` on a file that has something wrong."""
    return Bad(f"infer: {name}", infer(*more), says, {"asked.jsonl": content})


def own_field(name: str, *more: str) -> Bad:
    """A line with a field that the answer would overwrite."""
    line = f'{{"inputs": "a", "targets": "b", "{name}": 3}}\n'
    return asking(f"own {name}", line, ["line 1", repr(name), "rename it"], *more)


TEXT = infer("--input=asked.txt")
INFER_MORE = [
    asking("nested", '{"inputs": "a"}\n{"inputs": "a", "b": ' + "[" * 99_999, ["line 2", "nested"]),
    asking("NaN", '{"inputs": "a", "score": NaN}\n', ["line 1", "NaN is no JSON"]),
    asking("infinite", '{"inputs": "a", "b": 1e999}\n', ["line 1", "not JSON compliant"]),
    asking("no object", '["a"]\n', ["line 1", '{"inputs": "text"}']),
    asking("other fields", '{"input": "a"}\n', ["line 1", "it has no 'inputs'"]),
    asking("a number", '{"inputs": 3}\n', ["line 1", '{"inputs": "text"}']),
    asking("utf-16", '{"inputs": "a"}\n'.encode("utf-16"), ["asked.jsonl is UTF-16", "UTF-8"]),
    asking(
        "latin-1", '{"inputs": "a"}\r{"inputs": "é"}\r'.encode("latin-1"), ["line 2", "not UTF-8"]
    ),
    asking("NUL", '{"inputs": "a"}\n{"inputs":\0"b"}\n' + "\n" * 99, ["line 2", "NUL"]),
    own_field("output"),
    own_field("too_long"),
    *(own_field(name, "--score") for name in ("score", "tokens", "greedy")),
    Bad("infer: latin-1 text", TEXT, ["asked.txt, line 2", "not UTF-8"], {"asked.txt": b"a\n\xe9"}),
    Bad("infer: NUL in a path", infer("--input=a\0b"), ["--input", "NUL character"]),
    Bad("infer: long name", infer(f"--output={'a' * 300}"), ["--output", "too long"]),
    Bad("infer: NUL in WORKDIR", ["infer", "a\0", "--input=a", "--output=b"], ["NUL character"]),
    Bad("infer: rather long name", infer(f"--output={'a' * 245}"), ["File name too long"], ASKED),
    Bad("infer: of a bucket", infer("--input=gs://a/b.jsonl"), ["gs://a/b.jsonl is a URL"]),
    Bad("infer: axis twice", infer("--mesh=data=1,data=2"), ["--mesh", "for each"], ASKED),
    Bad("infer: to a device", infer("--output=/dev/null"), ["/dev/null is a device"], ASKED),
    Bad(
        "infer: to stdout",
        infer("--output=/dev/stdout"),
        ["stdout is where messages go"],
        ASKED,
    ),
    Bad("infer: of a device", infer("--input=/dev/null"), ["--input /dev/null is a device"]),
    Bad("infer: of a folder", infer("--input=trained"), ["--input trained is a directory"]),
    Bad("infer: no folder", infer("--output=no/o.jsonl"), ["no directory", "make it"], ASKED),
    Bad("infer: top_k", infer("--top_k=5"), ["--top_k = 5 has no effect", "--temperature"], ASKED),
    Bad("infer: top_p", infer("--top_p=0.5"), ["--top_p = 0.5 has no effect"], ASKED),
    Bad("infer: seed alone", infer("--seed=3"), ["--seed = 3 has no effect"], ASKED),
    Bad("infer: one beam", infer("--length_penalty=1"), ["--length_penalty = 1.0 has no"], ASKED),
    Bad("infer: whose one beam", infer("--beam_search=huggingface"), ["--beams=4"], ASKED),
    Bad(
        "infer: decoding of scores",
        infer("--score", "--max_length=8"),
        ["--max_length = 8 has no effect", "--score"],
        ASKED,
    ),
    Bad("infer: outputs of 10**9", infer("--max_length=1000000000"), ["max_length = 10", "16384"]),
    Bad("infer: 10**6 beams", infer("--beams=1000000"), ["beams = 1000000", "1 to 256"], ASKED),
    Bad("infer: 10**9 rows", infer("--batch_size=1000000000"), ["1 to 1024"], ASKED),
    Bad("infer: cold", infer("--temperature=1e-40"), ["temperature = 1e-40", "1e-06"], ASKED),
    Bad("infer: penalty", infer("--length_penalty=99", "--beams=2"), ["-5 to 5"], ASKED),
    Bad("infer: no length", infer("--input_length=0"), ["--input_length = 0", "at least 1"], ASKED),
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
    Bad("report: a URL", ["report", "gs://bucket/run"], ["gs://bucket/run", "URL"]),
]

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
T5 = (
    '{"model_type": "t5", "vocab_size": 8, "d_model": 4, "num_layers": 1, "num_heads": 1,'
    ' "d_kv": 4, "d_ff": 4}'
)
ADAPTER = '{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 1, "token_dim": %s}'
LONG = "x" * 300


def tensors(*names: str) -> bytes:
    """A file of weights."""
    return save({name: np.zeros((1, 4), np.float32) for name in names})


def here(name: str, says: list[str], config: str | bytes | None = T5, **files: str | bytes) -> Bad:
    """An import of what lies here."""
    paths = {
        "weights": "model.safetensors",
        "index": "model.safetensors.index.json",
        "adapter": "adapter_config.json",
        "prompt": "adapter_model.safetensors",
    }
    named = {paths[key]: content for key, content in files.items()}
    named |= {"config.json": config} if config is not None else {}
    return Bad(f"import: {name}", ["import", ".", "o"], says, named)


PROMPT = {"config": None, "prompt": tensors("prompt_embeddings")}
SOURCES = [
    here("settings not fetched", ["config.json is a Git LFS pointer"], LFS),
    here("settings of no JSON", ["config.json is damaged", "NaN"], '{"a": NaN}'),
    here("settings too deep", ["config.json", "too deeply"], "[" * 99999),
    here("settings in a list", ["config.json", "no JSON object"], "[]"),
    here("settings in Latin-1", ["config.json is damaged"], '{"a": "é"}'.encode("latin-1")),
    here("another model", ["type 'bert'", "t5"], '{"model_type": "bert"}'),
    here("no weights", ["neither model.safetensors nor"]),
    here("weights not fetched", ["is a Git LFS pointer"], weights=LFS),
    here("cut weights", ["is damaged"], weights=tensors("a")[:-1]),
    here("prefix", ["begin with 'model.'"], weights=tensors("model.shared.weight")),
    here("encoder", ["encoder alone"], weights=tensors("shared.weight", "encoder.x")),
    here("a shard outside", ["'../x' is no plain name"], index='{"weight_map": {"a": "../x"}}'),
    here("a shard at a path", ["'/x' is no plain name"], index='{"weight_map": {"a": "/x"}}'),
    here("an index too deep", ["index.json is damaged", "too deeply"], index="[" * 99999),
    here("LoRA", ["peft_type = 'LORA'"], None, adapter='{"peft_type": "LORA"}'),
    here("an adapter of two widths", ["token_dim = 8", "4"], adapter=ADAPTER % 8, **PROMPT),
    here("an adapter alone", ["--base"], adapter=ADAPTER % 4, **PROMPT),
    Bad("import: name of a source", ["import", LONG, "o"], ["too long"]),
    Bad("export: a bucket", ["export", "trained", "gs://b/x"], ["DEST = 'gs://b/x'", "local"]),
    Bad("export: no destination", ["export", "trained", ""], ["DEST = ''", "local"]),
    Bad("export: name", ["export", "trained", LONG], ["too long"]),
    Bad("export: below a file", ["export", "trained", "mine.tsv/x"], ["DEST = 'mine.tsv/x'"]),
    Bad("export: prompt below a file", ["export", "trained", "mine.tsv/x.npy"], ["mine.tsv/x.npy"]),
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

CASES = [
    *(DATA + TRAINING + SETTINGS + VALUES + DIRECTORIES + INFER),
    *(CONVERT + CHECKPOINTS + ABSURD + INFER_MORE + REPORT + SOURCES + NAMES),
]
