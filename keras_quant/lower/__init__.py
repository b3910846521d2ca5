"""Lowering: from a quantized Keras model to the integer graph, and snapping its biases.

Needs TensorFlow, as all that reads Keras models.
"""

from __future__ import annotations

from keras_quant.lower.lower import lower
from keras_quant.lower.snap import Snap, lower_exactly

__all__ = ["Snap", "lower", "lower_exactly"]
