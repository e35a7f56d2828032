"""Every command in gin/runs, and every recipe, is parsed, built and traced; shapes, no weights.

The commands are those in the files' headers, so that what a header says is what is tested.
"""

import functools
import itertools
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from promot_jax import models
from promot_jax.cli import settings
from promot_jax.data import byte, get_task, task_names
from promot_jax.data.layouts import make_layout
from promot_jax.errors import UserError
from promot_jax.evaluation.evaluation import prompts_of_tasks, splits_of_tasks
from promot_jax.evaluation.metrics import scorable_task
from promot_jax.models import abstract, build, generate, prompt_ids
from promot_jax.training import assign
from promot_jax.training.step import State, train_step

GIN = Path(__file__).parents[2] / "gin"
# In the place of vocabularies that lie elsewhere; and one layer is traced for all of a stack.
LOCAL = [
    "VOCABULARY_FILE = 'promot_jax/assets/lab/sentencepiece.model'",
    "models.T5Config.scan_layers = True",
]


def commands(path: Path) -> list[list[str]]:
    """The `promot run` commands in a gin file's header, as arguments."""
    header = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))[0]
    text = re.sub(r"^# ?", "", header, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        shlex.split(line) for line in text.splitlines() if line.strip().startswith("promot run")
    ]


RUNS = [
    pytest.param(command, id=f"{path.stem}-{number}")
    for path in sorted((GIN / "runs").glob("*.gin"))
    if path.stem != "paper"
    for number, command in enumerate(commands(path))
]
RECIPES = [path for path in sorted((GIN / "recipes").glob("*.gin")) if path.stem != "common"]
LAB = [
    "WORKDIR = 'out'",
    "BASE = 'promot_jax/assets/lab/base'",
    "PROMPT_LENGTH = 20",
]
ONLY_SOME = [
    "FIRST_TASK = 'lab_translate_quellan'",
]


@pytest.fixture(scope="module")
def decoder(tuned):
    """The setting of a base that is a decoder."""
    return f"BASE = {str(tuned / 'out')!r}"


def made(files, bindings):
    """The run that gin files and settings make."""
    settings.parse(files, bindings)
    return settings.build("Run")


def trace(run) -> None:
    """Traces each stage's step and each evaluation's generation, as far as they differ."""
    prompts = tuple((prompt.name, prompt.length) for prompt in run.prompts)
    ids = prompt_ids(run.prompts, run.model.vocab_size)
    for stage in run.stages:
        if stage.steps:
            assert [get_task(name).name for name in task_names(stage.data.task)]
            assert max(map(len, ids.values()), default=0) < stage.data.input_length
            trace_step(run.model, prompts, stage)
        for asked in stage.evaluations:
            for task in asked.tasks:
                scorable_task(task)
            prompts_of_tasks(asked, ids)
            splits_of_tasks(asked)
            trace_generation(run.model, asked.decoding)


TRACED = set()


def trace_step(config, prompts, stage) -> None:
    """One training step on a batch of 4 rows, unless one of its kind was traced before."""
    parts, packing = stage.train, stage.data.packing
    weights = {"label_smoothing": stage.label_smoothing, "z_loss": stage.z_loss}
    optimizers = tuple((part.pattern, part.optimizer.__name__) for part in parts)
    kind = config, prompts, packing, optimizers, *weights.values()
    if kind in TRACED:
        return
    TRACED.add(kind)
    model = build(config, prompts)
    shapes = abstract(model)
    owner = assign(parts, shapes)
    arrays = make_layout(config.kind, byte()).empty(4, 32, 16, packing)
    batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in arrays.items()}

    def step(variables, batch):
        trained = {path: x for path, x in variables.items() if path in owner}
        frozen = {path: x for path, x in variables.items() if path not in owner}
        optimizer = {
            str(i): part.transformation().init({p: trained[p] for p in owner if owner[p] == i})
            for i, part in enumerate(parts)
        }
        state = State(jnp.int32(0), trained, optimizer, jax.random.key(0))
        loss = functools.partial(models.loss, model, **weights)
        return train_step(state, frozen, batch, loss=loss, parts=parts, owner=owner, accumulate=1)

    state, metrics = jax.eval_shape(step, shapes, batch)
    assert {path: x.shape for path, x in state.trained.items()} == {
        path: shapes[path].shape for path in owner
    }
    assert metrics["loss"].shape == ()


@functools.cache
def trace_generation(config, decoding) -> None:
    """The answers to a batch of 4 rows."""
    model = build(config)
    inputs = jax.ShapeDtypeStruct((4, 32), jnp.int32)
    make = functools.partial(generate, model, decoding=decoding, stop_ids=(1,))
    ids, _ = jax.eval_shape(lambda v, *given: make(v, *given), abstract(model), inputs, inputs)
    assert ids.shape == (4, decoding.max_length)


