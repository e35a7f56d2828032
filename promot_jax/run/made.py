"""Data that a run makes itself: which stage trains on what which one before it has generated.

Everything else is read before the run begins; this is read when its turn comes. What can be known
of it before is checked before.
"""

import dataclasses

from promot_jax.data import TrainData, task_names
from promot_jax.errors import UserError
from promot_jax.run.stage import Run


def here_now(settings: Run, index: int, data: TrainData) -> TrainData | None:
    """What a stage reads as far as it is there before the run: the very same where it all is.

    Args:
      settings: the run.
      index: of the stage.
      data: what it trains on, or one of its terms does.

    Raises:
      UserError: something of it is made by no stage before this one.
    """
    stage, makers = settings.stages[index], _makers(settings)
    made = [name for name in _named(data) if name in makers]
    for name in made:
        if makers[name] >= index:
            raise UserError(
                f"stage {stage.name!r} trains on {name!r}, which stage"
                f" {settings.stages[makers[name]].name!r} generates only then: put that before it"
            )
    if not made:
        return data
    if any(name in makers for name in task_names(data.task)):
        return None
    old = [name for name in task_names(data.replay.task) if name not in makers]
    replay = dataclasses.replace(data.replay, task=old) if old else None
    return dataclasses.replace(data, replay=replay)


def answer_length(settings: Run, index: int) -> int:
    """Most tokens of an answer that a stage generates: what is learned from needs an end as well.

    Raises:
      UserError: more than a stage that trains on them has room for.
    """
    stage = settings.stages[index]
    asked, rooms = stage.generate.length, {}
    for other in settings.stages[index + 1 :]:
        read = [data for data in other.reads.values() if stage.generate.name in _named(data)]
        if read:
            rooms[other.name] = min(data.target_length for data in read) - 1
    if not rooms:
        return asked or stage.generate.decoding.max_length
    name = min(rooms, key=rooms.__getitem__)
    if rooms[name] < 1 or (asked or 1) > rooms[name]:
        raise UserError(
            f"stage {stage.name!r}: Generate.length = {asked or 1}, but TARGET_LENGTH ="
            f" {rooms[name] + 1} of stage {name!r}, which trains on it, must be more: set"
            f" {'a larger TARGET_LENGTH' if rooms[name] < 1 else f'at most {rooms[name]}'}"
        )
    return asked or rooms[name]


def _makers(settings: Run) -> dict[str, int]:
    """The name of what is generated -> the index of the stage that does."""
    found: dict[str, int] = {}
    for index, stage in enumerate(settings.stages):
        if stage.generate is not None:
            name = stage.generate.name
            if name in found:
                raise UserError(
                    f"stage {stage.name!r}: Generate.name = {name!r} is that of stage"
                    f" {settings.stages[found[name]].name!r} already: choose another"
                )
            found[name] = index
    return found


def _named(data: TrainData) -> tuple[str, ...]:
    replay = () if data.replay is None else task_names(data.replay.task)
    return (*task_names(data.task), *replay)
