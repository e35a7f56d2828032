"""Command lines with files and settings that nobody can mean: one line, before any long work."""

from bad_settings import PREFIX, reading
from command_lines import Bad, own_task, run


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
    reading("nan in tsv", "a\tb\nc\tNaN\n", ["line 2: 'targets' is 'NaN', a missing value"]),
    Bad(
        "name of a task",
        run("--gin.data.file_task.name='a\\nb'"),
        ["'a\\nb'", "Task name 'a b'", "regex"],
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
    gin_file(
        "cyclic macros",
        "Z_LOSS = %SEED\nSEED = %Z_LOSS\n",
        ["circle, %SEED = %Z_LOSS", "(mine.gin)"],
    ),
    setting("arithmetic in a list", ["no arithmetic"], "--gin.TARGET_SHOTS=(10**9,)"),
    setting("arithmetic in a mapping", ["no arithmetic"], "--gin.MESH={'data': 10**9}"),
    setting("true steps", ["steps = True", "a whole number"], STEPS=True),
    Bad(
        "base in a list",
        [arg.replace("models/lab.gin", "models/of_base.gin") for arg in run(BASE=["a"])],
        ["BASE = ['a']", "a text"],
    ),
    Bad(
        "no task of multi-task", run(recipe="multitask_promot", TASK=[]), ["TASK = []", "at least"]
    ),
    Bad("gin file is a device", run("--gin_file=/dev/null"), ["/dev/null is a pipe or a device"]),
    gin_file("cycle through a list", "SHOTS = [%SHOTS]\n", ["in a circle"]),
    gin_file("no include", "include 'none.gin'\n", ["mine.gin includes none.gin", "not exist"]),
    gin_file(
        "cyclic include",
        "include 'other0.gin'\n",
        ["mine.gin includes other0.gin includes mine.gin: a circle"],
        "include 'mine.gin'\n",
    ),
    gin_file("latin-1 gin", b"# caf\xe9\nSTEPS = 1\n", ["mine.gin, line 1: not UTF-8", "save"]),
    gin_file(
        "deep gin", "SHOTS = " + "[" * 9999 + "]" * 9999, ["mine.gin, line 1", "nested too deeply"]
    ),
    gin_file("long text", f"SEED = '{'x' * 99999}'\n", ["seed = 'xxx", "a whole number"]),
    gin_file("nul in gin", "STEPS = 1\0\n", ["mine.gin, line 1: a NUL character"]),
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