@pytest.mark.parametrize("command", RUNS)
def test_commands_of_runs(command, decoder):
    files = [a.removeprefix("--gin_file=") for a in command if a.startswith("--gin_file=")]
    given = [a.removeprefix("--gin.") for a in command if a.startswith("--gin.")]
    assert [a for a in command[2:] if not a.startswith("--gin")] == []
    remote = [b for b in given if b.startswith(("DATA_DIR", "VOCABULARY_FILE"))]
    local = [decoder] if "gin/runs/real.gin" in files else LOCAL
    run = made(files, [b for b in given if b not in remote] + local)
    trace(run)
    assert run.workdir.startswith("runs/")


HELD_OUT = (
    *("cb", "wic", "trivia_qa", "web_questions"),
    *("wmt16_ende", "wmt16_enro", "xsum", "wiki_lingua"),
)
PAPER = [run for run in RUNS if run.id.startswith("paper")]


@pytest.mark.parametrize("command", PAPER)
def test_hyperparameters_are_the_published_ones(command):
    """Of the paper's section on its experiments; what it leaves open is in gin/runs/paper.gin."""
    files = [a.removeprefix("--gin_file=") for a in command if a.startswith("--gin_file=")]
    given = [a.removeprefix("--gin.") for a in command if a.startswith("--gin.")]
    run = made(files, given + LOCAL)
    multitask, shots = "multitask" in run.method, ((1,) if "1shot" in " ".join(files) else (0,))
    assert run.model.dropout_rate == 0.1 and run.model.param_dtype == "float32"
    for stage in run.stages:
        [part] = stage.train
        assert (stage.label_smoothing, stage.accumulate, part.unfreeze) == (0.1, 1, 0)
        data = stage.data
        assert (data.batch_size, data.packing, data.shots) == (64, False, shots)
        if part.pattern.startswith("prompt"):
            expected = (10000 if multitask else 5000, 1000, 0.2)
        else:
            expected = (1000, 100, 1e-3)
        assert (stage.steps, stage.evaluate_every, part.rate(0)) == expected
        assert part.rate(stage.steps - 1) == part.rate(0) and "adafactor" in str(part.optimizer)
        assert stage.selecting and set(stage.selecting) <= set(run.targets)
        asked = {evaluation.tasks: evaluation for evaluation in stage.evaluations}
        assert asked[stage.selecting].shots == shots
        assert all(evaluation.decoding.beams == 4 for evaluation in asked.values())
        held_out = asked[HELD_OUT]
        assert (held_out.shots, held_out.prompt, held_out.input_length) == ((1, 4), None, 1024)
    assert all(prompt.length == 100 for prompt in run.prompts)


@pytest.mark.parametrize("model", ["lab", "of_base"])
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes(recipe, model, decoder):
    """With the lab's T5, and with a base that is a decoder."""
    files = [str(recipe), f"gin/models/{model}.gin", "gin/tasks/lab_nli.gin"]
    asked = [
        line
        for line in ONLY_SOME
        if f"%{line.partition(' ')[0]}" in recipe.read_text(encoding="utf-8")
    ]
    asked += ["LORA_RANK = 4"] * ("lora" in recipe.stem)  # the decoder's kernels are tiny
    run = made(files, LAB + (LOCAL if model == "lab" else [decoder]) + asked)
    expected = "decoder_only" if model == "of_base" else "encoder_decoder"
    assert run.model.kind == expected
    trace(run)
    named = {"evaluate": {"lab": "base", "of_base": "promot"}[model]}  # as what it scores
    assert run.method == named.get(recipe.stem, recipe.stem)


def test_every_run_has_a_command_and_what_it_needs():
    for path in (GIN / "runs").glob("paper_*.gin"):
        text = path.read_text(encoding="utf-8")
        assert len(commands(path)) == 2, path.name
        for word in ("# Hardware:", "# Hyperparameters:", "# Published"):
            assert word in text, (path.name, word)


REMEDIES = sorted((GIN / "remedies").glob("*.gin"))
TUNING = ("finetune", "promot", "promot_joint", "multitask_promot", "sequential_promot")


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda path: path.stem)
def test_remedies_compose_with_every_recipe(remedy):
    """Also what each adds is scored as the stage that tunes the model."""
    for recipe in TUNING:
        files = [f"gin/recipes/{recipe}.gin", "gin/runs/lab.gin", str(remedy)]
        needs = {"replay": "REPLAY_TASK", "ewc": "EWC_TASK", "kl_task": "KL_TASK"}
        given = [f"{needs[remedy.stem]} = 'lab_summary'"] if remedy.stem in needs else []
        run = made(files, LAB + LOCAL + given + ONLY_SOME * recipe.startswith("sequential"))
        assert run.method == recipe
        model = next(stage for stage in run.stages if stage.name == "model")
        replays = [stage.name for stage in run.stages if stage.data and stage.data.replay]
        assert replays == ["model"] * ("replay" in remedy.stem)
        makers = [stage.name for stage in run.stages if stage.generate]
        assert makers == ([run.stages[0].name] if "self" in remedy.stem else [])
        for stage in run.stages[run.stages.index(model) + 1 :]:
            assert stage.transform is not None and not stage.steps
            assert (stage.evaluations, stage.select) == (model.evaluations, model.select)


