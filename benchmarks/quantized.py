"""A network of the zoo, fake-quantized as `kq train` does it, but not trained.

Importing this module repairs QKeras' classes for the whole process (methods.qkeras.repair).
"""

from __future__ import annotations

import numpy as np

from keras_quant.calibration.collect import collect
from keras_quant.calibration.quantize import quantize
from keras_quant.data import normalize
from keras_quant.prepare import plan
from keras_quant.qparams import unsigned
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.tf import keras


def fake_quantized(source: keras.Model, bits: str, images: np.ndarray) -> keras.Model:
    """Calibrates and wraps a float model.

    Args:
        bits: as of `kq train --bits`.
        images: uint8 (images, height, width, channels) to calibrate on.
    """
    scheme = scheme_from_bits(bits)
    pixels = unsigned(8, 1 / 255)
    statistics = collect(plan(source, scheme), source, images, reals=normalize, pixels=pixels)
    return quantize(source, scheme, statistics)
