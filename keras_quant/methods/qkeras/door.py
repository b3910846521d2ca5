"""The one door to `qkeras`, behind that to TensorFlow: it is written for the Keras chosen there.

Raises (at import):
    MissingDependencyError: qkeras is not installed.
"""

from __future__ import annotations

from typing import Any

import keras_quant.tf  # noqa: F401  (first: it chooses the Keras that QKeras finds)
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
    """The module of AutoQKeras, which imports a tuner and takes a second.

    Raises:
        MissingDependencyError: Keras Tuner is not installed.
    """
    try:
        import qkeras.autoqkeras
    except ImportError as error:
        raise MissingDependencyError(
            f"AutoQKeras cannot be imported ({error}): pip install keras-tuner"
        ) from error
    return qkeras.autoqkeras