def test_modules_are_imported_before_their_tasks_are_looked_up(tmp_path, monkeypatch):
    (tmp_path / "module_of_a_mixture.py").write_text(
        "import seqio\n"
        "from tasks import lab\n"
        "seqio.MixtureRegistry.add('mixture_of_two', [('lab_nli', 3), ('lab_qa', 1)])\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    run = made(
        ["gin/recipes/multitask_promot.gin", "gin/runs/lab.gin"],
        ["WORKDIR = 'out'", "MODULES = 'module_of_a_mixture'", "TASK = 'mixture_of_two'"],
    )
    assert run.targets == ("lab_nli", "lab_qa")
    assert [prompt.name for prompt in run.prompts] == ["lab_nli", "lab_qa"]
    target, held_out = run.stages[0].evaluations
    assert target.tasks == run.targets and "lab_qa" not in held_out.tasks
    assert "lab_senses" in held_out.tasks


RECIPE, MODEL, TASK, LAB_RUN, MESH = (
    "gin/recipes/multitask_promot.gin", "gin/models/of_base.gin", "gin/tasks/lab_translate.gin",
    "gin/runs/lab.gin", "gin/meshes/fsdp.gin",
)  # fmt: skip
TWO = ["gin/remedies/wise_ft.gin", "gin/remedies/lines.gin"]


@pytest.mark.parametrize(
    "files", [[RECIPE, LAB_RUN, TASK, MESH], [RECIPE, MODEL, TASK], [RECIPE, LAB_RUN, MODEL]]
)
def test_the_order_of_files_is_no_matter(files):
    given = ["WORKDIR = 'out'", "BASE = 'promot_jax/assets/lab/base'"]
    texts = {settings.parse(order, given) for order in itertools.permutations(files)}
    assert len(texts) == 1
    translates = TASK in files
    assert ("TASK = 'lab_translate_quellan'" in texts.pop()) == translates


def test_own_files_come_last_and_later_ones_win(tmp_path):
    for name, steps in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.gin").write_text(f"STEPS = {steps}\n", encoding="utf-8")
    one, two = (str(tmp_path / f"{name}.gin") for name in ("one", "two"))
    for files, steps in (([one, RECIPE, two, LAB_RUN], 2), ([two, one, LAB_RUN, RECIPE], 1)):
        assert f"\nSTEPS = {steps}\n" in settings.parse(files, ["WORKDIR = 'out'"])


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([RECIPE, "gin/recipes/finetune.gin", LAB_RUN], "finetune.gin both make a run"),
        ([RECIPE, "gin/models/lab.gin", MODEL, TASK], "lab.gin and .*of_base.gin .*: MODEL ="),
        ([TASK, RECIPE, "gin/tasks/lab_nli.gin", MODEL], "lab_nli.gin disagree: TASK = 'lab_tra"),
        ([RECIPE, LAB_RUN, *TWO], "wise_ft.gin and .*lines.gin disagree: AFTER = "),
    ],
)
def test_two_files_that_disagree_are_named(files, says):
    for order in (files, files[::-1]):
        with pytest.raises(UserError, match=says if order is files else "disagree|both make"):
            settings.parse(order, ["WORKDIR = 'out'"])
    if "TASK" in says:
        assert settings.parse(files, ["WORKDIR = 'out'", "BASE = None", "TASK = ['lab_nli']"])


def test_tasks_from_several_files_of_ones_own(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.tsv").write_text(
            "".join(f"{name}{i}\t{i}\n" for i in range(9)), "utf-8"
        )
    tasks = [f"{n}/data.file_task.name = 'own_{n}'" for n in "ab"]
    tasks += [f"{n}/data.file_task.train = '{tmp_path / n}.tsv'" for n in "ab"]
    run = made(
        ["gin/recipes/multitask_promot.gin", "gin/models/lab.gin"],
        ["WORKDIR = 'out'", "TASK = [@a/data.file_task(), @b/data.file_task()]", *tasks],
    )
    assert run.targets == ("own_a", "own_b")
    assert [prompt.name for prompt in run.prompts] == ["own_a", "own_b"]
