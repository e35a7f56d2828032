"""SeqIO and TensorFlow, kept quiet and away from the accelerators.

Whatever of this project needs them gets them here, and only then: they take seconds to start and
half a gigabyte of memory, which answering and converting do without.
"""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Start-up chatter of TensorFlow's C++ part, which no setting of its own turns off."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _without_stderr():
    import seqio  # brings in the rest of TensorFlow
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # TensorFlow would otherwise reserve the accelerator memory that JAX needs.
    tf.config.set_visible_devices([], "GPU")
    tfds.disable_progress_bar()  # its bars go to stdout

__all__ = ["seqio", "tf"]
