"""Command lines with a remedy of gin/remedies and a setting that it cannot have."""

from command_lines import Bad, run


def remedy(name: str, *more: str, recipe: str = "finetune", **settings) -> list[str]:
    """A run with a file of gin/remedies."""
    return run(f"--gin_file=gin/remedies/{name}.gin", *more, recipe=recipe, **settings)


REMEDIES = [
    Bad("nothing to replay", remedy("replay"), ["missing: REPLAY_TASK", "a name, or a list"]),
    Bad(
        "replay of an unknown task",
        remedy("replay", REPLAY_TASK="lab_qs", MODULES=["tasks.lab"]),
        ["'lab_qs'", "'lab_qa'"],
    ),
    Bad(
        "replay of everything",
        remedy("replay", REPLAY_TASK="lab_qa", MODULES=["tasks.lab"], REPLAY_RATE=1),
        ["Replay.rate = 1", "set 0.001 to 0.999"],
    ),
    Bad(
        "replay of the target",
        remedy("replay", REPLAY_TASK="lab_nli", TASK="lab_nli", MODULES=["tasks.lab"]),
        ["Replay.task names 'lab_nli'", "leave it out"],
    ),
    Bad(
        "replay with another prompt",
        remedy("replay", REPLAY_TASK="lab_qa", REPLAY_PROMPT="old", MODULES=["tasks.lab"]),
        ["there is no prompt 'old'"],
    ),
    Bad("kept above 1", remedy("wise_ft", WISE_FT=1.5), ["coefficients", "1.5", "set 0 to 1"]),
    Bad("kept is a text", remedy("wise_ft", WISE_FT="half"), ["'half'", "set a number or a list"]),
    Bad("no such to keep", remedy("wise_ft", WISE_FT_KEEP=0.3), ["keep = 0.3", "(0.5,)", "add it"]),
    Bad("reach above 1", remedy("lines", LINES_REACH=98), ["reach = 98", "a share in (0, 1]"]),
    Bad("slope", remedy("lines", LINES_SLOPE=-1), ["lines.slope = -1", "set 0 to 1"]),
    Bad("reference", remedy("half_reset", HALF_RESET_REFERENCE="theirs"), ["'theirs'", "'before'"]),
    Bad(
        "nothing was tuned",
        remedy("wise_ft", recipe="prompt_tuning"),
        ["stage 'wise_ft'", "pattern = 'params'", "a recipe that tunes the model"],
    ),
    Bad(
        "two remedies of one place",
        remedy("wise_ft", "--gin_file=gin/remedies/lines.gin"),
        ["wise_ft.gin and gin/remedies/lines.gin disagree", "AFTER", "leave one of them out"],
    ),
]
