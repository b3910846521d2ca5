"""The one door to TensorFlow (`tf`) and its legacy Keras (tf_keras, as `keras`).

QKeras and the TensorFlow Model Optimization toolkit are written for Keras 2. TensorFlow
decides at its own import which Keras `tf.keras` is, so the choice has to be made before.

Raises (at import):
    MissingDependencyError: tensorflow or tf_keras is not installed.
    UsageError: TensorFlow was imported earlier, with Keras 3 as tf.keras.
"""

from __future__ import annotations

import importlib
import os

from keras_quant.errors import MissingDependencyError, UsageError
from keras_quant.quiet import native_logs_hidden

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

try:
    with native_logs_hidden():
        import tensorflow as tf
        import tf_keras as keras

        # As QKeras does: it turns tf.keras into Keras 3 where it can, which the check below finds.
        importlib.import_module("tensorflow.keras.layers")
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"{error.name} is not installed; this part of keras_quant needs TensorFlow and its "
        "Keras 2: pip install tensorflow tf_keras"
    ) from error

if tf.keras.layers.Layer is not keras.layers.Layer:
    raise UsageError(
        "TensorFlow was imported before keras_quant, with Keras 3 as tf.keras; keras_quant "
        "needs Keras 2 (tf_keras): import keras_quant.tf first, or set the environment "
        "variable TF_USE_LEGACY_KERAS=1 before Python starts"
    )

# Layers such as Dropout then keep their random stream in a variable, which can be set back.
keras.backend.experimental.enable_tf_random_generator()


def use_threads(count: int) -> None:
    """Sets how many threads TensorFlow's operations share.

    Args:
        count: 0 leaves it as it is, which is one thread a core unless someone set it.
    Raises:
        UsageError: TensorFlow has computed something in this process already, with another number.
    """
    threading = tf.config.threading
    if count in (0, threading.get_intra_op_parallelism_threads()):
        return
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise UsageError(
            f"{count} threads: TensorFlow is at work in this process already, and takes no other "
            "number then. Ask for them before anything is computed, or in a process of its own"
        ) from error


__all__ = ["keras", "tf", "use_threads"]
