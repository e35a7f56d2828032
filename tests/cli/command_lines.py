"""Command lines: of a small run that works, and of many that have one thing wrong."""

import sys
from pathlib import Path
from typing import NamedTuple

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
    files: dict[str, str] = {}


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
        ["--output asked.jsonl exists", "give another"],
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
    Bad("infer: batch size", infer("--batch_size=0"), ["--batch_size = 0", "at least 1"], ASKED),
    Bad("infer: number", infer("--beams=two"), ["--beams", "'two'"], ASKED),
    Bad("infer: beams", infer("--beams=0"), ["beams = 0"], ASKED),
    Bad("infer: whose beams", infer("--beam_search=hf"), ["beam_search = 'hf'", "t5x"], ASKED),
    Bad("infer: too long", infer("--input_length=1"), ["line 1", "input_length = 1"], ASKED),
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
    setting("modules", ["names = 3", "a text or a list"], MODULES=3),
    setting("held out", ["held_out.tasks = 3", "a text or a list"], HELD_OUT=3),
    setting("task of another type", ["task = 3", "a text or a list"], TASK=3),
    setting("no task at all", ["name at least one task"], TASK=[]),
    setting("unknown task of several", ["'lab_nly'", "'lab_nli'"], TASK=["lab_nli", "lab_nly"]),
    setting("old name of several tasks", ["--gin.TASKS", "'TASK'"], TASKS=["lab_nli"]),
]

CASES = DATA + TRAINING + SETTINGS + VALUES + DIRECTORIES + INFER + CONVERT + ABSURD
