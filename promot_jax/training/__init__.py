"""Training: state and batch to state. Only what is trained has gradients and optimizer state.

Names are imported when they are first asked for: who answers or converts needs no optimizer.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from promot_jax.training.checkpoints import Checkpoints
    from promot_jax.training.digests import digest
    from promot_jax.training.filters import Filter, Finch, HalfFrozen, Mofo, Pull
    from promot_jax.training.logs import Bar, MetricsLog
    from promot_jax.training.loop import Diverged, Interrupted, Plan, stop_requests, train
    from promot_jax.training.mesh import (
        check_batch,
        local_rows,
        make_mesh,
        place_batch,
        replicated,
        shardings,
        use,
    )
    from promot_jax.training.optimizers import Part, adafactor, adamw, assign, check_parts
    from promot_jax.training.reference import Penalty, Reference, fisher
    from promot_jax.training.step import State, begin, gradients, thaw, train_step
    from promot_jax.training.transforms import half_reset, lines, wise_ft

__all__ = [
    "Bar",
    "Checkpoints",
    "Diverged",
    "Filter",
    "Finch",
    "HalfFrozen",
    "Interrupted",
    "MetricsLog",
    "Mofo",
    "Part",
    "Penalty",
    "Plan",
    "Pull",
    "Reference",
    "State",
    "adafactor",
    "adamw",
    "assign",
    "begin",
    "check_batch",
    "check_parts",
    "digest",
    "fisher",
    "gradients",
    "half_reset",
    "lines",
    "local_rows",
    "make_mesh",
    "place_batch",
    "replicated",
    "shardings",
    "stop_requests",
    "thaw",
    "train",
    "train_step",
    "use",
    "wise_ft",
]
