"""The one door to TF-MOT, behind that to TensorFlow: it is written for the Keras chosen there.

Raises (at import):
    MissingDependencyError: tensorflow-model-optimization is not installed.
"""

from __future__ import annotations

import keras_quant.tf  # noqa: F401  (first: it chooses the Keras that TF-MOT finds)
from keras_quant.errors import MissingDependencyError
from keras_quant.quiet import native_logs_hidden

try:
    with native_logs_hidden():
        import tensorflow_model_optimization as tfmot
        from tensorflow_model_optimization.python.core.quantization.keras import (
            quantize_aware_activation,
            quantize_layer,
            quantize_wrapper,
            quantizers,
        )
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"{error.name} is not installed; the method tfmot needs it: "
        "pip install tensorflow-model-optimization"
    ) from error

__all__ = [
    "quantize_aware_activation",
    "quantize_layer",
    "quantize_wrapper",
    "quantizers",
    "tfmot",
]
