"""Orbax checkpoints of a stage, and references to what they leave out.

A checkpoint holds the variables that this stage or an earlier one of the run trains, the optimizer
state, and a note (step, clock, scores). What the run never touched is only referred to: by the path
of the base checkpoint (or the seed it was drawn from) and a digest of the arrays. So a stage-one
checkpoint is as small as its prompt, and what stage two leaves is complete in itself.
"""

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, UInt32
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from promot_jax.errors import UserError
from promot_jax.hosts import wait_for_all, write_atomically
from promot_jax.models import Variables, flat, nested, unstack_layers
from promot_jax.training.step import State


def digest(variables: Variables) -> str:
    """A fingerprint of the arrays' exact bits, the same on every mesh.

    The same too for scanned and unrolled layers. Integer sums modulo 2^32 of the bits times odd
    weights of their position: exact in any order, so each device sums its own part and no array is
    gathered (as flattening it would).
    """

    sums = jax.device_get(jax.jit(bit_sums)(dict(variables)))
    lines = [f"{path} {int(sums[path])}" for path in sorted(sums)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def bit_sums(variables: Variables) -> dict[str, UInt32[Array, ""]]:
    """The sum of each array, as `digest` takes it."""

    def array_sum(x):
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32 if x.dtype.itemsize == 4 else jnp.uint16)
        position = jnp.uint32(0)
        for axis, size in enumerate(x.shape):
            along = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
            position = position * np.uint32(size) + along
        weights = position * np.uint32(2654435761) | np.uint32(1)
        return jnp.sum(bits.astype(jnp.uint32) * weights, dtype=jnp.uint32)

    return jax.tree.map(array_sum, unstack_layers(variables))


@dataclasses.dataclass
class Checkpoints:
    """The checkpoints of one stage: the last and the best are kept.

    Attributes:
      directory: where they lie.
      read_only: they may be another process's, which is still writing: nothing is tidied up.
      writing_gb: memory that variables being written may take; more than the largest of them, or
        None for a copy of them all.
    """

    directory: Path
    read_only: bool = False
    writing_gb: float | None = None

    def __post_init__(self):
        self._check_scores()
        score = lambda metrics: metrics["score"]  # noqa: E731
        self.manager = ocp.CheckpointManager(
            self.directory.resolve(),
            # Named here, not at the first save: a manager that only reads needs them as well.
            item_handlers={
                "variables": ocp.PyTreeCheckpointHandler(save_concurrent_gb=self.writing_gb),
                "state": ocp.PyTreeCheckpointHandler(),
                "note": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                read_only=self.read_only,
                create=not self.read_only,
                save_interval_steps=0 if self.read_only else 1,
                best_fn=score,
                preservation_policy=keep.AnyPreservationPolicy(
                    [
                        keep.LatestN(1),
                        keep.BestN(
                            get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False
                        ),
                    ]
                ),
            ),
        )

        # It would count its steps in JAX's preemption service, where `stop_requests` counts calls.
        self.manager.reached_preemption = lambda step: False

    def save(
        self, state: State, untrained: Variables, note: dict[str, Any], score: float | None
    ) -> None:
        """Saves in the background; `untrained`: frozen variables that belong to it too."""
        self.manager.save(
            int(state.step),
            args=ocp.args.Composite(
                variables=ocp.args.PyTreeSave(nested(state.trained | untrained)),
                state=ocp.args.PyTreeSave(_rest(state)),
                note=ocp.args.JsonSave(note),
            ),
            metrics=_metrics(score),
            force=True,
        )

    def rescore(self, step: int, score: float | None) -> None:
        """Gives a checkpoint another score: its evaluation was stopped when it was saved."""
        write_atomically(self._scores(step), json.dumps(_metrics(score)))
        wait_for_all("checkpoint scored")
        self.manager.reload()

    def score(self, step: int) -> float | None:
        """A checkpoint's score; None where it has none."""
        metrics = self.manager.metrics(step)
        return metrics["score"] if metrics and math.isfinite(metrics["score"]) else None

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self.manager.latest_step()

    def best(self) -> int | None:
        """The step with the best score; the newest one where nothing was scored."""
        return self.manager.best_step()

    def note(self, step: int) -> dict[str, Any]:
        """The note saved with a checkpoint."""
        return self._read(step, note=ocp.args.JsonRestore())["note"]

    def written(self, step: int) -> int:
        """When a checkpoint was written, in ns."""
        try:
            return self.manager.metadata(step).commit_timestamp_nsecs
        except Exception as error:
            raise self._unreadable(step, error) from error

    def shapes(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of the variables in a checkpoint, without reading them."""
        try:
            tree = self.manager.item_metadata(step)["variables"].tree
        except Exception as error:
            raise self._unreadable(step, error) from error
        return {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in flat(tree).items()
        }

    def variables(self, step: int, abstract: Variables) -> Variables:
        """Reads variables, each device its part; `abstract` gives shape, dtype and sharding."""
        item = nested(dict(abstract))
        restore = ocp.args.PyTreeRestore(
            item,
            restore_args=ocp.checkpoint_utils.construct_restore_args(item),
            partial_restore=True,  # a base may hold prompts that this run has not
        )
        return flat(self._read(step, variables=restore)["variables"])

    def state(self, step: int, like: State) -> State:
        """Reads optimizer state, key and step into the form of `like`, whose variables are kept."""
        item = jax.tree.map(ocp.utils.to_shape_dtype_struct, _rest(like))
        restore = ocp.args.PyTreeRestore(
            item, restore_args=ocp.checkpoint_utils.construct_restore_args(item)
        )
        read = self._read(step, state=restore)["state"]
        return State(
            read["step"], like.trained, read["optimizer"], jax.random.wrap_key_data(read["key"])
        )

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self.manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
            raise self._unreadable(step, error) from error

    def _check_scores(self) -> None:
        """Raises UserError where a score is lost, which Orbax would take for one never given.

        Of all but the newest it may be gone: a process may have been killed while it removed one.
        """
        steps = sorted(int(x.name) for x in self.directory.glob("[0-9]*") if x.name.isdecimal())
        for step in steps:
            try:
                json.loads(self._scores(step).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                if step == steps[-1] or not isinstance(error, FileNotFoundError):
                    raise self._unreadable(step, error) from error

    def _scores(self, step: int) -> Path:
        """Where Orbax has the metrics of a checkpoint."""
        return self.directory / str(step) / "metrics" / "metrics"

    def _unreadable(self, step: int, error: Exception) -> UserError:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return UserError(
            f"the checkpoint {self.directory / str(step)} cannot be read ({reason}): restore it, or"
            " delete it to go on from the checkpoint before it, or from the start of the stage"
        )

    def close(self) -> None:
        """Waits until everything is written."""
        self.manager.close()


def _metrics(score: float | None) -> dict[str, float]:
    """What was not scored is the best only where nothing was: of equals the newest is."""
    return {"score": -math.inf if score is None else score}


def _rest(state: State) -> dict[str, Any]:
    """What a checkpoint keeps of a state beside the variables."""
    return {"step": state.step, "optimizer": state.optimizer, "key": jax.random.key_data(state.key)}
