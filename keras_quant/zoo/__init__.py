"""Models by name. TensorFlow is loaded when one is built."""

from __future__ import annotations

from keras_quant.zoo.catalog import MODELS, ModelInfo, Option
from keras_quant.zoo.construct import build

__all__ = ["MODELS", "ModelInfo", "Option", "build"]
