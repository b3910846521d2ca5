"""A network of the zoo, fake-quantized as `kq train` does it, but not trained.

Importing this module repairs QKeras' classes for the whole process (methods.qkeras.repair).
"""

from __future__ import annotations

import numpy as np

from keras_quant.calibration.calibrate import calibrate
from keras_quant.methods import load_method
from keras_quant.pixels import normalize, pixel_grid
from keras_quant.prepare import plan, with_steps, wrap
from keras_quant.preprocessing import UNIT
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.tf import keras


def fake_quantized(source: keras.Model, bits: str, images: np.ndarray) -> keras.Model:
    """Calibrates and wraps a float model.

    Args:
        bits: as of `kq train --bits`.
        images: uint8 (images, height, width, channels) to calibrate on.
    """
    reals = normalize(images, UNIT)
    planned = plan(source, scheme_from_bits(bits))
    planned = with_steps(planned, calibrate(planned, source, reals, fresh=False))
    grid = pixel_grid(UNIT, images.shape[-1])
    return wrap(planned, source, load_method("qkeras"), grid)
