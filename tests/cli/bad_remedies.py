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
    Bad(
        "two ways to replay",
        remedy("self_replay", "--gin_file=gin/remedies/replay.gin", REPLAY_TASK="lab_qa"),
        ["disagree", "model/data.TrainData.replay", "leave one of them out"],
    ),
    Bad(
        "self-made rows that are too long",
        remedy("self_replay", SELF_REPLAY_LENGTH=16),
        ["Generate.length = 16", "TARGET_LENGTH = 16", "at most 15"],
    ),
    Bad("no self-made rows", remedy("self_replay", SELF_REPLAY_ROWS=0), ["Generate.rows = 0"]),
    Bad(
        "self-made answers to no task",
        remedy("self_replay", SELF_REPLAY_TASK="lab_qs", MODULES=["tasks.lab"]),
        ["'lab_qs'", "'lab_qa'"],
    ),
    Bad(
        "self-made answers and beginnings",
        remedy("self_replay", SELF_REPLAY_TASK="lab_qa", SELF_REPLAY_STARTS="Q:"),
        ["Generate.starts", "has no effect", "leave one of them out"],
    ),
    Bad(
        "self-made rows at no rate",
        remedy("self_replay", SELF_REPLAY_RATE=-0.1),
        ["Replay.rate = -0.1", "set 0.001 to 0.999"],
    ),
    Bad("cold samples", remedy("self_replay", SELF_REPLAY_TEMPERATURE=-1), ["temperature = -1"]),
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
    Bad("no remedy", remedy("l2ps"), ["l2ps.gin", "'gin/remedies/l2sp.gin'"]),
    Bad("weight", remedy("l2sp", L2SP_WEIGHT=-1.0), ["Distance.weight = -1.0", "set 0 to"]),
    Bad("what KL", remedy("kl", KL_DIRECTION="back"), ["'back'", "'forward' or 'reverse'"]),
    Bad("KL of no task", remedy("kl_task"), ["KL_TASK (a task that is not to be forgotten)"]),
    Bad("KL of unknown task", remedy("kl_task", KL_TASK="no_task"), ["'no_task'"]),
    Bad("reference of terms", remedy("kl", REFERENCE="start"), ["'start'", "'before' or 'base'"]),
    Bad("weight of tokens", remedy("flow", FLOW_TAU=0.0), ["FLOW.tau = 0.0", "more than 0"]),
    Bad("share", remedy("mofo", MOFO_SHARE=2.0), ["Mofo.share = 2.0", "more than 0, up to 1"]),
    Bad("frozen", remedy("freeze_lower", FROZEN=["params/x"]), ["'params/x'", "no array"]),
    Bad(
        "frozen scanned layers",
        remedy("freeze_lower", "--gin.models.T5Config.scan_layers=True"),
        ["'params/*/layers_0/*'", "scan_layers = True", "set it False"],
    ),
    Bad("setting without remedy", run(SAM_RADIUS=-1.0), ["sam_radius = -1.0", "set 0 to"]),
    Bad(
        "terms without a stage that tunes",
        remedy("l2sp", recipe="prompt_tuning"),
        ["l2sp.gin has no effect", "a stage that tunes the model", "gin/recipes/finetune.gin"],
    ),
]
