"""Results and checkpoints of a stage say the same, or the run does not go on.

Scores are in results.json before the checkpoint is that they belong to. So whatever a checkpoint's
note counts of its stage's rows is there, and its score follows from them; where not, something was
deleted or is from another time.
"""

from promot_jax.errors import UserError
from promot_jax.run.stage import Stage, selecting_score
from promot_jax.run.workdir import Results
from promot_jax.training import Checkpoints


def agree(stage: Stage, name: str, checkpoints: Checkpoints, results: Results) -> None:
    """Gives the newest checkpoint the score that a killed run had written to the results alone.

    Raises:
      UserError: results and checkpoints of the stage in the directory `name` do not agree.
    """
    for step in checkpoints.steps():
        rows, noted = counted(results, name, step), checkpoints.note(step)
        score = selecting_score(stage, results.of(name, step))
        if rows > noted["rows"] == rows - len(results.of(name, step)):
            checkpoints.rescore(step, score, rows=rows)
        elif rows != noted["rows"] or score != noted["score"]:
            raise disagree(results, checkpoints, f"what was scored up to step {step}")


def counted(results: Results, name: str, step: int) -> int:
    """How many rows the stage in the directory `name` has up to a step."""
    return sum(each <= step for each in results.steps(name))


def disagree(results: Results, checkpoints: Checkpoints, what: str) -> UserError:
    """What to raise where results and checkpoints say different things of `what`."""
    directory = checkpoints.given
    return UserError(
        f"{results.path} does not belong to {directory} ({what}): restore both, or delete"
        f" {directory.parent} to begin the stage anew"
    )
