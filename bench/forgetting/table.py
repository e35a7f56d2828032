"""The benchmark as one table: every method, what it is made of, and what is tried of it.

A line of `METHODS` is a recipe with remedies behind it, and a grid of settings, of which every
combination is a run with each pair (base, seed) and target. A method that begins behind stage one
names the method whose prompt it takes (`after`): that is tuned once for a pair, and its work
directory is BASE. Runs of tier 1 are done with all pairs and targets; those of tier 2, further
remedies and what explains ProMoT, with `SOME_PAIRS` and NLI.

A run is scored at every evaluation on the way, so early stopping is a knob of each method. Where a
run ends in stages that only go back on the way to the base, their points count for methods of their
own (`sweeps`): one training serves all.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

TARGETS = ("lab_nli", "lab_translate_quellan")
BASES = (0, 1, 2)  # seeds of pre-training; 0 is the base that promot_jax ships
SEEDS = (0, 1, 2, 3, 4)
PAIRS = tuple((base, seed) for seed in SEEDS for base in BASES)  # the order in which they are run
SOME_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 3), (1, 4))
RATES = (1e-4, 3e-4, 1e-3)


class Method(NamedTuple):
    """One way to tune.

    Attributes:
      name: in the table of results.
      recipe: of gin/recipes.
      remedies: of gin/remedies, behind it.
      grid: setting -> the values that are tried; all combinations.
      settings: further bindings.
      after: the method whose prompt it starts from, `recipe` having a second stage then.
      variant: of the target that it is tuned on and scored on, as "_tagged".
      sweeps: stage behind the last training -> the method that its points count for.
      needs: what a user must have: old data, text, a switch at inference.
      tier: 1 or 2.
      quick: whether `--quick` has it.
    """

    name: str
    recipe: str = "finetune"
    remedies: tuple[str, ...] = ()
    grid: Mapping[str, Sequence] = {}
    settings: tuple[str, ...] = ()
    after: str | None = None
    variant: str = ""
    sweeps: Mapping[str, str] = {}
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
AT = {"LEARNING_RATE": (3e-4,)}
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


METHODS = [
    Method("base", "evaluate", quick=True),
    Method("prompt tuning", "prompt_tuning", needs=SWITCH, quick=True),
    Method(
        "fine-tuning",
        remedies=tuple(BACK),
        grid={"LEARNING_RATE": RATES},
        settings=GO_BACK,
        sweeps=BACK,
        quick=True,
    ),
    promot(
        "ProMoT",
        ("wise_ft",),
        grid={"LEARNING_RATE": RATES},
        settings=GO_BACK[:2],
        sweeps={"wise_ft": "ProMoT + WiSE-FT"},
        quick=True,
    ),
    promot("ProMoT, joint", recipe="promot_joint", grid={"LEARNING_RATE": (3e-4, 1e-3)}),
    Method("text tag", variant="_tagged", grid={"LEARNING_RATE": (3e-4, 1e-3)}, needs=SWITCH),
    Method(
        "LoRA",
        remedies=("lora",),
        grid={"LORA_RANK": (4, 16, 64), "LORA_LEARNING_RATE": (1e-3, 3e-3)},
    ),
    promot(
        "ProMoT + LoRA",
        ("lora",),
        grid={"LORA_RANK": (16,), "LORA_LEARNING_RATE": (1e-3, 3e-3)},
    ),
    Method(
        "replay",
        remedies=("replay",),
        settings=("REPLAY_TASK = 'lab_pretrain'",),
        grid=AT | {"REPLAY_RATE": (0.01, 0.05, 0.2)},
        needs=OLD,
    ),
    Method(
        "replay of text",
        remedies=("replay",),
        settings=("REPLAY_TASK = 'lab_repeat'",),
        grid=AT | {"REPLAY_RATE": (0.05, 0.2)},
        needs=TEXT,
    ),
    promot(
        "ProMoT + replay",
        ("replay",),
        settings=("REPLAY_TASK = 'lab_pretrain'",),
        grid={"LEARNING_RATE": (3e-4, 1e-3), "REPLAY_RATE": (0.01,)},
        needs=f"{OLD}, {SWITCH}",
    ),
    # What explains ProMoT: prompts that know less.
    Method("prompt, shuffled labels", "prompt_tuning", variant="_shuffled", tier=2),
    Method("prompt, swapped labels", "prompt_tuning", variant="_swapped", tier=2),
    promot("ProMoT, random prompt", after=None, grid=AT, tier=2),
    Method("words of each row's own", variant="_marked", grid=AT, needs=SWITCH, tier=2),
    promot("ProMoT, shuffled labels", after="prompt, shuffled labels", grid=AT, tier=2),
    promot("ProMoT, swapped labels", after="prompt, swapped labels", grid=AT, tier=2),
]
