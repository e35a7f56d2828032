"""Command lines with a setting, a gin file or a file of rows that no run can have."""

from command_lines import Bad, own_task, run


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
    Bad("cache in a bucket", run(DATA_CACHE="gs://a/b"), ["DATA_CACHE = 'gs://a/b'", "on a disk"]),
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

LORA = "--gin_file=gin/remedies/lora.gin"
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
    Bad(
        "unknown option of the compiler",
        run(COMPILER_OPTIONS={"cpu": {"xla_cpu_no_such_thing": True}}),
        ["COMPILER_OPTIONS", "xla_cpu_no_such_thing = True", "leave it out"],
    ),
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
    Bad("rank", run(LORA, LORA_RANK=0), ["Lora.rank = 0", "set a positive"]),
    Bad("rank of no kernel", run(LORA, LORA_RANK=999), ["Lora.rank = 999", "set at most"]),
    Bad("alpha", run(LORA, LORA_ALPHA=-1), ["Lora.alpha = -1.0", "above 0"]),
    Bad(
        "kernels",
        run(LORA, LORA_TARGETS="params/encodr"),
        ["'params/encodr' matches no kernel", "'params/encoder'"],
    ),
    Bad(
        "LoRA of evaluation",
        run("--gin.held_out/evaluation.Evaluation.lora=0"),
        ["Evaluation.lora = 0.0", "no LoRA"],
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
    "MESH": ({"data": "x"}, "a mapping to a whole number"),
    "COMPILER_OPTIONS": ({"cpu": {"xla": None}}, "a mapping to a mapping"),
    "SEED": (-1, "a whole number from 0"),
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
