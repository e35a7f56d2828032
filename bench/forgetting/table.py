"""The benchmark as one table: every method, what it is made of, and what is tried of it.

A line of `METHODS` is a recipe with remedies behind it, and a grid of settings, of which every
combination is a run with each pair (base, seed) and target. A method that begins behind stage one
names the method whose prompt it takes (`after`): that is tuned once for a pair, and its work
directory is BASE. A method's tier says with which targets and pairs it is run (`PAIRS`).

A run is scored at every evaluation on the way, so early stopping is a knob of each method. Where a
run ends in stages that only go back on the way to the base, their points count for methods of their
own (`sweeps`): one training serves all.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

TARGETS = ("lab_nli", "lab_translate_quellan")
BASES = (0, 1, 2, 3, 4)  # seeds of pre-training; 0 is the base that promot_jax ships
EVERY = tuple((base, 0) for base in BASES)
# tier -> target -> its pairs (base, seed of tuning). Bases differ more than the seeds of one base,
# and then they are what a test counts (`statistics.compare`): a further base tells more than a
# further seed.
PAIRS = {
    1: {TARGETS[0]: (*EVERY, (0, 1), (1, 1), (2, 1)), TARGETS[1]: (*EVERY, (0, 1))},
    2: dict.fromkeys(TARGETS, EVERY),
    3: {TARGETS[0]: EVERY[:3]},
}
RATES = (1e-4, 3e-4, 1e-3)


class Method(NamedTuple):
    """One way to tune.

    Attributes:
      name: in the table of results.
      recipe: of gin/recipes.
      remedies: of gin/remedies, behind it.
      grid: setting -> the values that are tried; all combinations.
      settings: further bindings.
      after: the method whose work directory it starts from: prompt tuning, of which `recipe` is
        the second stage then, or one that is asked in another way.
      of: which of that method's runs, where its grid has several.
      other: that run is the other target's.
      variant: of the target that it is tuned on and scored on, as "_tagged".
      sweeps: stage beside the last training -> the method that its points count for.
      then: what a run goes on with, a gin file of bench/forgetting: its rows are of that alone, in
        a section of their own, and no points of a method.
      needs: what a user must have: old data, text, a switch at inference.
      tier: of `PAIRS`: 1, what people choose from; 2, other remedies; 3, further ones and what
        explains ProMoT.
      quick: whether `--quick` has it.
    """

    name: str
    recipe: str = "finetune"
    remedies: tuple[str, ...] = ()
    grid: Mapping[str, Sequence] = {}
    settings: tuple[str, ...] = ()
    after: str | None = None
    of: Mapping[str, object] = {}
    other: bool = False
    variant: str = ""
    sweeps: Mapping[str, str] = {}
    then: str | None = None
    needs: str = "nothing"
    tier: int = 1
    quick: bool = False

    def choices(self) -> Iterator[dict[str, object]]:
        """Every combination of the grid."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))


SWITCH = "a switch at inference"
OLD = "old data"
TEXT = "unlabelled text"
AT, HIGH = {"LEARNING_RATE": (3e-4,)}, {"LEARNING_RATE": (3e-4, 1e-3)}
TOKENS = ("STM", "DFT", "EAFT")  # weights of tokens that a prompt may make applicable
FURTHER = {
    "L2-SP, decoupled": "l2sp_decoupled", "SAM": "sam", "half fine-tuning": "half_finetune",
    "MoFO": "mofo", "STM": "stm", "DFT": "dft", "EAFT": "eaft", "TALR": "talr", "FLOW": "flow",
}  # fmt: skip
REPLAY = ("REPLAY_TASK = 'lab_pretrain'",)
RECOVERED = {"RECOVERY_ROWS": (10, 50)}
BOTH_STAGES = ("run.Run.stages = [@prompt/run.Stage(), @model/run.Stage()]",)
LORA_FIRST = ("INPUT_LENGTH = 32", "lora/run.Stage.select = None", "LORA_EVALUATE_EVERY = 250")
LONG = ("STEPS = 2100", "EVALUATE_EVERY = 525")  # as many updates as both of ProMoT's stages
LAST_LAYER = (*LORA_FIRST, "LORA_TARGETS = 'params/decoder/layers_1/mlp/wo/kernel'")
LEFT_ON = ("PROMPT = 'target'", "held_out/evaluation.Evaluation.prompt = 'target'")
# Ways back to the base, behind one training: each but the last leaves the tuned weights.
BACK = {
    "wise_ft": "fine-tuning + WiSE-FT",
    "lines": "fine-tuning + LiNeS",
    "half_reset": "fine-tuning + half reset",
}
GO_BACK = (
    "WISE_FT = [0.3, 0.5, 0.7, 0.85, 1.0]",
    "WISE_FT_KEEP = 1.0",
    "LINES = [0.0, 0.5, 1.0]",
    "LINES_KEEP = 1.0",
    "HALF_RESET = [0.5, 0.75]",
    "AFTER = [@model/wise_ft/run.Stage(), @model/lines/run.Stage(), @model/half_reset/run.Stage()]",
)


