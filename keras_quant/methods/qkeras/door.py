"""The one door to `qkeras`, behind that to TensorFlow: it is written for the Keras chosen there.

Raises (at import):
    MissingDependencyError: qkeras is not installed.
"""

from __future__ import annotations

import sys
from typing import Any

import keras_quant.tf  # first: it chooses the Keras that QKeras finds
from keras_quant.errors import MissingDependencyError
from keras_quant.quiet import native_logs_hidden

try:
    with native_logs_hidden():
        import qkeras
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"{error.name} is not installed; the method qkeras needs it: pip install qkeras"
    ) from error

__all__ = ["load_autoqkeras", "qkeras"]


def load_autoqkeras() -> Any:
    """The module of AutoQKeras.

    Its tuner asks the module `keras` which Keras it is to work with, and finds Keras 3, of which
    models of QKeras' layers are none; while it is imported, that name means the Keras chosen here.

    Raises:
        MissingDependencyError: Keras Tuner is not installed, or TensorBoard, which it imports for
            each trial.
    """
    found = sys.modules.get("keras")
    sys.modules["keras"] = keras_quant.tf.keras
    try:
        import qkeras.autoqkeras
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"AutoQKeras does not run here ({error}): "
            "pip install keras-tuner 'keras_quant[tensorboard]'; or leave out --engine autoqkeras"
        ) from error
    finally:
        del sys.modules["keras"]
        if found is not None:
            sys.modules["keras"] = found
    return qkeras.autoqkeras
