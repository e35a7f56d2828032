"""Runs the stages in order and continues where an earlier start of the same run stopped.

Everything that can be wrong with the settings is found in `prepare`, before the work directory is
touched or anything is trained.
"""

import contextlib
from pathlib import Path

from promot_jax.paths import as_path
from promot_jax.run.beginning import beginning, check_base
from promot_jax.run.generating_stage import GeneratingStage
from promot_jax.run.prepare import Context, data_digests, prepare
from promot_jax.run.stage import Run
from promot_jax.run.stage_run import StageRun
from promot_jax.run.training_stage import TrainingStage
from promot_jax.run.transform_stage import TransformStage
from promot_jax.run.workdir import Results, check, claim, continued
from promot_jax.training import stop_requests
from promot_jax.training.logs import logged


def run(settings: Run, config: str | None = None) -> Path:
    """Runs, or continues, all stages. Returns the work directory.

    Args:
      settings: the run.
      config: the gin settings in force, kept as `config.gin`.

    Raises:
      UserError: a setting that cannot work; nothing has been done then.
      Diverged: a metric is NaN.
      Interrupted: stopped by a signal; the same call continues.
    """
    settings = continued(settings)
    context = prepare(settings)
    data, base_digest = data_digests(context.stages), None
    if check(settings, config, data):
        variables = None
        check_base(context)
        for stage in context.stages:  # now, and not after hours in the stages before
            logged(as_path(settings.workdir) / stage.directory)
    else:  # before the work directory is made, which a damaged base then leaves untouched
        variables, base_digest = beginning(context)
    with claim(settings, config, data, base_digest) as root, stop_requests() as stop:
        results = Results(root)
        for index in range(len(context.stages)):
            with contextlib.closing(_stage_run(context, index, root, results, stop)) as stage:
                variables = stage.finished() if stage.done() else stage.run(variables)
    return root


def _stage_run(context: Context, index: int, *about) -> StageRun:
    """A stage in its directory, as one of its kind."""
    stage = context.stages[index].stage
    if stage.transform is not None:
        return TransformStage(context, index, *about)
    if stage.generate is not None:
        return GeneratingStage(context, index, *about)
    return (TrainingStage if stage.steps else StageRun)(context, index, *about)
