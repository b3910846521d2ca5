"""Quantization workbench for TensorFlow/Keras: train, lower to exact integers, export, prove.

The names below are the library's public ones. Each is imported when it is first used, so that
`import keras_quant` loads neither TensorFlow nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_quant.version import __version__

if TYPE_CHECKING:
    from keras_quant.calibration.collect import collect
    from keras_quant.calibration.quantize import quantize
    from keras_quant.data import load_dataset
    from keras_quant.errors import KerasQuantError
    from keras_quant.jobs.evaluate import evaluate
    from keras_quant.jobs.train import train
    from keras_quant.jobs.train_settings import TrainSettings
    from keras_quant.lower import lower_exactly
    from keras_quant.model.files import load_model, save_model
    from keras_quant.prepare import plan
    from keras_quant.proof.formats import FORMATS
    from keras_quant.proof.parity import prove
    from keras_quant.schemes.bits import scheme_from_bits
    from keras_quant.schemes.file import load_scheme
    from keras_quant.zoo import build

__all__ = [
    "FORMATS",
    "KerasQuantError",
    "TrainSettings",
    "__version__",
    "build",
    "collect",
    "evaluate",
    "load_dataset",
    "load_model",
    "load_scheme",
    "lower_exactly",
    "plan",
    "prove",
    "quantize",
    "save_model",
    "scheme_from_bits",
    "train",
]

_HOMES = {
    "FORMATS": "keras_quant.proof.formats",
    "KerasQuantError": "keras_quant.errors",
    "TrainSettings": "keras_quant.jobs.train_settings",
    "build": "keras_quant.zoo",
    "collect": "keras_quant.calibration.collect",
    "evaluate": "keras_quant.jobs.evaluate",
    "load_dataset": "keras_quant.data",
    "load_model": "keras_quant.model.files",
    "load_scheme": "keras_quant.schemes.file",
    "lower_exactly": "keras_quant.lower",
    "plan": "keras_quant.prepare",
    "prove": "keras_quant.proof.parity",
    "quantize": "keras_quant.calibration.quantize",
    "save_model": "keras_quant.model.files",
    "scheme_from_bits": "keras_quant.schemes.bits",
    "train": "keras_quant.jobs.train",
}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
