"""SeqIO and TensorFlow, kept quiet and away from the accelerators.

Whatever of this project needs them gets them here, and only then: they take seconds to start and
half a gigabyte of memory, which answering and converting do without.
"""

import os

from promot_jax.process import without_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with without_stderr():  # the start-up chatter of TensorFlow's C++ part
    import seqio  # brings in the rest of TensorFlow
    import tensorflow as tf
    import tensorflow_datasets as tfds

    # TensorFlow would otherwise reserve the accelerator memory that JAX needs.
    tf.config.set_visible_devices([], "GPU")
    tfds.disable_progress_bar()  # its bars go to stdout

__all__ = ["seqio", "tf"]
