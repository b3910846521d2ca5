"""Models by name, and the user's own. TensorFlow is loaded when one is built."""

from __future__ import annotations

from keras_quant.zoo.catalog import MODELS, ModelInfo, Option
from keras_quant.zoo.construct import build
from keras_quant.zoo.user import build_from_file

__all__ = ["MODELS", "ModelInfo", "Option", "build", "build_from_file"]