def promot(name: str, remedies: tuple[str, ...] = (), **more) -> Method:
    """ProMoT's second stage, behind the prompt that was tuned on the target."""
    given = {"recipe": "promot", "after": "prompt tuning", "needs": SWITCH} | more
    return Method(name, remedies=remedies, **given)


def prompt_and_promot(name: str, settings: tuple[str, ...]) -> tuple[Method, Method]:
    """A stage one of other settings, and ProMoT behind it."""
    prompt, tuned = f"prompt tuning, {name}", f"ProMoT, {name}"
    lengths = tuple(each for each in settings if "LENGTH" in each)
    return (
        Method(prompt, "prompt_tuning", settings=settings, needs=SWITCH, tier=3),
        promot(tuned, settings=lengths, after=prompt, grid=AT, tier=3),
    )


# fmt: off
METHODS = [
    Method("base", "evaluate", quick=True),
    Method("prompt tuning", "prompt_tuning", needs=SWITCH, quick=True),
    Method("fine-tuning", remedies=tuple(BACK), grid={"LEARNING_RATE": RATES}, settings=GO_BACK,
           sweeps=BACK, quick=True),
    promot("ProMoT", ("wise_ft",), grid={"LEARNING_RATE": RATES}, settings=GO_BACK[:2],
           sweeps={"wise_ft": "ProMoT + WiSE-FT"}, quick=True),
    promot("ProMoT, joint", recipe="promot_joint", grid=HIGH, tier=2),
    Method("text tag", variant="_tagged", grid=HIGH, needs=SWITCH, quick=True),
    Method("LoRA", remedies=("lora",),
           grid={"LORA_RANK": (16,), "LORA_LEARNING_RATE": (3e-4, 1e-3)}),
    Method("ProMoT, LoRA as the prompt", "lora_promot", settings=LORA_FIRST,
           grid=AT | {"LORA_LEARNING_RATE": (3e-4, 1e-3)}, sweeps={"lora": "LoRA, taken away"},
           needs=SWITCH),
    promot("ProMoT + LoRA", ("lora",),
           grid={"LORA_RANK": (16,), "LORA_LEARNING_RATE": (3e-4, 1e-3)}, tier=2),
    Method("replay", remedies=("replay",), settings=REPLAY,
           grid=AT | {"REPLAY_RATE": (0.01, 0.05, 0.2)}, needs=OLD, quick=True),
    Method("replay of text", remedies=("replay",), settings=("REPLAY_TASK = 'lab_repeat'",),
           grid=AT | {"REPLAY_RATE": (0.05, 0.2)}, needs=TEXT, tier=2),
    promot("ProMoT + replay", ("replay",), settings=REPLAY,
           grid=HIGH | {"REPLAY_RATE": (0.01,)}, needs=f"{OLD}, {SWITCH}"),
    Method("FINCH", remedies=("finch",), grid=HIGH, tier=2),
    Method("L2-SP", remedies=("l2sp",), grid=AT | {"L2SP_WEIGHT": (0.01, 0.1, 1.0)}, tier=2),
    Method("KL on the target", remedies=("kl",), grid=AT | {"KL_WEIGHT": (0.1, 1.0)}, tier=2),
    Method("KL, target token out", remedies=("kl",), settings=("KL_MASK_TARGET = True",),
           grid=AT | {"KL_WEIGHT": (0.1, 1.0)}, tier=2),
    Method("KL on text", remedies=("kl_task",), settings=("KL_TASK = 'lab_repeat'",),
           grid=AT | {"KL_TASK_WEIGHT": (0.1, 1.0)}, needs=TEXT, tier=2),
    Method("frozen lower layers", remedies=("freeze_lower",), grid=HIGH),
    Method("self-made replay", remedies=("self_replay",), grid=AT | {"SELF_REPLAY_RATE": (0.2,)},
           tier=2),
    Method("self-answered replay", remedies=("self_replay",),
           grid=AT | {"SELF_REPLAY_RATE": (0.2,)}, settings=("SELF_REPLAY_TASK = 'lab_pretrain'",),
           needs="unlabelled old inputs"),
    promot("ProMoT + KL without prompt", ("kl_without_prompt",),
           grid=HIGH | {"KL_WITHOUT_PROMPT_WEIGHT": (0.1, 1.0)}),

    # Further remedies.
    Method("LoRA, other ranks", remedies=("lora",),
           grid={"LORA_RANK": (4, 64), "LORA_LEARNING_RATE": (3e-4, 1e-3)}, tier=3),
    Method("LoRA, 2100 steps", remedies=("lora",), settings=LONG,
           grid={"LORA_RANK": (16,), "LORA_LEARNING_RATE": (1e-4, 3e-4)}, tier=3),
    Method("EWC", remedies=("ewc",), settings=("EWC_TASK = 'lab_pretrain'",),
           grid=AT | {"EWC_WEIGHT": (1e6, 1e7)}, needs=OLD, tier=3),
    *(Method(name, remedies=(file,), grid=AT, tier=3) for name, file in FURTHER.items()),
    *(promot(f"ProMoT + {name}", (FURTHER[name],), grid=AT, tier=3) for name in TOKENS),

    # What explains ProMoT: prompts that know less, or other things.
    promot("ProMoT, random prompt", after=None, grid=AT, tier=3),
    Method("words of each row's own", variant="_marked", grid=AT, needs=SWITCH, tier=3),
    promot("ProMoT, the other target's prompt", other=True, grid=AT, tier=3),
    # What takes up the format without a word or vector in front of the input, in one place.
    Method("ProMoT, the last layer's LoRA as the prompt", "lora_promot",
           settings=LAST_LAYER, grid=AT | {"LORA_LEARNING_RATE": (1e-3,)},
           sweeps={"lora": "the last layer's LoRA, taken away"}, needs=SWITCH, tier=3),
    # One direction added to what the head reads: an output bias, as strong as the token asks for.
    Method("ProMoT, an output shift as the prompt", "lora_promot",
           settings=(*LAST_LAYER, "LORA_RANK = 1"), grid=AT | {"LORA_LEARNING_RATE": (1e-3,)},
           sweeps={"lora": "the output shift, taken away"}, needs=SWITCH, tier=3),
    Method("prompt tuning, shuffled labels", "prompt_tuning", variant="_shuffled", needs=SWITCH,
           tier=3),
    promot("ProMoT, shuffled labels", after="prompt tuning, shuffled labels", grid=AT, tier=3),
    Method("prompt tuning, swapped labels", "prompt_tuning", variant="_swapped", needs=SWITCH,
           tier=3),
    promot("ProMoT, swapped labels", after="prompt tuning, swapped labels", grid=AT, tier=3),
    *prompt_and_promot("1 vector", ("PROMPT_LENGTH = 1",)),
    *prompt_and_promot("5 vectors", ("PROMPT_LENGTH = 5",)),
    *prompt_and_promot("100 vectors", (
        "PROMPT_LENGTH = 100", "INPUT_LENGTH = 128", "EVAL_INPUT_LENGTH = 128")),
    *prompt_and_promot("50 steps", ("PROMPT_STEPS = 50", "PROMPT_EVALUATE_EVERY = 50")),
    *prompt_and_promot("200 steps", ("PROMPT_STEPS = 200", "PROMPT_EVALUATE_EVERY = 200")),
    *prompt_and_promot("500 steps", ("PROMPT_STEPS = 500", "PROMPT_EVALUATE_EVERY = 500")),
    Method("fine-tuning, 2100 steps", grid={"LEARNING_RATE": (3e-5, 1e-4)},
           settings=LONG, tier=3),
    Method("ProMoT, prompt left on", "evaluate", after="ProMoT", of={"LEARNING_RATE": 3e-4},
           settings=LEFT_ON, tier=3),
    Method("recovery after fine-tuning", grid=HIGH | RECOVERED, then="recovery", tier=3),
    promot("recovery after ProMoT", grid={"LEARNING_RATE": (1e-3,)} | RECOVERED,
           then="recovery", tier=3),
    promot("noise on ProMoT's prompt", settings=BOTH_STAGES, after=None, grid=AT,
           then="noise", tier=3),
]
# fmt: on
